import cv2
import lmdb
import msgpack
import numpy as np

from components.bench.drawn import draw_photographs
from components.bench.lmdb import QUICK, build_plainly, run
from components.data.image import decode, resize_short_side


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


def test_the_plain_builder_keeps_jpegs_where_ours_does(tmp_path) -> None:
    images = draw_photographs(tmp_path, 2, 480, 640)
    kept = []
    for quality in (95, None):
        build_plainly(tmp_path / "plain.lmdb", images, 256, quality)
        with lmdb.open(str(tmp_path / "plain.lmdb"), subdir=False) as store, store.begin() as reading:
            kept.append(msgpack.unpackb(reading.get(b"1")))
    (name, shape, jpeg, captions), (_, _, pixels, _) = kept
    assert (name, shape, captions) == (images[1].image_id, [256, 341, 3], list(images[1].captions))
    plain = np.frombuffer(pixels, np.uint8).reshape(shape)
    np.testing.assert_allclose(decode(jpeg).astype(float), plain, atol=24)
    assert jpeg[:2] == b"\xff\xd8"
    assert len(jpeg) < len(pixels) / 4
    ours = resize_short_side(decode(images[1].path.read_bytes()), 256)
    assert cv2.PSNR(plain, ours) > 40
