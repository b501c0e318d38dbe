"""MLflow for a stage: one run per stage that really ran, nested below its pipeline run.

The tracking server is never allowed to stop a training: when it is away this says so once, goes on,
and the figures stay in the stage's own files (``metrics.json`` and its CSVs in the output folder).
Importing this package does not import mlflow (about two seconds); entering ``stage_run`` does.
"""

from components.tracking.datasets import UsedDataset, used_splits
from components.tracking.models import ModelCandidate
from components.tracking.run import StageRun, stage_run

__all__ = ["ModelCandidate", "StageRun", "UsedDataset", "stage_run", "used_splits"]
