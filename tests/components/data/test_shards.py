"""A split in shards: one store to whoever reads it, and an added image concerns one of them."""

import hashlib
import importlib.metadata
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from components.core.errors import InputError
from components.data import shards
from components.data.batch import Batch, collate_targets
from components.data.build import build_store
from components.data.build_shards import build_head, build_shard
from components.data.dataset import TrainDataset
from components.data.loader import _Visits, visit_loader
from components.data.record import Record, StoreForm
from components.data.sampling import GroupedVisits, Shard
from components.data.selection import select
from components.data.shards import shard_of, shard_path
from components.data.store import CaptionStore, identify
from components.data.transforms import TrainTransform
from components.params import Subset
from components.sources.readers.types import CaptionedImage

REPOSITORY = Path(__file__).resolve().parents[3]
FORM = StoreForm(categories=("even", "triple"))


def build(head: Path, images: Sequence[CaptionedImage], num_shards: int, **changes) -> list[bool]:
    """Build head and shards; returns which shards were written."""
    build_head(head, images, num_shards, FORM)
    form = replace(FORM, **changes)
    written = (build_shard(head, images, n, num_shards, form, num_workers=2) for n in range(num_shards))
    return [report is not None for report in written]


def contents(head: Path, num_shards: int) -> list[bytes]:
    return [shard_path(head, number).read_bytes() for number in range(num_shards)]


def test_one_file_has_the_bytes_that_it_always_had(tmp_path: Path) -> None:
    images = []
    for index in range(5):
        path = tmp_path / f"{index}.ppm"
        path.write_bytes(b"P6 %d 2 255\n" % (3 + index) + bytes(range(6 * (3 + index))))
        images.append(CaptionedImage(f"w/{index}", "w", path, (f"caption {index}",), (1,) * (index % 2)))
    build_store(tmp_path / "s.lmdb", images, StoreForm(categories=("odd",)), num_workers=1)
    digest = hashlib.sha256((tmp_path / "s.lmdb").read_bytes()).hexdigest()
    assert digest == "12cb1a7f164dbe817edb4c53b208222fef8f58ccacdd5e4bd565807f7980f1df"


def test_an_image_has_its_shard_for_good() -> None:
    ids = ("coco/9", "coco/25", "own/caf\udce9", "")
    assert [shard_of(image_id, 4) for image_id in ids] == [0, 0, 1, 0]
    counts = np.bincount([shard_of(f"coco/{number}", 64) for number in range(6400)])
    assert len(counts) == 64
    assert counts.min() > 60
    assert counts.max() < 140


@pytest.mark.parametrize("num_shards", [1, 3])
def test_shards_are_one_store(tmp_path: Path, make_images, num_shards: int) -> None:
    images = make_images(20)
    build_store(tmp_path / "one.lmdb", images, FORM, num_workers=2)
    assert all(build(tmp_path / "many.lmdb", images, num_shards))
    one, many = CaptionStore(tmp_path / "one.lmdb"), CaptionStore(tmp_path / "many.lmdb")
    assert list(many) == list(one)
    assert many.index == one.index
    assert many.metadata == one.metadata
    assert many.num_shards == num_shards
    assert list(pickle.loads(pickle.dumps(many))) == list(one)
    with pytest.raises(IndexError, match="only 0 to 19"):
        many.get(20)
    subset = Subset(image_fraction=0.5, captions_per_image=1, seed=3)
    for task in ("bicaptioning", "multilabel_classification"):
        chosen, expected = (select(store, task, subset) for store in (many, one))
        assert chosen.indices.tolist() == expected.indices.tolist()
        assert chosen.num_captions == expected.num_captions


