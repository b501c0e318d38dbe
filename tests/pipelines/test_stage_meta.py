"""What dvc.yaml may say about running a stage."""

import pytest

from components.core.errors import InputError
from pipelines.graph import NO_META, StageMeta, read_meta


def test_all_of_it():
    written = {"gpus": "all", "memory_heavy": True, "deadline": "1.5h", "retries": 2, "retry_delay": "10 s"}
    meta = read_meta("a", {**written, "may_fail": True, "tags": ["x"]})
    assert meta == StageMeta(
        gpus="all",
        memory_heavy=True,
        deadline="5400s",
        retries=2,
        retry_delay="10s",
        may_fail=True,
        tags=("x",),
    )
    assert meta.deadline == 5400
    assert read_meta("a", None) == NO_META


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"deadline": 60}, "stage a: meta.deadline: expected a time with its unit.*found 60"),
        ({"deadline": "0s"}, "meta.deadline: expected a time"),
        ({"retries": -1}, "meta.retries: .*greater than or equal to 0"),
        ({"gpus": "some"}, "meta.gpus: "),
        ({"may_fail": "no"}, "meta.may_fail: "),
        ({"timeout": "5s"}, "meta.timeout: unknown key"),
        ({"deadlin": "5s"}, "did you mean `deadline`"),
    ],
)
def test_refusals(written, message):
    with pytest.raises(InputError, match=message):
        read_meta("a", written)
