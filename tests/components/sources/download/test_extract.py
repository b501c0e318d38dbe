import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from components.core.errors import InputError
from components.sources.download.extract import extract

ROOM = 10**6


def tar_of(path: Path, *members: tuple[str, bytes | tarfile.TarInfo], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members:
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                info.mode = 0o4777
                tar.addfile(info, io.BytesIO(content))
    return path


def special(name: str, kind: bytes, target: str = "") -> tuple[str, tarfile.TarInfo]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return name, info


def zip_of(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def files_below(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_tar(tmp_path: Path, mode: str) -> None:
    archive = tar_of(tmp_path / "a.tar", ("d/one.jpg", b"1"), ("./two", b"22"), mode=mode)
    counted: list[int] = []
    extract(archive, tmp_path / "out", ROOM, advance=counted.append)
    assert files_below(tmp_path / "out") == {"d/one.jpg": b"1", "two": b"22"}
    assert counted == [1, 2]
    assert stat.S_IMODE((tmp_path / "out/two").stat().st_mode) & 0o7133 == 0, "plain permissions"


def test_zip(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "a.tar", ("d/", b""), ("d/one.jpg", b"1" * 5000))
    extract(archive, tmp_path / "out", ROOM)
    assert files_below(tmp_path / "out") == {"d/one.jpg": b"1" * 5000}


def test_archives_inside_an_archive(tmp_path: Path) -> None:
    inner = tar_of(tmp_path / "n01.tar", ("n01_1.JPEG", b"x"), ("n01_2.JPEG", b"y"))
    outer = tar_of(tmp_path / "outer.tar", ("n01.tar", inner.read_bytes()))
    extract(outer, tmp_path / "out", ROOM, inner=True)
    assert files_below(tmp_path / "out") == {"n01/n01_1.JPEG": b"x", "n01/n01_2.JPEG": b"y"}


def test_a_tar_archive_that_ends_in_a_zip_archive_is_a_tar_archive(tmp_path: Path) -> None:
    last = zip_of(tmp_path / "z.zip", ("evil", b"x")).read_bytes()
    extract(tar_of(tmp_path / "a.tar", ("z.zip", last)), tmp_path / "out", ROOM)
    assert files_below(tmp_path / "out") == {"z.zip": last}


def test_a_hard_link_to_an_earlier_file_becomes_a_copy(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "a.tar", ("one", b"1"), special("two", tarfile.LNKTYPE, "one"))
    extract(archive, tmp_path / "out", ROOM)
    assert files_below(tmp_path / "out") == {"one": b"1", "two": b"1"}
    assert (tmp_path / "out/two").stat().st_nlink == 1


def _zip_link(path: Path) -> Path:
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return zip_of(path, (info, b"/etc/passwd"))


def _zip_encrypted(path: Path) -> Path:
    zip_of(path, ("one", b"1"))
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    return path


EVIL: dict[str, tuple[Callable[[Path], Path], str]] = {
    "tar climbs": (lambda p: tar_of(p, ("a/../../evil", b"x")), "leads out"),
    "tar absolute": (lambda p: tar_of(p, ("/tmp/evil", b"x")), "leads out"),
    "zip climbs": (lambda p: zip_of(p, ("../evil", b"x")), "leads out"),
    "zip absolute": (lambda p: zip_of(p, ("/evil", b"x")), "leads out"),
    "symbolic link": (lambda p: tar_of(p, special("a", tarfile.SYMTYPE, "..")), "link or a device"),
    "symbolic link inside": (lambda p: tar_of(p, special("a", tarfile.SYMTYPE, "b")), "link or a device"),
    "hard link out": (lambda p: tar_of(p, special("a", tarfile.LNKTYPE, "../../secret")), "leads out"),
    "hard link to nothing": (lambda p: tar_of(p, special("a", tarfile.LNKTYPE, "b")), "did not come before"),
    "device": (lambda p: tar_of(p, special("a", tarfile.CHRTYPE)), "link or a device"),
    "pipe": (lambda p: tar_of(p, special("a", tarfile.FIFOTYPE)), "link or a device"),
    "zip link": (_zip_link, "link or a device"),
    "zip encrypted": (_zip_encrypted, "encrypted"),
    "tar twice": (lambda p: tar_of(p, ("a", b"x"), ("a", b"y")), "twice"),
    "tar bomb": (lambda p: tar_of(p, ("a", bytes(ROOM + 1)), mode="w:gz"), "more than the"),
    "zip bomb": (lambda p: zip_of(p, ("a", bytes(ROOM // 2)), ("b", bytes(ROOM))), "more than the"),
}


@pytest.mark.parametrize("name", EVIL)
def test_what_must_not_come_out_does_not(tmp_path: Path, name: str) -> None:
    make, reason = EVIL[name]
    (tmp_path / "secret").write_bytes(b"s")
    archive = make(tmp_path / "a")
    out = tmp_path / "deep" / "out"
    with pytest.raises(InputError, match=reason):
        extract(archive, out, ROOM)
    assert {path.name for path in tmp_path.iterdir()} <= {"a", "secret", "deep"}
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


def test_a_zip_archive_that_lies_about_sizes_stops_at_what_it_declared(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "a.zip", ("a", bytes(500_000)))
    data = bytearray(archive.read_bytes())
    for magic, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.index(magic) + place
        data[at : at + 4] = (100).to_bytes(4, "little")
    archive.write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        extract(archive, tmp_path / "out", ROOM)
    assert sum(len(content) for content in files_below(tmp_path / "out").values()) <= 100


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_an_archive_without_files_is_refused(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    with pytest.raises(InputError, match="holds no file"):
        extract(make(tmp_path / "a"), tmp_path / "out", ROOM)


@pytest.mark.parametrize("make", [lambda path: None, Path.mkdir])
def test_no_archive_at_all(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "a")
    with pytest.raises(InputError, match="a: no such file"):
        extract(tmp_path / "a", tmp_path / "out", ROOM)


def test_lost_blocks_are_not_taken_for_padding(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "a.tar", ("a", b"x" * 9000), ("b", b"y" * 30_000))
    content = archive.read_bytes()
    archive.write_bytes(content[:9728] + bytes(len(content) - 9728))
    with pytest.raises(InputError, match="zeros from byte 9,728 on are no padding"):
        extract(archive, tmp_path / "out", ROOM)
    extract(tar_of(archive, ("a", b"x" * 9000)), tmp_path / "whole", ROOM)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("damage", ["header", "end", "rest"])
def test_a_damaged_tar_archive_is_not_taken_for_a_short_one(tmp_path: Path, mode: str, damage: str) -> None:
    """tarfile takes a damaged header for the end, and reads no checksum behind it."""
    members = [(name, os.urandom(3000)) for name in ("a", "b", "c")]
    plain = bytearray(tar_of(tmp_path / "plain.tar", *members).read_bytes())
    if damage == "header":
        plain[plain.rindex(b"ustar") - 200] ^= 1  # of the last member
    if damage == "end":
        del plain[3 * (512 + 3072) :]
    packed = {"w": bytes, "w:gz": gzip.compress, "w:bz2": bz2.compress, "w:xz": lzma.compress}[mode](plain)
    if damage == "rest":
        packed = packed[:-8] + bytes(8) if mode != "w" else packed[: -(len(packed) - 3 * (512 + 3072))]
    (tmp_path / "a.tar").write_bytes(packed)
    with pytest.raises(InputError, match="damaged, or not an archive"):
        extract(tmp_path / "a.tar", tmp_path / "out", ROOM)


@pytest.mark.parametrize(
    "content", [b"", b"<html>not an archive</html>", gzip.compress(os.urandom(2000))[:900]]
)
def test_what_is_no_archive(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar.gz").write_bytes(content)
    with pytest.raises(InputError, match="damaged, or not an archive"):
        extract(tmp_path / "a.tar.gz", tmp_path / "out", ROOM)


def test_wrong_bytes_in_a_compressed_stream(tmp_path: Path) -> None:
    members = [("a", bytes(index * index % 251 for index in range(30_000)) * 2)]
    for archive in (
        tar_of(tmp_path / "a.tgz", *members, mode="w:gz"),
        tar_of(tmp_path / "a.txz", *members, mode="w:xz"),
        zip_of(tmp_path / "a.zip", *members),
    ):
        data = bytearray(archive.read_bytes())
        data[100:140] = bytes(255 - byte for byte in data[100:140])
        archive.write_bytes(data)
        with pytest.raises(InputError, match="damaged"):
            extract(archive, tmp_path / f"{archive.name}.out", ROOM)


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_a_truncated_archive(tmp_path: Path, share: float) -> None:
    members = [(str(index), os.urandom(3000)) for index in range(20)]
    for archive in (
        tar_of(tmp_path / "a.tar", *members),
        tar_of(tmp_path / "a.tgz", *members, mode="w:gz"),
        zip_of(tmp_path / "a.zip", *members),
    ):
        data = archive.read_bytes()
        archive.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(InputError, match="damaged"):
            extract(archive, tmp_path / f"{archive.name}.out", ROOM)


def packed_tar(path: Path, *members: tuple[str, bytes | None]) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            info.size = len(content or b"")
            tar.addfile(info, io.BytesIO(content or b""))
    return path


def packed_zip(path: Path, *members: tuple[str, bytes | None]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members:
            file.writestr(name if content is not None else f"{name}/", content or b"")
    return path


@pytest.mark.parametrize("pack", [packed_tar, packed_zip])
@pytest.mark.parametrize(
    "members",
    [
        [("a", b"x"), ("a", None)],
        [("a", None), ("a", b"x")],
        [("a", b"x"), ("a/b", b"y")],
        [("a", b"x"), ("a/b/c", b"y")],
        [("a", b"x"), ("a/b/c", None)],
    ],
)
def test_a_file_and_a_folder_of_one_name(tmp_path, pack, members):
    with pytest.raises(InputError, match=r"of one name \('a'\)|holds 'a' twice"):
        extract(pack(tmp_path / "archive", *members), tmp_path / "out", 10**6)


@pytest.mark.parametrize("pack", [packed_tar, packed_zip])
@pytest.mark.parametrize("name", ["n" * 256, "\u00e9" * 128, "f/" * 2100 + "x", "d" * 300 + "/x"])
def test_names_that_no_disk_takes(tmp_path, pack, name):
    with pytest.raises(InputError, match="longer name than files may have") as caught:
        extract(pack(tmp_path / "archive", (name, b"x")), tmp_path / "out", 10**6)
    assert len(str(caught.value)) < 500


def test_the_longest_name_that_a_disk_takes(tmp_path):
    extract(packed_tar(tmp_path / "archive", ("n" * 255, b"x")), tmp_path / "out", 10**6)
    assert (tmp_path / "out" / ("n" * 255)).read_bytes() == b"x"


@pytest.mark.parametrize(
    "kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, b"X"]
)
def test_a_header_record_of_800_mb_is_not_read(tmp_path, kind):
    """The file has a hole in place of the record: whoever reads it takes 800 MB of memory."""
    size = 800 * 10**6
    info = tarfile.TarInfo("record")
    info.type, info.size = kind, size
    archive = tmp_path / "archive.tar"
    with archive.open("wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.truncate(size + 10_240)
    tracemalloc.start()
    with pytest.raises(InputError, match="a header record of 800,000,000 bytes"):
        extract(archive, tmp_path / "out", 10**9)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**7


def test_a_zip_directory_that_fills_the_memory_is_not_read(tmp_path):
    archive, size = tmp_path / "archive.zip", 800 * 10**6
    end = b"PK\x05\x06" + bytes(4) + (1).to_bytes(2, "little") * 2
    with archive.open("wb") as file:
        file.write(b"PK\x03\x04")
        file.seek(size)
        file.write(end + (size - 4).to_bytes(4, "little") + (4).to_bytes(4, "little") + bytes(2))
    with pytest.raises(InputError, match="its directory alone has"):
        extract(archive, tmp_path / "out", 10**9)
