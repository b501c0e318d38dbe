from pathlib import Path

import pytest
import torch

from components.captioning.photographs import find_photographs, read_photographs
from components.core.errors import InputError
from components.core.image_files import SUFFIXES
from components.data.transforms import EvalTransform


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
