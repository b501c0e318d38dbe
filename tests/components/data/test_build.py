import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import lmdb
import pytest
from PIL import Image

from components.core.errors import InputError
from components.data import build
from components.data.build import BuildReport, build_store
from components.data.image import decode
from components.data.record import StoreForm
from components.data.store import CaptionStore
from components.sources.readers.types import CaptionedImage

REPOSITORY = Path(__file__).resolve().parents[3]


def run(path: Path, images, num_workers: int = 2, progress: bool = False, **form) -> BuildReport:
    form = StoreForm(**{"jpeg_quality": 90, **form})
    return build_store(path, images, form, num_workers=num_workers, progress=progress)


@pytest.mark.parametrize("short_side", [None, 24])
def test_any_number_of_workers_gives_the_same_bytes(tmp_path: Path, make_images, short_side) -> None:
    images = make_images(30)
    for workers in (1, 3):
        run(tmp_path / f"{workers}.lmdb", images, short_side=short_side, num_workers=workers)
    assert (tmp_path / "1.lmdb").read_bytes() == (tmp_path / "3.lmdb").read_bytes()


def test_files_keep_their_own_bytes(tmp_path: Path, make_images) -> None:
    images = make_images(4)
    report = run(tmp_path / "s.lmdb", images)
    records = list(CaptionStore(tmp_path / "s.lmdb"))
    assert [record.image for record in records] == [image.path.read_bytes() for image in images]
    assert [record.captions for record in records] == [image.captions for image in images]
    assert report.image_bytes == sum(image.path.stat().st_size for image in images)
    assert (report.count, report.num_captions, report.num_resized, report.skipped) == (4, 8, 0, ())
    assert report.file_bytes == (tmp_path / "s.lmdb").stat().st_size


def test_resizing_only_shrinks(tmp_path: Path, make_images) -> None:
    small = make_images(1, height=20)
    small = [replace(small[0], path=small[0].path.rename(tmp_path / "small.jpg"))]
    large = make_images(3, height=60)[2:]
    report = run(tmp_path / "s.lmdb", small + large, short_side=20)
    records = list(CaptionStore(tmp_path / "s.lmdb"))
    assert report.num_resized == 1
    assert records[0].image == small[0].path.read_bytes()
    assert decode(records[1].image).shape == (24, 20, 3)


@pytest.mark.parametrize("form", [{}, {"short_side": 24}, {"decoded": True}])
def test_turned_photographs_come_out_upright(tmp_path: Path, make_images, form) -> None:
    images = make_images(2)
    with Image.open(images[0].path) as picture:
        exif = picture.getexif()
        exif[0x0112] = 6
        picture.save(images[0].path, exif=exif.tobytes(), quality=90)
    run(tmp_path / "s.lmdb", images, **form)
    turned, plain = CaptionStore(tmp_path / "s.lmdb")
    height, width, _ = decode(turned.image).shape
    assert height > width
    if not form:
        assert turned.image == images[0].path.read_bytes()
    assert decode(plain.image).shape[0] < decode(plain.image).shape[1]


def test_names_of_any_bytes(tmp_path: Path, make_images) -> None:
    image = make_images(1)[0]
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg"))
    image = replace(image, path=image.path.rename(odd), image_id=f"world/{odd.stem}")
    run(tmp_path / "s.lmdb", [image])
    (record,) = CaptionStore(tmp_path / "s.lmdb")
    assert (record.image_id, record.file) == ("world/caf\\udce9", "caf\\udce9.jpg")


def test_too_many_pixels_are_refused_with_file_and_limit(tmp_path: Path, make_images) -> None:
    images = make_images(1)
    data = images[0].path.read_bytes()
    frame = data.index(b"\xff\xc0") + 5
    images[0].path.write_bytes(data[:frame] + b"\xc3\x50\xc3\x50" + data[frame + 4 :])
    with pytest.raises(InputError, match=r"000\.jpg: .*50,000 x 50,000 pixels; the limit is 178,956,970"):
        run(tmp_path / "s.lmdb", images)


def test_an_unreadable_image_is_refused_and_the_earlier_store_stays(tmp_path: Path, make_images) -> None:
    images = make_images(20)
    path = tmp_path / "s.lmdb"
    run(path, images)
    before = path.read_bytes()
    images[13].path.write_bytes(images[13].path.read_bytes()[:300])
    with pytest.raises(InputError, match=r"013\.jpg.*world/13 of dataset world.*on_unreadable"):
        run(path, images)
    assert path.read_bytes() == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["pictures", "s.lmdb"]


