"""The probes of a captioner: zero-shot classification of VOC2007, and retrieval among captioned images."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Subset
from tqdm import tqdm

from components.benchmarks.probes.likelihood import Texts, log_probabilities, texts_by_direction
from components.benchmarks.probes.result import Probed, means, ranked_classes
from components.benchmarks.probes.retrieval import DEPTHS, ranks, recalls
from components.benchmarks.probes.zero_shot import class_scores, sentences
from components.captioning.captioner import Captioner
from components.core import machine
from components.data.batch import collate_images
from components.data.dataset import ImageDataset
from components.data.loader import in_order_loader
from components.data.store import CaptionStore
from components.sources.readers.voc import VocSplit

FIGURES = (  # those that every captioner may have
    "zero_shot.mAP",
    "zero_shot.mAP_mean",
    *(f"retrieval.{way}_R{depth}" for way in ("to_text", "to_image") for depth in DEPTHS),
)


def zero_shot(captioner: Captioner, test: VocSplit, prompt: str, batch_size: int) -> Probed:
    """Rank the test images of each class by how likely its sentence is.

    Raises:
        InputError: if a sentence is longer than the model's captions.
    """
    texts = texts_by_direction(captioner, sentences(prompt, test.classes), whole=True)
    images = ImageDataset(test.image_paths, captioner.transform)
    found = _likelihoods(captioner, images, len(test.image_paths), texts, batch_size, "zero-shot")
    lengths = texts["forward"].lengths.cpu().numpy() - 1
    scores = {f"zero_shot.{name}": own for name, own in class_scores(found, lengths).items()}
    return ranked_classes([f"voc2007/{path.stem}" for path in test.image_paths], test.labels, scores)


def retrieval(captioner: Captioner, store: CaptionStore, indices: Sequence[int], batch_size: int) -> Probed:
    """Find the image of a caption and the caption of an image among the records ``indices``."""
    records = [store.get(index) for index in indices]
    texts = texts_by_direction(captioner, [record.captions[0] for record in records], whole=False)
    images = Subset(ImageDataset(store, captioner.transform), indices)
    found = _likelihoods(captioner, images, len(indices), texts, batch_size, "retrieval")
    hits = {f"retrieval.{name}": values for name, values in recalls(ranks(found)).items()}
    chance = {name: min(100.0, 100.0 * int(name.rpartition("R")[2]) / len(records)) for name in hits}
    return means([record.image_id for record in records], hits, chance)


def _likelihoods(
    captioner: Captioner,
    images: Dataset[Any],
    num_images: int,
    texts: Mapping[str, Texts],
    batch_size: int,
    description: str,
) -> dict[str, NDArray[np.float32]]:
    """Return log probabilities ``(num_images, num_texts)`` by direction."""
    loader = in_order_loader(
        images,
        collate_images,
        batch_size=batch_size,
        num_workers=machine.num_cpus(),
        pin_memory=torch.device(captioner.device).type == "cuda",
    )
    parts: dict[str, list[NDArray[np.float32]]] = {direction: [] for direction in texts}
    with tqdm(total=num_images, desc=description, unit="image", mininterval=1.0) as bar:
        for batch in loader:
            for direction, found in log_probabilities(captioner, batch["image"], texts).items():
                parts[direction].append(found.cpu().numpy())
            bar.update(len(batch["image"]))
    return {direction: np.concatenate(found) for direction, found in parts.items()}
