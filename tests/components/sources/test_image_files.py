from pathlib import Path, PurePath

import pytest
from PIL import Image

from components.core.errors import InputError
from components.sources.image_files import DECODABLE, UNDECODABLE, has_companion, is_companion, is_image, walk


def test_what_is_called_decodable_is() -> None:
    Image.init()
    readable = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    assert set(DECODABLE) <= readable
    assert not set(UNDECODABLE) & readable


@pytest.mark.parametrize("name", ["a.jpg", "A.JFIF", "b.c.Avif", "x.HEIC", "y.pgm"])
def test_images(name: str) -> None:
    assert is_image(name)
    assert not is_image(f"{name}.txt")


def test_companions() -> None:
    assert all(
        map(is_companion, ("._x.jpg", ".DS_Store", ".ipynb_checkpoints", "@eaDir", "__MACOSX", "Thumbs.db"))
    )
    assert not any(map(is_companion, ("x.jpg", "_x.jpg", "n01440764", "@home")))
    assert has_companion(PurePath("a/.thumbnails/x.jpg"))
    assert not has_companion(PurePath("./a/../x.jpg"))


def test_walking_follows_links_and_ends_loops(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "z" / "deep").mkdir(parents=True)
    (root / ".hidden").mkdir()
    (tmp_path / "far").mkdir()
    for path in (root / "b.jpg", root / "._b.jpg", root / "z" / "deep" / "c.jpg", tmp_path / "far" / "d.jpg"):
        path.touch()
    (root / "a_link").symlink_to("z")
    (root / "z" / "up").symlink_to(root)
    (root / "z" / "out").symlink_to(tmp_path)
    (root / "z" / "far").symlink_to(tmp_path / "far")
    (tmp_path / "far" / "back").symlink_to(root)
    (root / "nowhere").symlink_to("gone")
    passed: list[tuple[str, str]] = []
    found = list(walk(root, lambda reason, path: passed.append((reason[:6], str(path.relative_to(root))))))
    assert [(str(folder.relative_to(root)), names) for folder, names in found] == [
        (".", ["b.jpg", "nowhere"]), ("z", []), ("z/deep", ["c.jpg"]), ("z/far", ["d.jpg"])
    ]  # fmt: skip
    assert passed == [
        ("hidden", "._b.jpg"), ("hidden", ".hidden"), ("links ", "a_link"), ("links ", "z/out"),
        ("links ", "z/up"), ("links ", "z/far/back"),
    ]  # fmt: skip


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: object) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(InputError, match=r"cannot be read \(Permission denied\)"):
        list(walk(tmp_path))
