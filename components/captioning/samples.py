"""What pretraining sees and writes, as pictures for its record: images with texts below them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch

from components.captioning.captioner import Captioner
from components.core.caption_tokens import MASK_ID
from components.core.foreign_text import said
from components.core.pictures import draw_texts, spread, write_picture
from components.data.batch import TargetSample
from components.data.dataset import TrainDataset, ValDataset
from components.data.image import Pixels
from components.data.normalisation import unnormalised
from components.text.tokenizer import CaptionTokenizer

BEAM_SIZE = 5  # as the paper decodes
TRAINING_SAMPLES = 12
CAPTIONED_IMAGES = 8
PRINTED_CAPTIONS = 3


def taught(sample: TargetSample, tokenizer: CaptionTokenizer, categories: Sequence[str] = ()) -> str:
    """Put into words what a sample teaches: its caption, with [MASK] where pieces are hidden, or its labels.

    Args:
        sample: of a `TrainDataset`.
        tokenizer: of its caption tokens.
        categories: names of its labels, from number 1 on.
    """
    targets: Mapping[str, list[int] | int] = sample["targets"]
    labels = targets.get("labels")
    if isinstance(labels, list):
        return ", ".join(categories[label - 1] for label in labels)
    tokens = targets.get("masked_tokens", targets.get("caption_tokens"))
    assert isinstance(tokens, list)
    masks = [-1, *(index for index, token in enumerate(tokens) if token == MASK_ID), len(tokens)]
    parts = [tokens[start + 1 : end] for start, end in pairwise(masks)]
    return " [MASK] ".join(map(tokenizer.decode, parts)).strip()


def picture_of_samples(
    dataset: TrainDataset, tokenizer: CaptionTokenizer, num_samples: int = TRAINING_SAMPLES
) -> Pixels:
    """Draw the first samples of a training run as the model receives them, each with what it teaches."""
    samples = [dataset[visit] for visit in range(num_samples)]
    categories = dataset.store.metadata.categories
    texts = [taught(sample, tokenizer, categories) for sample in samples]
    return draw_texts([sample["image"].numpy() for sample in samples], texts)


@dataclass(frozen=True, slots=True)
class CaptionedSamples:
    """Captioned images ``(height, width, 3)`` uint8, what a model writes of each, what a person wrote."""

    images: list[Pixels]
    written: list[str]
    references: list[str]

    def picture(self) -> Pixels:
        """Draw them, the model's caption below each and in brackets the person's."""
        texts = [f"{ours}\n({theirs})" for ours, theirs in zip(self.written, self.references, strict=True)]
        return draw_texts(self.images, texts)

    def show(self, iteration: int, path: Path) -> Pixels:
        """Write the picture, print where it is and what it shows first, and return it."""
        picture = self.picture()
        write_picture(path, picture)
        print(f"iteration {iteration}: captions of {len(self.images)} validation images: {path}", flush=True)
        for ours, theirs in list(zip(self.written, self.references, strict=True))[:PRINTED_CAPTIONS]:
            print(f"iteration {iteration} writes: {said(ours)} (a person: {said(theirs)})", flush=True)
        return picture


def caption_samples(captioner: Captioner, dataset: ValDataset) -> CaptionedSamples:
    """Caption images spread over a validation set. The model must be in eval mode."""
    positions = spread(len(dataset), CAPTIONED_IMAGES)
    samples = [dataset[position] for position in positions]
    references = [
        dataset.store.get(int(dataset.selection.indices[position])).captions[0] for position in positions
    ]
    found = captioner.search(torch.stack([sample["image"] for sample in samples]), BEAM_SIZE)
    images = [unnormalised(sample["image"]).numpy() for sample in samples]
    return CaptionedSamples(images, [best.text for (best,) in found], references)
