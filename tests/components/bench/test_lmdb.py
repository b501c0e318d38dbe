from components.bench.lmdb import QUICK, run


def test_both_sides_build_what_they_should() -> None:
    rows = run(QUICK, rounds=1)
    assert [row.name.split("keeping ")[1] for row in rows] == [
        "the files' bytes",
        "pixels",
        "JPEG of shorter side 32",
        "pixels of shorter side 32",
    ]
    pixels = QUICK.height * QUICK.width * 3 / 1e3
    assert all(row.units == QUICK.images for row in rows)
    assert all(row.figures["kB per image of the baseline"] > pixels for row in rows[:2])
    assert rows[1].figures["kB per image of ours"] > pixels
