import gc
import multiprocessing
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset

from components.core.errors import InputError
from components.data import loader as loader_module
from components.data.batch import Batch, collate_images, collate_targets
from components.data.dataset import ImageDataset, TrainDataset, ValDataset
from components.data.loader import (
    Placed,
    Pool,
    Requests,
    in_order_loader,
    memory_is_shared,
    val_loader,
    visit_loader,
)
from components.data.sampling import CropSizes, Shard
from components.data.selection import select
from components.data.store import CaptionStore
from components.data.targets import MakeTargets, make_targets
from components.data.transforms import EvalTransform, TrainTransform
from components.params import Subset


@pytest.fixture
def dataset(store: CaptionStore, augmentation, targets: MakeTargets) -> TrainDataset:
    return TrainDataset(store, select(store, "bicaptioning"), TrainTransform(augmentation), targets, seed=4)


def batches(dataset: TrainDataset, start: int, end: int, num_workers: int) -> list[Batch]:
    return list(
        visit_loader(
            dataset,
            collate_targets,
            batch_size=4,
            start_iteration=start,
            num_iterations=end,
            num_workers=num_workers,
        )
    )


def require_equal(left: Batch, right: Batch) -> None:
    assert left["image_id"] == right["image_id"]
    assert set(left) == set(right)
    for key in set(left) - {"image_id"}:
        torch.testing.assert_close(left[key], right[key], rtol=0, atol=0)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("start", [0, 1, 5])
def test_a_run_goes_on_exactly_where_it_was(dataset: TrainDataset, start: int, num_workers: int) -> None:
    whole = batches(dataset, 0, 8, 0)
    rest = batches(dataset, start, 8, num_workers)
    assert len(whole) == 8
    assert len(rest) == 8 - start
    for expected, batch in zip(whole[start:], rest, strict=True):
        require_equal(batch, expected)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_all_crops_of_an_iteration_have_its_size(dataset: TrainDataset, num_workers: int) -> None:
    """However far the workers are ahead, wherever the loader starts, whoever of two processes has them."""
    dataset.crop_sizes = CropSizes.of([(0, 32), (0.3, 40), (0.6, 48)], 10, batch_size=4)
    expected = [32] * 3 + [40] * 3 + [48] * 4
    sizes = [tuple(batch["image"].shape) for batch in batches(dataset, 0, 10, num_workers)]
    assert sizes == [(4, size, size, 3) for size in expected]
    rest = batches(dataset, 2, 10, num_workers)
    assert [batch["image"].shape[1] for batch in rest] == expected[2:]
    loader = visit_loader(
        dataset, collate_targets, batch_size=4, start_iteration=0, num_iterations=10, num_workers=num_workers,
        shard=Shard(1, 2),
    )  # fmt: skip
    assert [tuple(batch["image"].shape) for batch in loader] == [(2, size, size, 3) for size in expected]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_hidden_tokens_and_subsets_go_on_exactly_too(
    store: CaptionStore, augmentation, letters, num_workers: int
) -> None:
    part = select(store, "masked_lm", Subset(image_fraction=0.7, captions_per_image=1, seed=2))
    targets = make_targets("masked_lm", letters, 30)
    dataset = TrainDataset(store, part, TrainTransform(augmentation), targets, seed=4)
    whole, rest = batches(dataset, 0, 6, 0), batches(dataset, 3, 6, num_workers)
    assert set(whole[0]) == {"image", "image_id", "masked_tokens", "masked_labels", "caption_lengths"}
    for expected, batch in zip(whole[3:], rest, strict=True):
        require_equal(batch, expected)


@pytest.mark.parametrize(
    ("world_size", "accumulate", "num_workers"), [(2, 1, 0), (1, 2, 2), (2, 2, 0), (4, 1, 0)]
)
def test_the_shares_of_an_iteration_make_the_whole(
    dataset: TrainDataset, world_size: int, accumulate: int, num_workers: int
) -> None:
    shards = [
        visit_loader(
            dataset,
            collate_targets,
            batch_size=4,
            start_iteration=2,
            num_iterations=6,
            num_workers=num_workers,
            shard=Shard(rank, world_size, accumulate),
        )
        for rank in range(world_size)
    ]
    for whole in batches(dataset, 2, 6, 0):
        parts = [next(shard) for _ in range(accumulate) for shard in shards]
        assert [name for part in parts for name in part["image_id"]] == whole["image_id"]
        torch.testing.assert_close(
            torch.cat([part["image"] for part in parts]), whole["image"], rtol=0, atol=0
        )
    assert [next(shard, None) for shard in shards] == [None] * world_size


