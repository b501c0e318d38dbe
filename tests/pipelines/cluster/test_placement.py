"""What is reserved on a machine for a stage."""

import pytest

from pipelines.cluster.placement import demands
from pipelines.stage_meta import StageMeta

LAPTOP = {"GPU": 0.0, "CPU": 4.0, "MEMORY": 1.0}
SERVER = {"GPU": 8.0, "CPU": 64.0, "MEMORY": 1.0}


@pytest.mark.parametrize(
    ("meta", "machines", "reserved"),
    [
        ({}, [LAPTOP, SERVER], {"CPU": 1}),
        ({"gpus": 1}, [LAPTOP, SERVER], {"GPU": 1, "CPU": 1}),
        ({"gpus": 1}, [LAPTOP], {"CPU": 1}),  # a cluster without GPUs runs it without
        ({"gpus": "all", "cpus": "all"}, [SERVER, LAPTOP], {"GPU": 8, "CPU": 64}),
        ({"cpus": "all"}, [LAPTOP, SERVER], {"CPU": 64}),
        ({"cpus": 16}, [LAPTOP], {"CPU": 4}),  # as much as there is
        ({"memory_heavy": True}, [LAPTOP], {"CPU": 1, "MEMORY": 1}),
        ({"gpus": 2}, [], {}),
    ],
)
def test_demands(meta, machines, reserved):
    assert demands(StageMeta(**meta), machines) == reserved