def test_batches_of_shards_are_those_of_one_store(tmp_path: Path, make_images, augmentation, targets) -> None:
    images = make_images(12)
    build_store(tmp_path / "one.lmdb", images, FORM, num_workers=2)
    build(tmp_path / "many.lmdb", images, 4)

    def batches(name: str, start: int, shard: Shard) -> list[Batch]:
        store = CaptionStore(tmp_path / name)
        chosen = select(store, "bicaptioning", Subset(image_fraction=0.8, captions_per_image=1, seed=1))
        dataset = TrainDataset(store, chosen, TrainTransform(augmentation), targets, seed=2)
        return list(
            visit_loader(
                dataset,
                collate_targets,
                batch_size=8,
                start_iteration=start,
                num_iterations=5,  # into the third epoch
                num_workers=start,
                shard=shard,
            )
        )

    for start, shard in ((0, Shard()), (2, Shard(rank=1, world_size=2, accumulate=2))):
        one, many = (batches(name, start, shard) for name in ("one.lmdb", "many.lmdb"))
        assert len(one) == len(many) == (5 - start) * shard.accumulate
        for batch, other in zip(one, many, strict=True):
            assert batch.keys() == other.keys()
            assert all(torch.equal(batch[key], other[key]) for key in batch if key != "image_id")


def test_unreadable_images_are_missing_as_from_one_store(tmp_path: Path, make_images) -> None:
    images = make_images(20)
    for index in (0, 7, 19):
        images[index].path.write_bytes(b"no image")
    images[8].path.unlink()
    skip = {"on_unreadable": "skip"}
    build_store(tmp_path / "one.lmdb", images, replace(FORM, **skip), num_workers=2)
    assert build(tmp_path / "many.lmdb", images, 3, **skip) == [True] * 3
    one, many = CaptionStore(tmp_path / "one.lmdb"), CaptionStore(tmp_path / "many.lmdb")
    assert many.metadata == one.metadata
    assert many.metadata.skipped == 4
    assert list(many) == list(one)
    assert many.index == one.index
    assert build(tmp_path / "many.lmdb", images, 3, **skip) == [False] * 3
    with pytest.raises(InputError, match="cannot be read as an image"):
        build(tmp_path / "many.lmdb", images, 3)


CHANGES: dict[str, Callable[[list[CaptionedImage]], list[CaptionedImage]]] = {
    "taken away": lambda images: images[:7] + images[8:],
    "another caption": lambda images: [*images[:7], replace(images[7], captions=("new",)), *images[8:]],
    "another label": lambda images: [*images[:7], replace(images[7], labels=(2,)), *images[8:]],
    "another file name": lambda images: [
        *images[:7],
        replace(images[7], path=images[7].path.rename(images[7].path.with_name("new.jpg"))),
        *images[8:],
    ],
}


@pytest.mark.parametrize("change", ["added", "other pixels", *CHANGES])
def test_a_change_of_one_image_changes_one_shard(tmp_path: Path, make_images, change: str) -> None:
    images = make_images(20)
    head = tmp_path / "train.lmdb"
    before = images[:7] + images[8:] if change == "added" else images
    build(head, before, 4)
    old, identity = contents(head, 4), identify(CaptionStore(head))
    status = [shard_path(head, number).stat() for number in range(4)]
    if change == "other pixels":
        os.replace(images[8].path, images[7].path)
        images[8].path.write_bytes(images[7].path.read_bytes())
    after = images if change in ("added", "other pixels") else CHANGES[change](images)
    written = build(head, after, 4)
    changed = [number for number in range(4) if contents(head, 4)[number] != old[number]]
    assert changed == [shard_of("world/7", 4)]
    assert [number for number in range(4) if written[number]] == changed
    for number in {0, 1, 2, 3} - set(changed):
        assert shard_path(head, number).stat() == status[number]  # not even touched
    assert identify(CaptionStore(head)).digest != identity.digest
    build_store(tmp_path / "one.lmdb", after, FORM, num_workers=2)
    assert list(CaptionStore(head)) == list(CaptionStore(tmp_path / "one.lmdb"))


@pytest.mark.parametrize(
    "changes", [{"short_side": 24}, {"jpeg_quality": 50}, {"decoded": True}, {"categories": ()}]
)
def test_another_form_makes_every_shard_again(tmp_path: Path, make_images, changes) -> None:
    images = make_images(12)
    assert build(tmp_path / "train.lmdb", images, 2) == [True] * 2
    assert build(tmp_path / "train.lmdb", images, 2, **changes) == [True] * 2
    assert build(tmp_path / "train.lmdb", images, 2, **changes) == [False] * 2
    if "decoded" not in changes:  # the head was made for the first form
        with pytest.raises(InputError, match="in another form, or with other categories"):
            len(CaptionStore(tmp_path / "train.lmdb"))


