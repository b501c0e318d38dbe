import json
import subprocess
import sys

import pytest

from components.bench.timing import Comparison, Spread, Times, as_json, as_table, hardware, in_turn, is_met


def test_spread_is_median_and_quartiles() -> None:
    assert Spread.of([5.0, 1.0, 3.0, 2.0, 4.0]) == Spread(3.0, 2.0, 4.0)


def test_sides_take_turns_and_warm_up_does_not_count() -> None:
    calls: list[str] = []
    times = in_turn((lambda: calls.append("a"), lambda: calls.append("b")), rounds=3, warm_up=1)
    assert "".join(calls) == "ba" + "ab" + "ba" + "ab"
    assert [len(side.wall) for side in times] == [3, 3]
    assert [len(side.cpu) for side in times] == [3, 3]


def test_processor_time_counts_children_and_not_waiting() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    idle = "import time; time.sleep(0.3)"
    works = [
        lambda code=code: subprocess.run([sys.executable, "-c", code], check=True) for code in (burn, idle)
    ]
    busy, waiting = in_turn(works, rounds=1, warm_up=0)
    assert busy.cpu[0] > 0.25
    assert waiting.cpu[0] < waiting.wall[0]
    assert busy.cpu[0] > waiting.cpu[0] + 0.1


@pytest.mark.parametrize(("clock", "ratio", "rate"), [("wall", 4.0, 10.0), ("cpu", 2.0, 20.0)])
def test_ratio_is_of_rounds_by_the_chosen_clock(clock, ratio: float, rate: float) -> None:
    row = Comparison("x", 20, "images", clock, Times([4.0, 8.0], [1.0, 2.0]), Times([1.0, 2.0], [0.5, 1.0]))
    assert row.ratio() == Spread(ratio, ratio, ratio)
    row = Comparison("x", 20, "images", clock, Times([2.0], [1.0]), Times([1.0], [1.0]))
    assert row.rate(row.baseline).median == rate


def row(target: float | None) -> Comparison:
    times = Times([3.0, 3.0], [6.0, 6.0]), Times([1.0, 1.0], [2.0, 2.0])
    return Comparison(
        "search", 6, "images", "wall", *times, target=target, figures={"same captions": "2 of 2"}
    )


def test_table_has_both_sides_the_ratio_and_the_verdict() -> None:
    table = as_table([row(2.5), row(3.5), row(None)])
    assert "| search | images/s | 2 (2 to 2) | 6 (6 to 6) | 3x (3x to 3x) | 2.5x: met |" in table
    assert "3.5x: missed" in table
    assert not {"met", "missed"} & set(as_table([row(2.5), row(3.5)], has_verdicts=False).split())
    assert "search: same captions 2 of 2" in table
    assert [is_met(row(target)) for target in (2.5, 3.5, None)] == [True, False, True]


def test_json_keeps_every_round_and_the_machine() -> None:
    machine = hardware()
    value = json.loads(json.dumps(as_json("decode", True, machine, [row(2.0)])))
    assert value["comparisons"][0]["baseline"]["cpu"] == [6.0, 6.0]
    assert value["comparisons"][0]["ratio"]["median"] == 3.0
    assert machine["cores"] >= 1
    assert machine["versions"]["torch"]
