"""What pretraining sees and writes, as pictures for its record: images with texts below them."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch

from components.captioning.captioner import Captioner
from components.core.caption_tokens import MASK_ID
from components.core.pictures import draw_texts, spread
from components.data.batch import TargetSample
from components.data.dataset import TrainDataset, ValDataset
from components.data.image import Pixels
from components.data.normalisation import unnormalised
from components.text.tokenizer import CaptionTokenizer

BEAM_SIZE = 5  # as the paper decodes
TRAINING_SAMPLES = 12
CAPTIONED_IMAGES = 8


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


def picture_of_captions(
    captioner: Captioner, dataset: ValDataset, num_images: int = CAPTIONED_IMAGES
) -> Pixels:
    """Draw images spread over a validation set, with the captions that the model writes of them now.

    Below each, in brackets, is a reference caption. The model must be in eval mode.
    """
    positions = spread(len(dataset), num_images)
    samples = [dataset[position] for position in positions]
    written = [
        dataset.store.get(int(dataset.selection.indices[position])).captions[0] for position in positions
    ]
    images = torch.stack([sample["image"] for sample in samples])
    found = captioner.search(images, BEAM_SIZE)
    texts = [f"{best.text}\n({reference})" for (best,), reference in zip(found, written, strict=True)]
    return draw_texts([unnormalised(image).numpy() for image in images], texts)