def test_other_code_that_makes_the_same_records_leaves_the_data_what_they_are(
    tmp_path: Path, make_images, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, head = make_images(12), tmp_path / "train.lmdb"
    build(head, images, 2)
    identity = identify(CaptionStore(head)).digest
    monkeypatch.setattr(shards, "_CODE", ())
    assert build(head, images, 2) == [True] * 2
    assert identify(CaptionStore(head)).digest == identity  # so a run goes on from its checkpoint
    build(head, images, 2, short_side=24)
    build_head(head, images, 2, replace(FORM, short_side=24))
    assert identify(CaptionStore(head)).digest != identity


@pytest.mark.parametrize("library", ["simplejpeg", "opencv-python-headless"])
@pytest.mark.parametrize(
    ("changes", "is_rebuilt"), [({}, False), ({"short_side": 24}, True), ({"decoded": True}, True)]
)
def test_another_version_of_a_library_makes_again_what_it_encodes(
    tmp_path: Path,
    make_images,
    monkeypatch: pytest.MonkeyPatch,
    library: str,
    changes: dict,
    is_rebuilt: bool,
) -> None:
    images, head, version = make_images(12), tmp_path / "train.lmdb", importlib.metadata.version
    build(head, images, 2, **changes)

    def newer(name: str) -> str:
        return "99.0" if name == library else version(name)

    monkeypatch.setattr(shards, "importlib", SimpleNamespace(metadata=SimpleNamespace(version=newer)))
    assert build(head, images, 2, **changes) == [is_rebuilt] * 2
    assert build(head, images, 2, **changes) == [False] * 2


def test_shards_that_do_not_belong_together_are_refused(tmp_path: Path, make_images) -> None:
    images = make_images(20)
    head = tmp_path / "train.lmdb"
    build(head, images, 3)
    build_shard(head, images[:-1], shard_of("world/19", 3), 3, FORM, num_workers=2)
    with pytest.raises(
        InputError, match=r"train-\d\.lmdb: holds other images, captions or labels than .*train\.lmdb expects"
    ):
        len(CaptionStore(head))
    for change in CHANGES:
        build(head, images, 3)
        build_head(head, CHANGES[change](images), 3, FORM)
        with pytest.raises(InputError, match=r"train-\d\.lmdb: holds other images, captions or labels than"):
            len(CaptionStore(head))
    images = make_images(20)
    build(head, images, 3)
    build_shard(head, images, 0, 2, FORM, num_workers=2)
    with pytest.raises(InputError, match=r"train-0\.lmdb: shard 0 of 2, where .* expects shard 0 of 3"):
        len(CaptionStore(head))
    build_store(shard_path(head, 0), images, FORM, num_workers=2)
    with pytest.raises(InputError, match=r"train-0\.lmdb: a whole split, where"):
        len(CaptionStore(head))
    shard_path(head, 0).unlink()
    with pytest.raises(InputError, match=r"train-0\.lmdb: no such store"):
        len(CaptionStore(head))


def test_shards_of_a_larger_number_go(tmp_path: Path) -> None:
    for name in ("train", "train-0", "train-1", "train-2", "train-10", "train-small", "val"):
        (tmp_path / f"{name}.lmdb").touch()
    shards.remove_shards(tmp_path / "train.lmdb", 2)
    assert sorted(path.stem for path in tmp_path.iterdir()) == [
        "train", "train-0", "train-1", "train-small", "val",
    ]  # fmt: skip


def test_more_shards_than_images_are_refused(tmp_path: Path, make_images) -> None:
    with pytest.raises(InputError, match=r"none of the 3 images falls into shard .*lower lmdb\.shards"):
        build_head(tmp_path / "train.lmdb", make_images(3), 9, FORM)
    assert not list(tmp_path.glob("*.lmdb"))


def test_a_shard_killed_half_way_is_built_again(tmp_path: Path, make_images) -> None:
    images = make_images(20)
    head = tmp_path / "train.lmdb"
    build_head(head, images, 2, FORM)
    (tmp_path / "images.pickle").write_bytes(pickle.dumps(images))
    program = f"""
import os, pickle, signal
from pathlib import Path
from types import SimpleNamespace
from components.data import build_shards
from components.data.build import StoreWriter
from components.data.record import StoreForm
folder = Path({str(tmp_path)!r})
StoreWriter.finish = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
images = pickle.loads((folder / "images.pickle").read_bytes())
build_shards.build_shard(folder / "train.lmdb", images, 1, 2, {FORM!r}, num_workers=2)
"""
    killed = subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": str(REPOSITORY)})
    assert killed.returncode == -signal.SIGKILL
    assert not shard_path(head, 1).exists()
    assert build(head, images, 2) == [True, True]
    whole = shard_path(head, 1).read_bytes()
    shard_path(head, 1).write_bytes(whole[: len(whole) // 2])
    assert build(head, images, 2) == [False, True]
    assert shard_path(head, 1).read_bytes() == whole
    assert not list(tmp_path.glob(".*.partial"))


def test_a_shard_is_opened_where_a_record_of_it_is_wanted(tmp_path: Path, make_images) -> None:
    images = make_images(20)
    head = tmp_path / "train.lmdb"
    build(head, images, 2)
    facts = CaptionStore(head).shard_metadata(range(2))
    expected: list[Record] = list(CaptionStore(head))
    moved = tmp_path / "elsewhere.lmdb"
    head.rename(moved)
    shard_path(head, 0).rename(shard_path(moved, 0))
    here = CaptionStore(moved, facts)
    assert len(here) == 20
    for index, record in enumerate(expected):
        if shard_of(record.image_id, 2) == 0:
            assert here.get(index) == record
        else:
            with pytest.raises(InputError, match=r"elsewhere-1\.lmdb: no such store"):
                here.get(index)


def test_groups_of_shards_have_equal_parts_of_every_round() -> None:
    groups = np.array([0, 1, 0, 1, 1, 1, 0, 1, 1])
    visits = GroupedVisits(groups, 2, seed=5, batch_size=8, accumulate=2)
    seen = [visits.image(visit) for visit in range(160)]
    rounds = np.array(seen).reshape(-1, 4)
    assert (groups[rounds] == [0, 0, 1, 1]).all()
    for group, size in ((0, 3), (1, 6)):
        own = rounds[:, 2 * group : 2 * group + 2].ravel()
        epochs = own[: len(own) // size * size].reshape(-1, size)
        assert (np.sort(epochs) == np.flatnonzero(groups == group)).all()
        assert len({tuple(epoch) for epoch in epochs.tolist()}) > 1  # shuffled anew
    again = GroupedVisits(groups, 2, seed=5, batch_size=8, accumulate=2)
    assert [again.image(visit) for visit in (159, 3, 80)] == [seen[visit] for visit in (159, 3, 80)]


@pytest.mark.parametrize(
    ("world_size", "num_groups", "expected"),
    [
        (1, 4, [range(4)]),
        (2, 4, [range(2), range(2, 4)]),
        (4, 2, [range(1), range(1), range(1, 2), range(1, 2)]),
        (2, 3, [range(2), range(1, 3)]),
    ],
)
def test_a_process_works_on_its_own_groups(world_size: int, num_groups: int, expected: list[range]) -> None:
    shards = [Shard(rank, world_size, accumulate=2) for rank in range(world_size)]
    assert [shard.groups(num_groups) for shard in shards] == expected
    groups = np.arange(36) % num_groups
    visits = GroupedVisits(groups, num_groups, seed=1, batch_size=24, accumulate=2)
    for shard in shards:
        drawn = [visit for batch in _Visits(24, range(5), shard) for visit in batch]
        assert {groups[visits.image(visit)] for visit in drawn} == set(shard.groups(num_groups))


def test_shards_that_do_not_divide_into_groups_are_refused(tmp_path: Path, make_images, augmentation) -> None:
    images = make_images(20)
    build(tmp_path / "train.lmdb", images, 3)
    build_store(tmp_path / "one.lmdb", images, FORM, num_workers=2)
    for name, found in (("train", "3"), ("one", "no")):
        store = CaptionStore(tmp_path / f"{name}.lmdb")
        transform = TrainTransform(augmentation)
        dataset = TrainDataset(store, select(store, "bicaptioning"), transform, lambda *_: {}, seed=0)
        with pytest.raises(InputError, match=rf"has {found} shards, which do not divide .*shard_groups: 2"):
            dataset.draw_by_groups(2, 8, 1)
