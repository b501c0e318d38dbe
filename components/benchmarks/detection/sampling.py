"""Chance in torchvision's detectors, image by image: how images are dealt to processes does not matter."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.transform import GeneralizedRCNNTransform

_STREAM = 1  # keeps these numbers apart from those of the images' order


class Draws:
    """The random numbers of the images in the iteration in progress, and what was drawn with them.

    Attributes:
        generators: of each image, depends on the seed and its visit alone.
        anchors: anchors that the region proposal network's losses are means over, on the device.
        regions: regions that the box head's losses are means over.
        objects: regions that the mask head's loss is a mean over.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.generators: list[torch.Generator] = []
        self.anchors = self.regions = self.objects = torch.zeros(())

    def begin(self, visits: Sequence[int], device: torch.device) -> None:
        """Start the numbers of an iteration's images, given by how many the run has seen before each."""
        self.generators = [torch.Generator(device).manual_seed(self._number(visit)) for visit in visits]

    def _number(self, visit: int) -> int:
        sequence = np.random.SeedSequence(self.seed, spawn_key=(_STREAM, visit))
        return int(sequence.generate_state(1, np.uint64)[0] >> 1)


class _Sampler:
    """Positives and negatives to train on, as torchvision's own sampler chooses them."""

    def __init__(self, draws: Draws, num_samples: int, positive_fraction: float, is_rpn: bool) -> None:
        self.draws = draws
        self.num_samples = num_samples
        self.num_positives = int(num_samples * positive_fraction)
        self.is_rpn = is_rpn

    def __call__(self, labels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return masks, uint8, of the chosen positives and negatives of each image; -1 is neither."""
        positives, negatives = [], []
        for of_image, generator in zip(labels, self.draws.generators, strict=True):
            positives.append(_choose(of_image >= 1, self.num_positives, generator))
            left = self.num_samples - int(positives[-1].sum())
            negatives.append(_choose(of_image == 0, left, generator))
        num_positives = torch.stack([chosen.sum() for chosen in positives]).sum()
        total = num_positives + torch.stack([chosen.sum() for chosen in negatives]).sum()
        if self.is_rpn:
            self.draws.anchors = total
        else:
            self.draws.regions, self.draws.objects = total, num_positives
        return positives, negatives


class _Transform(GeneralizedRCNNTransform):
    """Draws the shorter side of each training image from the image's own numbers."""

    def __init__(self, given: GeneralizedRCNNTransform, draws: Draws) -> None:
        super().__init__(given.min_size, given.max_size, given.image_mean, given.image_std)
        self.draws = draws
        self._position = 0

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> object:
        self._position = 0
        return super().forward(images, targets)

    def torch_choice(self, k: Sequence[int]) -> int:
        generator = self.draws.generators[self._position]
        self._position += 1
        number = torch.randint(len(k), (), generator=generator, device=generator.device)
        return k[int(number)]


def draw_by_image(model: GeneralizedRCNN, seed: int) -> Draws:
    """Have a detector draw image sizes, anchors and regions by image from now on, in training.

    Args:
        model: torchvision's ``FasterRCNN`` or ``MaskRCNN``.
        seed: of all draws.

    Returns:
        what must ``begin`` before each training batch.
    """
    draws = Draws(seed)
    for part, is_rpn in ((model.rpn, True), (model.roi_heads, False)):
        theirs = part.fg_bg_sampler
        part.fg_bg_sampler = _Sampler(draws, theirs.batch_size_per_image, theirs.positive_fraction, is_rpn)
    model.transform = _Transform(model.transform, draws)
    return draws


def _choose(candidates: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return a uint8 mask of ``count`` of the candidates, or of all where there are fewer."""
    indices = torch.where(candidates)[0]
    order = torch.randperm(len(indices), generator=generator, device=indices.device)
    chosen = torch.zeros_like(candidates, dtype=torch.uint8)
    chosen[indices[order[:count]]] = 1
    return chosen