def test_an_iteration_that_cannot_be_dealt_out_evenly_is_refused(dataset: TrainDataset) -> None:
    with pytest.raises(InputError, match=r"4 images per iteration .* 3 processes in 1 rounds.*multiple of 3"):
        visit_loader(
            dataset,
            collate_targets,
            batch_size=4,
            start_iteration=0,
            num_iterations=1,
            num_workers=0,
            shard=Shard(1, 3),
        )


def test_validation_is_shared_out(store: CaptionStore, targets: MakeTargets) -> None:
    dataset = ValDataset(store, select(store, "bicaptioning"), EvalTransform(24, 24), targets)
    loaders = [val_loader(dataset, batch_size=2, num_workers=0, shard=Shard(rank, 3)) for rank in range(3)]
    names = [[name for batch in loader for name in batch["image_id"]] for loader in loaders]
    assert names == [[f"world/{index}" for index in range(rank, 10, 3)] for rank in range(3)]


def test_batches_run_over_the_end_of_an_epoch(dataset: TrainDataset) -> None:
    names = [name for batch in batches(dataset, 0, 5, 0) for name in batch["image_id"]]
    assert sorted(names[:10]) == sorted(names[10:]) == [f"world/{index}" for index in range(10)]


def test_a_finished_run_has_no_batches(dataset: TrainDataset) -> None:
    assert batches(dataset, 8, 8, 0) == []


def test_a_training_loader_is_an_iterator_of_whole_batches(dataset: TrainDataset) -> None:
    loader = visit_loader(
        dataset, collate_targets, batch_size=4, start_iteration=0, num_iterations=2, num_workers=0
    )
    assert isinstance(loader, Iterator)
    batch = next(loader)
    assert batch["image"].shape == (4, 32, 32, 3)
    assert batch["image"].dtype == torch.uint8
    assert set(batch) == {"image", "image_id", "caption_tokens", "noitpac_tokens", "caption_lengths"}


@pytest.mark.parametrize("num_workers", [0, 1])
def test_loaders_leave_torchs_generator_alone(
    dataset: TrainDataset, store: CaptionStore, num_workers: int
) -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    batches(dataset, 0, 1, num_workers)
    list(
        in_order_loader(
            ImageDataset(store, EvalTransform(24, 24)), collate_images, batch_size=8, num_workers=num_workers
        )
    )
    assert torch.rand(1) == expected


@pytest.mark.parametrize("num_workers", [0, 2])
def test_validation_is_whole_and_repeats(store: CaptionStore, targets: MakeTargets, num_workers: int) -> None:
    dataset = ValDataset(store, select(store, "bicaptioning"), EvalTransform(24, 24), targets)
    loader = val_loader(dataset, batch_size=4, num_workers=num_workers)
    first, second = list(loader), list(loader)
    assert [len(batch["image_id"]) for batch in first] == [4, 4, 2]
    assert [name for batch in first for name in batch["image_id"]] == [f"world/{n}" for n in range(10)]
    for left, right in zip(first, second, strict=True):
        require_equal(left, right)


class Refuses(EvalTransform):
    """Stands for a broken image; its error has a cause and more than one line."""

    def __init__(self) -> None:
        super().__init__(24, 24)

    def __call__(self, *_: object) -> torch.Tensor:
        raise InputError("world/0: broken\nInputError: replace it") from OSError("cause")


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("kind", ["train", "val", "image"])
def test_a_workers_input_error_keeps_its_message(
    store: CaptionStore, targets: MakeTargets, kind: str, num_workers: int
) -> None:
    everything = select(store, "bicaptioning")
    if kind == "train":
        dataset = TrainDataset(store, everything, Refuses(), targets, seed=4)  # type: ignore[arg-type]
        loader = visit_loader(
            dataset,
            collate_targets,
            batch_size=2,
            start_iteration=0,
            num_iterations=1,
            num_workers=num_workers,
        )
    elif kind == "val":
        validation = ValDataset(store, everything, Refuses(), targets)
        loader = iter(val_loader(validation, batch_size=2, num_workers=num_workers))
    else:
        loader = iter(
            in_order_loader(
                ImageDataset(store, Refuses()), collate_images, batch_size=2, num_workers=num_workers
            )
        )
    with pytest.raises(InputError) as raised:
        next(loader)
    assert str(raised.value) == "world/0: broken\nInputError: replace it"


