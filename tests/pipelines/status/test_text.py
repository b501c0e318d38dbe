"""Ten lines, whatever the state."""

import pytest

from pipelines.graph import Stage
from pipelines.status.costs import Cost
from pipelines.status.state import Reason, StageState, Status, as_json
from pipelines.status.text import all_lines, as_lines, shown_seconds


def state(name: str, *reasons: Reason, after: tuple[str, ...] = (), is_in_cache: bool = False) -> StageState:
    return StageState(Stage(name, after, ()), reasons, after, is_in_cache)


EVERYTHING = Status(
    presets=("demo",),
    stages=(
        state("tokenize"),
        state(
            "pretrain",
            Reason("params", ("schedule.iterations 700 -> 800",)),
            Reason("code", ("a.py", "b.py")),
        ),
        state("select", after=("pretrain",)),
        state("voc07@virtex", Reason("never run"), after=("select",)),
        state("lmdb@val", Reason("outputs", ("val.lmdb is missing",)), is_in_cache=True),
    ),
    costs={"pretrain": Cost(200.0, True), "select": Cost(30.0, True)},
    last_run={"tokenize": "ran", "pretrain": "failed"},
    last_run_time=0.0,
    at_work=("pretrain",),
)


def test_each_line_says_one_thing():
    lines = as_lines(EVERYTHING, 200)
    assert lines[0] == "params.yaml  preset demo"
    assert lines[1].startswith("last run     19")
    assert lines[1].endswith("1 ran, 1 failed (pretrain)")
    assert lines[2:] == [
        "at work      pretrain",
        "up to date   1 of 5",
        "stale        pretrain: params schedule.iterations 700 -> 800, code a.py, b.py",
        "stale        lmdb@val: outputs val.lmdb is missing",
        "never run    voc07@virtex",
        "after these  select",
        "cost         1 of 4 are in DVC's cache; about 4 min (pretrain 3 min, select 30 s); "
        "unknown for voc07@virtex",
    ]


@pytest.mark.parametrize("width", [40, 80])
def test_ten_lines_of_the_terminals_width(width):
    many = tuple(state(f"stage{n}", Reason("params", (f"section.key{n} 0 -> 1",))) for n in range(30))
    status = Status(("demo",), (*EVERYTHING.stages, *many), {}, None, {"a": "ran"}, 0.0, ("a",) * 30)
    lines = as_lines(status, width)
    assert len(lines) == 10
    assert max(map(len, lines)) <= width
    assert any("virtex status --all"[: width - 40] in line for line in lines)


def test_times_of_other_parameters_are_no_promise():
    stages = (state("a", Reason("params", ("x 1 -> 2",))), state("b", after=("a",)))
    status = Status((), stages, {"a": Cost(10, False), "b": Cost(20, True)})
    assert as_lines(status, 200)[-1] == "cost         with other parameters it took 30 s (b 20 s, a 10 s)"
    assert not status.comparable()


def test_nothing_to_do_costs_nothing():
    lines = as_lines(Status((), (state("a"),), {}), 80)
    assert lines == ["params.yaml  parameters of your own", "up to date   1 of 1"]


def test_a_store_that_is_away():
    status = Status((), (state("a", Reason("command")),), {}, costs_unknown="ConnectionError: refused")
    assert as_lines(status, 200)[-2:] == [
        "stale        a: its command",
        "cost         time unknown, MLflow does not tell: ConnectionError: refused",
    ]


def test_all_and_json():
    assert all_lines(EVERYTHING)[3] == "voc07@virtex  never run; after select [time unknown]"
    assert all_lines(EVERYTHING)[4].endswith("[in DVC's cache]")
    by_name = {entry["stage"]: entry for entry in as_json(EVERYTHING)["stages"]}
    assert by_name["pretrain"]["seconds"] == 200.0
    assert by_name["pretrain"]["seconds_comparable"]
    assert by_name["voc07@virtex"]["seconds"] is None
    assert not by_name["tokenize"]["stale"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (3600, "60 min"), (9000, "2.5 h")]
)
def test_shown_seconds(seconds, text):
    assert shown_seconds(seconds) == text
