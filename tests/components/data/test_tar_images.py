"""Training images that stay in tars on a server, beside the store that has them."""

import io
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch._utils import ExceptionWrapper

from components.core.errors import InputError, TemporaryError
from components.data import loader as loader_module
from components.data.batch import Batch, collate_targets
from components.data.build import build_store
from components.data.dataset import TrainDataset
from components.data.loader import visit_loader
from components.data.record import StoreForm
from components.data.sampling import Shard, Visits
from components.data.selection import select
from components.data.store import CaptionStore
from components.data.tar_images import image_in_tar, place_in_tar
from components.data.tar_visits import stream_images, tar_visits
from components.data.targets import MakeTargets
from components.data.transforms import TrainTransform
from components.params import Augmentation
from components.sources.download import tar_cache
from components.sources.download.tar_cache import TarCache, machine_cache
from components.sources.readers.own.dataset import read_own
from components.sources.readers.own.sample import OwnSettings
from components.sources.readers.types import CaptionedImage
from tests.conftest import FileServer

PER_TAR, NUM_TARS, MIXED = 4, 6, 2
NUM_IMAGES = PER_TAR * NUM_TARS - 1  # one is for validation


@pytest.fixture
def images(file_server: FileServer, make_images, monkeypatch: pytest.MonkeyPatch) -> list[CaptionedImage]:
    """Images in six tars on a server, and a working directory with room for four of them."""
    pictures = make_images(PER_TAR * NUM_TARS)
    for number in range(NUM_TARS):
        with tarfile.open(file_server.folder / f"{number}.tar", "w") as tar:
            for picture in pictures[number * PER_TAR : (number + 1) * PER_TAR]:
                tar.add(picture.path, picture.path.name)
                text = "\n".join(picture.captions).encode()
                info = tarfile.TarInfo(picture.path.with_suffix(".txt").name)
                info.size = len(text)
                tar.addfile(info, io.BytesIO(text))
    room = 4 * (file_server.folder / "0.tar").stat().st_size
    Path(file_server.folder.parent, "params.yaml").write_text(
        f"stream: {{train: true, mixed_tars: {MIXED}, cache_gib: {room / 2**30}}}\n"
    )
    monkeypatch.chdir(file_server.folder.parent)
    settings = OwnSettings(val_fraction=1 / (PER_TAR * NUM_TARS))
    urls = f"{file_server.url}/{{0..{NUM_TARS - 1}}}.tar"
    return read_own(urls, "mine", settings, Path("data/mine"), False).splits["train"]


def build(images: list[CaptionedImage], name: str, in_tars: bool, skip: bool = False) -> CaptionStore:
    form = StoreForm(on_unreadable="skip" if skip else "refuse", in_tars=in_tars)
    build_store(Path(name), images, form, num_workers=2)
    return CaptionStore(Path(name))


@pytest.fixture
def dataset(images: list[CaptionedImage], augmentation: Augmentation, targets: MakeTargets) -> TrainDataset:
    """The images in their tars, two tars at a time."""
    dataset = plain(build(images, "in_tars.lmdb", True), augmentation, targets)
    assert stream_images(dataset, MIXED) is dataset.visits
    return dataset


def plain(store: CaptionStore, augmentation: Augmentation, targets: MakeTargets) -> TrainDataset:
    dataset = TrainDataset(
        store, select(store, "bicaptioning"), TrainTransform(augmentation), targets, seed=4
    )
    dataset.read_image = image_in_tar
    return dataset


def batches(
    dataset: TrainDataset, start: int, end: int, shard: Shard, num_workers: int = 2
) -> Iterator[Batch]:
    return visit_loader(
        dataset, collate_targets, batch_size=4, start_iteration=start, num_iterations=end,
        num_workers=num_workers, shard=shard,
    )  # fmt: skip


def content(found: Iterator[Batch]) -> list[tuple[str, bytes, list[int]]]:
    return [
        (name, image.numpy().tobytes(), tokens.tolist())
        for batch in found
        for name, image, tokens in zip(
            batch["image_id"], batch["image"], batch["caption_tokens"], strict=True
        )
    ]


WHOLE = Shard()


def test_a_store_of_places_gives_what_the_store_of_images_gives(
    images: list[CaptionedImage], augmentation: Augmentation, targets: MakeTargets
) -> None:
    here, there = build(images, "here.lmdb", False), build(images, "in_tars.lmdb", True)
    assert Path("in_tars.lmdb").stat().st_size < Path("here.lmdb").stat().st_size
    assert (there.metadata.count, there.metadata.captions) == (here.metadata.count, here.metadata.captions)
    found = [content(batches(plain(of, augmentation, targets), 0, 14, WHOLE)) for of in (here, there)]
    assert found[0] == found[1]
    assert len({name for name, _, _ in found[0]}) == NUM_IMAGES


@pytest.mark.parametrize("start", [1, 7])
def test_a_run_on_tars_goes_on_exactly_where_it_was(dataset: TrainDataset, start: int) -> None:
    whole = content(batches(dataset, 0, 12, WHOLE, 0))
    assert content(batches(dataset, start, 12, WHOLE)) == whole[4 * start :]


def test_two_processes_have_what_one_has_and_share_the_tars(
    dataset: TrainDataset, file_server: FileServer
) -> None:
    whole = content(batches(dataset, 0, 6, WHOLE, 0))
    before = machine_cache().fetched()
    parts = [content(batches(dataset, 0, 6, Shard(rank, 2))) for rank in (0, 1)]
    dealt = [part[2 * i : 2 * i + 2] for i in range(6) for part in parts]
    assert [sample for of in dealt for sample in of] == whole
    fetched = machine_cache().fetched()
    assert fetched.tars - before.tars <= 2 * (NUM_TARS + MIXED)  # one rank after the other, no tar twice


