import gc
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset

from components.data.batch import collate_images
from components.data.loader import in_order_loader
from components.data.shared_memory import Placed, Pool, is_possible

pytestmark = pytest.mark.skipif(not is_possible(), reason="worker processes are not forked here")

_COUNT, _BATCH = 160, 4


class Numbered(Dataset[Any]):
    """Images that say which they are; from the middle on, larger ones."""

    def __len__(self) -> int:
        return _COUNT

    def __getitem__(self, index: int) -> Any:
        side = 8 if index < _COUNT // 2 else 12
        return {"image": torch.full((side, side, 3), index, dtype=torch.uint8), "image_id": str(index)}


def _loader(workers: int = 2) -> Any:
    return in_order_loader(Numbered(), collate_images, batch_size=_BATCH, num_workers=workers)


def _require_whole(batch: Any) -> None:
    assert [image.unique().tolist() for image in batch["image"]] == [[int(n)] for n in batch["image_id"]]


def test_memory_is_used_again_once_nobody_has_it() -> None:
    places = set()
    for number, batch in enumerate(_loader()):
        _require_whole(batch)
        if number < _COUNT // _BATCH // 2:
            places.add(batch["image"].data_ptr())
        del batch
    gc.collect()
    assert 1 <= len(places) <= 7  # of twenty batches: four on their way, three here


def test_what_is_kept_keeps_its_values() -> None:
    """Batches, or parts of them only, however many: no worker writes where someone may still read."""
    loader = _loader()
    kept = [(batch["image_id"][1:], batch["image"][1:]) for batch in loader]
    for _ in range(2):  # others pass, from the same workers
        for batch in loader:
            _require_whole(batch)
    for names, images in kept:
        _require_whole({"image_id": names, "image": images})


def test_an_abandoned_round_leaves_the_next_one_right() -> None:
    loader = _loader()
    for _ in range(5):
        for number, batch in enumerate(loader):
            _require_whole(batch)
            if number == 3:
                break


def test_a_batch_that_goes_to_a_gpu_is_found_by_the_thread_that_pins_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = Pool(1)
    [request] = pool.requests([[0, 1]])
    assert request.piece == 0
    pool.tensor(0, (2, 3), torch.float32).copy_(torch.arange(6.0).view(2, 3))
    monkeypatch.setattr(torch.Tensor, "pin_memory", torch.Tensor.clone)  # no GPU asked for page-locked memory
    pinned = torch.utils.data._utils.pin_memory.pin_memory(Placed(pool.number, 0, (2, 3), torch.float32))
    assert pinned.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert [request.piece for request in pool.requests([[0]])] == [0]  # free again: pinned is a copy


def test_images_of_different_sizes_make_no_batch() -> None:
    loader = in_order_loader(Numbered(), collate_images, batch_size=_COUNT, num_workers=1)
    with pytest.raises(ValueError, match=r"\(12, 12, 3\) and \(8, 8, 3\) in one batch"):
        list(loader)
