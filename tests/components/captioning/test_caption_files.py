import os
from functools import partial
from pathlib import Path

import pytest
import torch

from components.captioning.caption_files import caption_files, find_photographs, read_photographs
from components.captioning.captioner import Captioner
from components.core.errors import InputError
from components.data.image import decode
from components.data.transforms import EvalTransform
from components.sources.image_files import SUFFIXES


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


def captioner_image(captioner: Captioner, path: Path) -> torch.Tensor:
    return captioner.transform(decode(path.read_bytes())).unsqueeze(0)


def test_folders_are_searched_in_order_and_hidden_files_passed_over(photographs: Path) -> None:
    found = find_photographs([photographs / "notes.txt", photographs, photographs / "a.png"])
    names = [str(path.relative_to(photographs)) for path in found]
    assert names == ["notes.txt", "a.png", "b.JPG", "sub/a.png", "sub/broken.jpg"]


def test_every_ending_and_links_but_no_companions(tmp_path: Path) -> None:
    names = [f"a{suffix}" for suffix in SUFFIXES]
    for name in (*names, "B.JFIF", "._a.jpg", "@eaDir/a.jpg", "__MACOSX/a.jpg", "x.txt"):
        path = tmp_path / "photographs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "c.jpg").touch()
    (tmp_path / "photographs" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "photographs")
    found = find_photographs([tmp_path / "photographs"])
    assert sorted(path.name for path in found) == sorted([*names, "B.JFIF", "c.jpg"])


def test_places_without_images(photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: no image in this folder"):
        find_photographs([photographs, tmp_path / "empty"])
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        find_photographs([photographs, tmp_path / "nowhere"])


@pytest.mark.parametrize("batch_size", [1, 2, 10])
def test_what_is_no_image_stops_nothing(photographs: Path, batch_size: int) -> None:
    files = [*find_photographs([photographs / "notes.txt", photographs]), photographs / "gone.png"]
    transform = EvalTransform(32, 32)
    batches = list(read_photographs(files, transform, batch_size=batch_size, num_threads=2))
    assert [path for batch in batches for path in batch.paths] == files
    assert [path.name for batch in batches for path in batch.readable] == ["a.png", "b.JPG", "a.png"]
    images = torch.cat([batch.images for batch in batches if batch.images is not None])
    assert images.shape == (3, 3, 32, 32)
    assert not torch.equal(images[0], images[2]), "each file has its own pixels"
    errors = {path.name: reason for batch in batches for path, reason in batch.errors.items()}
    assert errors.keys() == {"notes.txt", "broken.jpg", "gone.png"}
    assert "not an image" in errors["notes.txt"]
    assert "No such file" in errors["gone.png"]
    assert all(len(batch.readable) == (0 if batch.images is None else len(batch.images)) for batch in batches)
