from components.bench.lmdb import QUICK, run


def test_both_sides_build_what_they_should() -> None:
    kept, resized = run(QUICK, rounds=1)
    assert kept.units == QUICK.images
    assert kept.figures["kB an image of the baseline"] > QUICK.height * QUICK.width * 3 / 1e3
    assert resized.name.endswith("shorter side 32")
