"""The probes of a captioner, by how likely it finds given texts, or of a contrastive model, by how alike.

Nothing is trained. Zero-shot classification of VOC2007's test images ranks one sentence per class. Names of
classes are split into the words that captions have; figures are mAP, as in the linear benchmark.

Retrieval asks which of all images a caption was written for, and which caption an image has. Of each image
the first caption is used. Figures are recall at 1, 5 and 10 in percent.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp
from torch.utils.data import Dataset, Subset
from tqdm import tqdm

from components.benchmarks.probes import examples
from components.benchmarks.probes.examples import Examples
from components.benchmarks.probes.likelihood import SIMILARITY, Texts, log_probabilities, texts_by_direction
from components.benchmarks.probes.result import Probed, means, ranked_classes
from components.captioning.captioner import Model
from components.core import machine
from components.data.batch import collate_images
from components.data.dataset import ImageDataset
from components.data.loader import in_order_loader
from components.data.store import CaptionStore
from components.sources.readers.voc import VocSplit

DEPTHS = (1, 5, 10)
FIGURES = (  # those that every captioner may have
    "zero_shot.mAP",
    "zero_shot.mAP_mean",
    *(f"retrieval.{way}_R{depth}" for way in ("to_text", "to_image") for depth in DEPTHS),
)
NAMES = {  # of VOC2007's classes, where captions have two words, or another one
    "diningtable": "dining table",
    "pottedplant": "potted plant",
    "tvmonitor": "tv monitor",
}
HEADLINE = "mAP"  # of the sum in both directions


def zero_shot(model: Model, test: VocSplit, prompt: str, batch_size: int) -> tuple[Probed, Examples]:
    """Rank the test images of each class by how likely its sentence is; return figures and some images.

    Raises:
        InputError: if a sentence is longer than the model's captions.
    """
    texts = texts_by_direction(model, sentences(prompt, test.classes), whole=True)
    images = ImageDataset(test.image_paths, model.transform)
    found = _likelihoods(model, images, len(test.image_paths), texts, batch_size, "zero-shot")
    lengths = next(iter(texts.values())).lengths.cpu().numpy() - 1
    scores = {f"zero_shot.{name}": own for name, own in class_scores(found, lengths).items()}
    probed = ranked_classes([f"voc2007/{path.stem}" for path in test.image_paths], test.labels, scores)
    return probed, examples.of_classes(test, scores[f"zero_shot.{HEADLINE}"])


def retrieval(
    model: Model, store: CaptionStore, indices: Sequence[int], batch_size: int
) -> tuple[Probed, Examples]:
    """Find the image of a caption and the caption of an image among the records ``indices``."""
    records = [store.get(index) for index in indices]
    texts = texts_by_direction(model, [record.captions[0] for record in records], whole=False)
    images = Subset(ImageDataset(store, model.transform), indices)
    found = _likelihoods(model, images, len(indices), texts, batch_size, "retrieval")
    of_images, of_texts = pair_scores(found)
    found_ranks = {"to_image": ranks(of_images.T), "to_text": ranks(of_texts)}
    hits = {f"retrieval.{name}": values for name, values in recalls(found_ranks).items()}
    chance = {name: min(100.0, 100.0 * int(name.rpartition("R")[2]) / len(records)) for name in hits}
    probed = means([record.image_id for record in records], hits, chance)
    return probed, examples.of_captions(records, of_texts, found_ranks["to_text"])


def _likelihoods(
    model: Model,
    images: Dataset[Any],
    num_images: int,
    texts: Mapping[str, Texts],
    batch_size: int,
    description: str,
) -> dict[str, NDArray[np.float32]]:
    """Return log probabilities, or similarities, ``(num_images, num_texts)`` by direction."""
    loader = in_order_loader(images, collate_images, batch_size=batch_size, num_workers=machine.num_cpus())
    parts: dict[str, list[NDArray[np.float32]]] = {direction: [] for direction in texts}
    with tqdm(total=num_images, desc=description, unit="image", mininterval=1.0) as bar:
        for batch in loader:
            for direction, found in log_probabilities(model, batch["image"], texts).items():
                parts[direction].append(found.cpu().numpy())
            bar.update(len(batch["image"]))
    return {direction: np.concatenate(found) for direction, found in parts.items()}


def pair_scores(
    sums: Mapping[str, NDArray[np.float32]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return scores ``(num_images, num_captions)`` by which images are ranked, and by which captions are.

    Images are ranked by the log probability that the captioner gives the caption on them. Captions are ranked
    by how much more probable the image makes them than all images do on average, since a short and common
    sentence is probable everywhere. Similarities are ranked as they are.

    Args:
        sums: log probabilities, or similarities, ``(num_images, num_captions)`` by direction.
    """
    scores = np.sum([values.astype(np.float64) for values in sums.values()], axis=0)
    if SIMILARITY in sums:
        return scores, scores
    return scores, scores - (logsumexp(scores, axis=0) - np.log(len(scores)))


def recalls(found: Mapping[str, NDArray[np.int64]]) -> dict[str, NDArray[np.floating]]:
    """Return 100 where the right one is among the first few, else 0, by name such as ``to_text_R5``."""
    return {f"{name}_R{depth}": 100.0 * (own < depth) for name, own in found.items() for depth in DEPTHS}


def ranks(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rank the diagonal of ``(num_queries, num_candidates)`` within its row, from 0, of equals half."""
    right = np.diagonal(scores)[:, None]
    return (scores > right).sum(axis=1) + ((scores == right).sum(axis=1) - 1) // 2


def sentences(prompt: str, classes: Sequence[str]) -> list[str]:
    """Return ``prompt`` with each class, an article before it, in the place of ``{}``."""
    names = [NAMES.get(name, name.replace("_", " ")) for name in classes]
    return [prompt.replace("{}", f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}") for name in names]


def class_scores(
    sums: Mapping[str, NDArray[np.float32]], lengths: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """Return scores ``(num_images, num_classes)`` by the name of their figure, the headline first.

    A class's score is the probability of its sentence among those of all classes, from the sum or the mean of
    the log probabilities of its tokens, in both reading directions together and in each alone; a similarity
    is its own score.

    Args:
        sums: log probabilities, or similarities, ``(num_images, num_classes)`` of sentences, by direction.
        lengths: ``(num_classes,)``, tokens that they are sums over.
    """
    if SIMILARITY in sums:
        return {HEADLINE: sums[SIMILARITY].astype(np.float64)}
    own = {direction: values.astype(np.float64) for direction, values in sums.items()}
    found = {HEADLINE: sum(own.values()), f"{HEADLINE}_mean": sum(own.values()) / (lengths * len(own))}
    if len(own) > 1:
        found |= {f"{HEADLINE}_{direction}": values for direction, values in own.items()}
    return {name: log_softmax(values, axis=1) for name, values in found.items()}
