"""Classes of an image by the votes of its nearest neighbours: a probe, and a first look at a checkpoint."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from components.benchmarks.shared.features import Features, l2_normalised

TEMPERATURE = 0.07
NEIGHBOURS = (20, 200)
CHUNK = 256  # images looked up at once


@torch.inference_mode()
def votes(
    train: Features,
    shown: NDArray[np.bool_],
    test: Features,
    device: torch.device | str,
    neighbours: Sequence[int] = NEIGHBOURS,
) -> dict[int, NDArray[np.float32]]:
    """Return the share of the votes for each class, ``(num_test, num_classes)``, by number of neighbours k.

    The k training images whose L2-normalised features have the highest cosine with those of an image vote
    for their classes, each with the weight ``exp(cosine / temperature)``. The temperature of 0.07 and k of 20
    and 200 are those of instance discrimination (arXiv 1805.01978). Votes are shares of all weights, so that
    images with several classes, VOC2007's, can be ranked by them too.

    Args:
        train: features ``(num_train, feature_size)`` of the images that vote; with fewer of them than
            neighbours all vote.
        shown: ``(num_train, num_classes)``, the classes that each of them shows.
        test: features ``(num_test, feature_size)`` of the images to classify.
        device: where to compute.
    """
    known = torch.from_numpy(l2_normalised(train)).to(device)
    classes = torch.from_numpy(shown).to(device)
    most = min(max(neighbours), len(known))
    shares: dict[int, list[NDArray[np.float32]]] = {k: [] for k in neighbours}
    for part in torch.from_numpy(l2_normalised(test)).split(CHUNK):
        cosines, nearest = (part.to(device) @ known.T).topk(most)  # (chunk, most), the nearest first
        weights = torch.exp((cosines - cosines[:, :1]) / TEMPERATURE)  # of the highest 1: the same shares
        for k in neighbours:
            own = weights[:, :k].unsqueeze(1)  # (chunk, 1, k)
            found = torch.bmm(own, classes[nearest[:, :k]].float()).squeeze(1) / own.sum(dim=2)
            shares[k].append(found.cpu().numpy())
    return {k: np.concatenate(parts) for k, parts in shares.items()}
