"""Which stages the rows of a family share."""

import pytest
from ruamel.yaml import YAML

from components.params.families import FamilyRow
from pipelines.graph import Plan, Stage
from pipelines.ready_rows import shared_stages
from pipelines.row import ReadyRow

STAGES = (
    Stage("download", (), (), params=("download",)),
    Stage("tokenize", ("download",), (), params=("tokenize", "textual_head.max_caption_length")),
    Stage("pretrain", ("tokenize",), (), params=("textual_head", "objective")),
    Stage("export", ("pretrain",), ()),
    Stage("baseline@random", (), (), params=("baseline.seed", "backbone")),
)


@pytest.mark.parametrize(
    ("key", "shared"),
    [
        ("objective.name", ["download", "tokenize", "baseline@random"]),
        ("textual_head.hidden_size", ["download", "tokenize", "baseline@random"]),
        ("textual_head.max_caption_length", ["download", "baseline@random"]),
        ("backbone.name", ["download", "tokenize", "pretrain", "export"]),
        ("download.drawn_world.seed", ["baseline@random"]),
        ("voc07.folds", [stage.name for stage in STAGES]),
    ],
)
def test_shared_stages(tmp_path, key, shared):
    rows = []
    for value in (1, 2):
        workspace = tmp_path / str(value)
        workspace.mkdir()
        tree = value
        for part in reversed(key.split(".")):
            tree = {part: tree}
        YAML().dump({"lmdb": {"short_side": None}, **tree}, workspace / "params.yaml")
        rows.append(ReadyRow(FamilyRow(str(value), ""), workspace, Plan(STAGES, frozenset())))
    assert shared_stages(rows) == shared


def test_a_stage_that_only_one_row_has_is_not_shared(tmp_path):
    (tmp_path / "params.yaml").write_text("{}\n")
    plans = (Plan(STAGES, frozenset()), Plan(STAGES[:1], frozenset()))
    rows = [ReadyRow(FamilyRow(str(i), ""), tmp_path, plan) for i, plan in enumerate(plans)]
    assert shared_stages(rows) == ["download"]
