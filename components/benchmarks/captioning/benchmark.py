"""Captions of stored images, written by a pretrained model."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.utils.data import Subset
from tqdm import tqdm

from components.captioning.captioner import Captioner
from components.core.errors import InputError
from components.data.dataset import ImageDataset
from components.data.loader import image_loader
from components.data.store import CaptionStore


@dataclass(frozen=True, slots=True)
class WrittenCaption:
    """A model's caption; ``log_probability`` is natural, summed over its tokens, [EOS] included."""

    image_id: str
    caption: str
    log_probability: float


def images_of_dataset(store: CaptionStore, dataset: str, max_images: int | None = None) -> list[int]:
    """Indices of the first ``max_images`` records of ``dataset``, or of all.

    Raises:
        InputError: if the store has no image of the dataset; names those it has.
    """
    indices: list[int] = []
    seen: set[str] = set()
    for index, record in enumerate(store):
        seen.add(record.dataset)
        if record.dataset == dataset:
            indices.append(index)
            if len(indices) == max_images:
                break
    if not indices:
        raise InputError(
            f"caption.dataset: {store.path} has no images of {dataset!r}; "
            f"expected one of {', '.join(sorted(seen)) or 'none, it is empty'}"
        )
    return indices


def caption_images(
    captioner: Captioner,
    store: CaptionStore,
    indices: Sequence[int],
    *,
    beam_size: int,
    batch_size: int,
    num_workers: int,
) -> list[WrittenCaption]:
    """Beam-search captions of the records ``indices``, in that order, with a progress bar.

    Args:
        captioner: the model.
        store: where the images are.
        indices: of the records.
        beam_size: captions kept an image while searching.
        batch_size: images searched at once.
        num_workers: processes that decode images; 0 decodes in this one.

    Raises:
        InputError: if an image cannot be decoded or the beam is too wide for the vocabulary.
    """
    on_gpu = torch.device(captioner.device).type == "cuda"
    dataset = Subset(ImageDataset(store, captioner.transform), indices)
    loader = image_loader(
        dataset,  # type: ignore[arg-type]  # a part of an ImageDataset is read like a whole one
        batch_size=batch_size,
        num_workers=num_workers,
        pin_memory=on_gpu,
    )
    captions: list[WrittenCaption] = []
    with tqdm(total=len(indices), desc="captions", unit="image") as bar:
        for batch in loader:
            found = captioner.search(batch["image"], beam_size)
            captions += [
                WrittenCaption(image_id, best.text, best.log_probability)
                for image_id, (best,) in zip(batch["image_id"], found, strict=True)
            ]
            bar.update(len(found))
    return captions