def test_an_epoch_takes_few_tars_at_a_time_and_each_image_once(dataset: TrainDataset) -> None:
    number = {image: int(record.file[:3]) // PER_TAR for image, record in enumerate(dataset.store)}
    orders = []
    for epoch in (0, 1):
        order = [dataset.visits.image(epoch * NUM_IMAGES + i) for i in range(NUM_IMAGES)]
        assert sorted(order) == list(range(NUM_IMAGES))
        tars = [number[image] for image in order]
        groups = [set(tars[: tars.index(t)]) for t in dict.fromkeys(tars)]
        assert [len(group) for group in groups[::MIXED]] == [0, 2, 4]
        last = {tar: max(i for i, t in enumerate(tars) if t == tar) for tar in set(tars)}
        first = {tar: tars.index(tar) for tar in set(tars)}
        assert all(sum(first[t] <= i <= last[t] for t in first) <= MIXED for i in range(NUM_IMAGES))
        assert len({*map(tuple, np.array_split(tars, 3))}) == 3
        assert any(a != b for a, b in zip(tars, sorted(tars), strict=True))
        orders.append(order)
    assert orders[0] != orders[1]


def test_where_all_are_mixed_the_order_is_that_of_a_store(dataset: TrainDataset) -> None:
    room = TarCache(Path("large"), 2**30)
    visits = tar_visits(dataset.store, dataset.selection.indices, None, 4, room)
    assert visits is not None
    expected = Visits(NUM_IMAGES, 4)
    assert [visits.image(v) for v in range(60)] == [expected.image(v) for v in range(60)]


def test_the_folder_never_holds_more_than_it_may_and_a_worker_fetches_ahead(
    dataset: TrainDataset, file_server: FileServer
) -> None:
    room = machine_cache()
    largest = 0
    for _ in batches(dataset, 0, 24, WHOLE, 1):
        largest = max(largest, sum(path.stat().st_size for path in room.folder.glob("*.tar")))
    assert 0 < largest <= room.most_bytes
    with pytest.raises(InputError, match=r"stream\.cache_gib: .* the 6 tars that are needed at a time"):
        tar_visits(dataset.store, dataset.selection.indices, 3, 4, room)


def test_other_bytes_in_an_image_s_place_are_never_taken_for_it(
    dataset: TrainDataset, images: list[CaptionedImage], file_server: FileServer
) -> None:
    whole = [dataset[visit] for visit in range(NUM_IMAGES)]
    for path in machine_cache().folder.glob("*.tar"):  # a disk that fails, or somebody wrote there
        path.write_bytes(path.read_bytes().replace(b"JFIF", b"JFIE"))
    for visit, sample in enumerate(whole):
        assert np.array_equal(dataset[visit]["image"], sample["image"])
    here = file_server.folder / "0.tar"
    place = place_in_tar(replace(images[0], path=here, tar=None), images[0].read_bytes())
    assert image_in_tar(place) == images[0].read_bytes()
    here.write_bytes(here.read_bytes().replace(b"JFIF", b"JFIE"))
    with pytest.raises(InputError, match=r"0\.tar: not the [\d,]+ bytes from [\d,]+ on that the lmdb stage"):
        image_in_tar(place)


def test_a_server_that_is_gone_is_named(
    dataset: TrainDataset, file_server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (*file_server.folder.iterdir(), *machine_cache().folder.glob("*.tar")):
        path.unlink()
    with pytest.raises(InputError, match=rf"^{file_server.url}/\d\.tar: HTTP 404[^\n]* \(nothing that was"):
        dataset[0]

    def gone(*_: object) -> None:
        raise tar_cache.MirrorError("the server is gone")

    monkeypatch.setattr(tar_cache, "open_server", gone)
    with pytest.raises(TemporaryError, match=r"\d\.tar: the server is gone \(nothing that was"):
        dataset[0]


def test_a_worker_says_as_much_and_that_it_may_be_tried_again() -> None:
    def in_a_worker() -> Iterator[Batch]:
        try:
            raise TemporaryError("h/0.tar: gone")
        except TemporaryError:
            carried = ExceptionWrapper(where="in a worker")
        carried.reraise()
        yield {}

    with pytest.raises(TemporaryError) as said:
        next(loader_module._with_plain_errors(in_a_worker()))
    assert str(said.value) == "h/0.tar: gone"


def test_an_image_in_a_tar_that_cannot_be_decoded_is_refused_or_counted(
    images: list[CaptionedImage], file_server: FileServer
) -> None:
    first = images[0]
    assert first.member is not None
    data = bytearray((file_server.folder / "0.tar").read_bytes())
    data[first.member.offset : first.member.offset + first.member.size] = bytes(first.member.size)
    (file_server.folder / "0.tar").write_bytes(data)
    settings = OwnSettings(val_fraction=1 / NUM_IMAGES)
    urls = f"{file_server.url}/{{0..1}}.tar"
    damaged = read_own(urls, "mine", settings, Path("data/mine"), False).splits["train"]
    with pytest.raises(InputError, match=r"0\.tar/000\.jpg: cannot be read as an image"):
        build(damaged, "in_tars.lmdb", True)
    assert build(damaged, "in_tars.lmdb", True, skip=True).metadata.skipped == 1
