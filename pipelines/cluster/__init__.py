"""Stages on other machines: Dask places them, the DVC remote carries their files.

The flow stays on one machine, with its Prefect tasks, its MLflow run and dvc.lock. What a task hands to Dask
is one stage. Not through prefect-dask: there a task whose worker crashes may stay RUNNING or be run again
after it has ended (PrefectHQ/prefect issues 15442 and 21638), every worker needs Prefect's server, and a
cancelled flow cannot stop what its tasks have started.

``worker`` is the side of the worker, ``workers`` and ``runner`` that of the flow; ``job`` is what travels,
``requirements`` what all of them must have. The rest of pipelines imports this package only when asked for.
"""
