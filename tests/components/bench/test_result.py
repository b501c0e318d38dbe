import json

from components.bench.result import as_json, as_table, hardware, is_met
from components.bench.timing import Comparison, Times


def row(target: float | None) -> Comparison:
    times = Times([3.0, 3.0], [6.0, 6.0]), Times([1.0, 1.0], [2.0, 2.0])
    return Comparison(
        "search", 6, "images", "wall", *times, target=target, figures={"same captions": "2 of 2"}
    )


def test_table_has_both_sides_the_ratio_and_the_verdict() -> None:
    table = as_table([row(2.5), row(3.5), row(None)])
    assert "| search | images/s | 2 (2 to 2) | 6 (6 to 6) | 3x (3x to 3x) | 2.5x: met |" in table
    assert "3.5x: missed" in table
    assert "search: same captions 2 of 2" in table
    assert [is_met(row(target)) for target in (2.5, 3.5, None)] == [True, False, True]


def test_json_keeps_every_round_and_the_machine() -> None:
    machine = hardware()
    value = json.loads(json.dumps(as_json("decode", True, machine, [row(2.0)])))
    assert value["comparisons"][0]["baseline"]["cpu"] == [6.0, 6.0]
    assert value["comparisons"][0]["ratio"]["median"] == 3.0
    assert machine["cores"] >= 1
    assert machine["versions"]["torch"]
