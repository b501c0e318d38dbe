import os
from functools import partial
from pathlib import Path

import pytest

from components.captioning.caption_files import caption_files
from components.captioning.captioner import Captioner
from components.captioning.photographs import find_photographs


@pytest.mark.parametrize("batch_size", [1, 3])
def test_results_come_in_order_with_a_picture_each(
    captioner: Captioner, photographs: Path, tmp_path: Path, batch_size: int
) -> None:
    files = find_photographs([photographs / "sub", photographs])
    results = list(
        caption_files(
            captioner,
            files,
            partial(captioner.search, num_captions=2),
            batch_size=batch_size,
            num_threads=1,
            attention_dir=tmp_path / "looks",
        )
    )
    assert [result.path for result in results] == files
    assert [result.attention.name if result.attention else None for result in results] == [
        "a.png", None, "a-2.png", "b.png"
    ]  # fmt: skip
    assert {path.name for path in (tmp_path / "looks").iterdir()} == {"a.png", "a-2.png", "b.png"}
    for result in results:
        assert len(result.captions) == (0 if result.error else 2)
    assert [result.path.name for result in results if result.error] == ["broken.jpg"]


def test_a_picture_never_takes_the_place_of_a_photograph(captioner: Captioner, photographs: Path) -> None:
    path = photographs / "a.png"
    before = path.read_bytes()
    (result,) = caption_files(
        captioner, [path], captioner.search, batch_size=1, num_threads=1, attention_dir=photographs
    )
    assert result.attention == photographs / "a-2.png"
    assert path.read_bytes() == before


def test_pictures_of_odd_and_long_names(captioner: Captioner, photographs: Path, tmp_path: Path) -> None:
    files = [photographs / "a.png"]
    for name in (b"caf\xe9.png", b"x" * 251 + b".png", b"x" * 250 + b"y.png"):
        files.append(Path(os.fsdecode(os.fsencode(photographs) + b"/" + name)))
        files[-1].write_bytes(files[0].read_bytes())
    looks = tmp_path / "looks"
    results = list(
        caption_files(captioner, files, captioner.search, batch_size=4, num_threads=1, attention_dir=looks)
    )
    assert [result.error for result in results] == [None] * 4
    found = [os.fsencode(result.attention.name) for result in results if result.attention]
    assert found == [b"a.png", b"caf\xe9.png", b"x" * 200 + b".png", b"x" * 200 + b"-2.png"]
    assert {os.fsencode(entry.name) for entry in looks.iterdir()} == set(found)


def test_no_picture_unless_asked(captioner: Captioner, photographs: Path) -> None:
    (result,) = caption_files(
        captioner, [photographs / "a.png"], captioner.search, batch_size=4, num_threads=1
    )
    assert result.attention is None
    assert result.captions == captioner.search(captioner_image(captioner, photographs / "a.png"))[0]


def captioner_image(captioner: Captioner, path: Path):
    from components.data.image import decode

    return captioner.transform(decode(path.read_bytes())).unsqueeze(0)
