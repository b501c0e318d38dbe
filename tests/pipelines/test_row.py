"""The environment that the process of a row of a family gets."""

import pytest

from components.params.families import chosen_family
from pipelines.experiments import FamilyRun
from pipelines.process import Stop
from pipelines.row import RowRunner


@pytest.mark.parametrize(
    ("at_once", "given", "workers", "threads"),
    [(2, None, "2", "2"), (3, None, "1", "1"), (1, None, "4", None), (2, "1", "2", "1")],
)
def test_rows_side_by_side_have_their_share_of_the_cores(
    tmp_path, monkeypatch, at_once, given, workers, threads
):
    monkeypatch.setenv("VIRTEX_NUM_WORKERS", "4")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    run = FamilyRun(tmp_path, chosen_family("tasks"), at_once=at_once)
    told = RowRunner(run, {}, Stop())._environment("tasks/captioning")
    assert (told["VIRTEX_NUM_WORKERS"], told.get("OMP_NUM_THREADS")) == (workers, threads)