def test_unreadable_images_are_skipped_and_counted(tmp_path: Path, make_images) -> None:
    images = make_images(6)
    images[1].path.write_bytes(b"")
    images[4].path.unlink()
    report = run(tmp_path / "s.lmdb", images, on_unreadable="skip")
    assert [(one.image_id, one.reason) for one in report.skipped] == [
        ("world/1", "the file is empty"),
        ("world/4", "No such file or directory"),
    ]
    store = CaptionStore(tmp_path / "s.lmdb")
    assert [record.image_id for record in store] == ["world/0", "world/2", "world/3", "world/5"]
    assert store.metadata.skipped == 2


def test_nothing_to_write_is_refused(tmp_path: Path, make_images) -> None:
    with pytest.raises(InputError, match="no captioned images"):
        run(tmp_path / "s.lmdb", [])
    images = make_images(2)
    for image in images:
        image.path.write_bytes(b"no image")
    with pytest.raises(InputError, match="none of the 2 images"):
        run(tmp_path / "s.lmdb", images, on_unreadable="skip")
    assert not (tmp_path / "s.lmdb").exists()


def test_the_map_grows(tmp_path: Path, make_images, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_INITIAL_MAP_BYTES", 32 * 1024)
    monkeypatch.setattr(build, "_COMMIT_BYTES", 10_000)
    images = make_images(60)
    assert run(tmp_path / "s.lmdb", images).file_bytes > 2 * 32 * 1024
    assert [record.file for record in CaptionStore(tmp_path / "s.lmdb")] == [one.path.name for one in images]


@pytest.mark.parametrize("message", ["No space left on device", "Disk quota exceeded"])
def test_a_full_disk_is_explained(tmp_path: Path, make_images, monkeypatch, message: str) -> None:
    images = make_images(3)
    path = tmp_path / "s.lmdb"
    run(path, images)
    before = path.read_bytes()

    def fail(_writer: object) -> bool:
        raise lmdb.Error(f"mdb_txn_commit: {message}")

    monkeypatch.setattr(build.StoreWriter, "_try_to_commit", fail)
    with pytest.raises(InputError, match=r"disk is full after [\d,]+ bytes.*untouched"):
        run(path, images)
    assert path.read_bytes() == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["pictures", "s.lmdb"]


def test_a_really_full_disk_leaves_the_earlier_store(tmp_path: Path, make_images) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("may not mount a small tmpfs here")
    try:
        images = make_images(200)
        run(disk / "s.lmdb", images[:20])
        before = (disk / "s.lmdb").read_bytes()
        with pytest.raises(InputError, match="disk is full"):
            run(disk / "s.lmdb", images)
        assert (disk / "s.lmdb").read_bytes() == before
        assert [entry.name for entry in disk.iterdir()] == ["s.lmdb"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_another_failure_of_the_disk_is_no_input_error(tmp_path: Path, make_images, monkeypatch) -> None:
    def fail(_writer: object) -> bool:
        raise lmdb.Error("mdb_txn_commit: Input/output error")

    monkeypatch.setattr(build.StoreWriter, "_try_to_commit", fail)
    with pytest.raises(lmdb.Error):
        run(tmp_path / "s.lmdb", make_images(2))


class Interrupted(list[CaptionedImage]):
    """Presses Ctrl-C after some images."""

    def __iter__(self) -> Iterator[CaptionedImage]:
        for index, image in enumerate(super().__iter__()):
            if index == 40:
                raise KeyboardInterrupt
            yield image


def test_an_interruption_leaves_nothing(tmp_path: Path, make_images) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "s.lmdb", Interrupted(make_images(60)))
    assert [entry.name for entry in tmp_path.iterdir()] == ["pictures"]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("image-reader")]


INTERRUPTIBLE = """
import sys
from pathlib import Path
from components.data.build import build_store
from components.data.record import StoreForm
from components.sources.readers.types import CaptionedImage
image = CaptionedImage("world/1", "world", Path(sys.argv[1]), ("one",))
build_store(Path(sys.argv[2]), [image] * 5_000_000, StoreForm(), num_workers=2, progress=True)
"""


def test_a_real_interrupt_ends_the_process(tmp_path: Path, make_images) -> None:
    target = tmp_path / "out" / "s.lmdb"
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, str(make_images(1)[0].path), str(target)],
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not list(target.parent.glob(".*.partial")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    assert process.returncode != 0
    assert list(target.parent.iterdir()) == []


class Counted(list[CaptionedImage]):
    taken = 0

    def __iter__(self) -> Iterator[CaptionedImage]:
        for image in super().__iter__():
            self.taken += 1
            yield image


def test_few_images_are_held_at_once(make_images) -> None:
    images = Counted(make_images(60))
    outcomes = build._prepare_all(images, 2, StoreForm(), hashed=False)
    next(outcomes)
    assert images.taken == 2 * build._PENDING_PER_WORKER
    outcomes.close()
