"""Zero-shot classification of VOC2007's test images: a captioner ranks one sentence per class.

A class's score is the probability of its sentence among those of all classes, from the sum or the mean of the
log probabilities of its tokens, in both reading directions together and in each alone. Figures are mAP, as in
the linear benchmark; nothing is trained. Names are split into the words that captions have.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

NAMES = {  # of VOC2007's classes, where captions have two words, or another one
    "diningtable": "dining table",
    "pottedplant": "potted plant",
    "tvmonitor": "tv monitor",
}
HEADLINE = "mAP"  # of the sum in both directions


def sentences(prompt: str, classes: Sequence[str]) -> list[str]:
    """Return ``prompt`` with each class, an article before it, in the place of ``{}``."""
    names = [NAMES.get(name, name.replace("_", " ")) for name in classes]
    return [prompt.replace("{}", f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}") for name in names]


def class_scores(
    sums: Mapping[str, NDArray[np.float32]], lengths: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """Return scores ``(num_images, num_classes)`` by the name of their figure, the headline first.

    Args:
        sums: log probabilities ``(num_images, num_classes)`` of the sentences, by direction.
        lengths: ``(num_classes,)``, tokens that they are sums over.
    """
    own = {direction: values.astype(np.float64) for direction, values in sums.items()}
    found = {HEADLINE: sum(own.values()), f"{HEADLINE}_mean": sum(own.values()) / (lengths * len(own))}
    if len(own) > 1:
        found |= {f"{HEADLINE}_{direction}": values for direction, values in own.items()}
    return {name: log_softmax(values, axis=1) for name, values in found.items()}
