from components.bench.stream import COLD, QUICK, TARS, run


def test_tars_stand_beside_the_store_and_each_is_fetched_once() -> None:
    size = QUICK.__class__(images=TARS + 2, height=48, width=64, crop_size=32, batch=4, batches=2)
    rows = run(size, rounds=1)
    assert len({row.name for row in rows}) == 3
    assert all(row.baseline == rows[0].baseline for row in rows)
    (cold,) = (row for row in rows if row.name.endswith(COLD))
    assert 1 <= cold.figures["fetched"] <= TARS