@pytest.mark.integration
def test_loading_works_under_spawn(store: CaptionStore) -> None:
    expected = list(
        in_order_loader(
            ImageDataset(store, EvalTransform(24, 24)), collate_images, batch_size=5, num_workers=0
        )
    )
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    try:
        found = list(
            in_order_loader(
                ImageDataset(store, EvalTransform(24, 24)), collate_images, batch_size=5, num_workers=1
            )
        )
    finally:
        multiprocessing.set_start_method(before, force=True)
    assert [batch["image_id"] for batch in found] == [batch["image_id"] for batch in expected]
    torch.testing.assert_close(found[1]["image"], expected[1]["image"], rtol=0, atol=0)


@pytest.mark.parametrize(
    "said",
    [
        "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers "
        "are out of shared memory. Please try to raise your shared memory limit.",
        "unable to allocate shared memory(shm) for file </torch_7_39842_0>: No space left on device (28)",
        "unable to write to file </torch_7_39842_0>: No space left on device (28)",
    ],
)
def test_workers_without_room_for_their_batches(said: str) -> None:
    def batches() -> Iterator[None]:
        yield None
        raise RuntimeError(said)

    with pytest.raises(InputError, match=r"no room left for their batches in /dev/shm: enlarge it"):
        list(loader_module._with_plain_errors(batches()))


def test_other_errors_of_workers_stay_as_they_are() -> None:
    def batches() -> Iterator[None]:
        yield None
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")

    with pytest.raises(RuntimeError, match="Killed"):
        list(loader_module._with_plain_errors(batches()))


needs_forks = pytest.mark.skipif(not memory_is_shared(), reason="worker processes are not forked here")
_COUNT, _BATCH = 160, 4


class Numbered(Dataset[Any]):
    """Images that say which they are; from the middle on, larger ones."""

    def __len__(self) -> int:
        return _COUNT

    def __getitem__(self, index: int) -> Any:
        side = 8 if index < _COUNT // 2 else 12
        return {"image": torch.full((side, side, 3), index, dtype=torch.uint8), "image_id": str(index)}


def _loader() -> Any:
    return in_order_loader(Numbered(), collate_images, batch_size=_BATCH, num_workers=2)


def _require_whole(batch: Any) -> None:
    assert [image.unique().tolist() for image in batch["image"]] == [[int(n)] for n in batch["image_id"]]


@needs_forks
def test_memory_is_used_again_once_nobody_has_it() -> None:
    places = set()
    for number, batch in enumerate(_loader()):
        _require_whole(batch)
        if number < _COUNT // _BATCH // 2:
            places.add(batch["image"].data_ptr())
        del batch
    gc.collect()
    assert 1 <= len(places) <= 7  # of twenty batches: four on their way, three here


@needs_forks
def test_what_is_kept_keeps_its_values() -> None:
    """Batches, or parts of them only, however many: no worker writes where someone may still read."""
    loader = _loader()
    kept = [(batch["image_id"][1:], batch["image"][1:]) for batch in loader]
    for _ in range(2):  # others pass, from the same workers
        for batch in loader:
            _require_whole(batch)
    for names, images in kept:
        _require_whole({"image_id": names, "image": images})


@needs_forks
def test_an_abandoned_round_leaves_the_next_one_right() -> None:
    loader = _loader()
    for _ in range(5):
        for number, batch in enumerate(loader):
            _require_whole(batch)
            if number == 3:
                break


@needs_forks
def test_a_batch_that_goes_to_a_gpu_is_found_by_the_thread_that_pins_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = Pool(1)
    [request] = Requests([[0, 1]], pool)
    assert request.piece == 0
    pool.tensor(0, (2, 3), torch.float32).copy_(torch.arange(6.0).view(2, 3))
    monkeypatch.setattr(torch.Tensor, "pin_memory", torch.Tensor.clone)  # no GPU asked for page-locked memory
    pinned = torch.utils.data._utils.pin_memory.pin_memory(Placed(pool.number, 0, (2, 3), torch.float32))
    assert pinned.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert [request.piece for request in Requests([[0]], pool)] == [0]  # free again: pinned is a copy


@needs_forks
def test_images_of_different_sizes_make_no_batch() -> None:
    loader = in_order_loader(Numbered(), collate_images, batch_size=_COUNT, num_workers=1)
    with pytest.raises(ValueError, match=r"\(12, 12, 3\) and \(8, 8, 3\) in one batch"):
        list(loader)
