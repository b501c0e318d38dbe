"""Samples for the torchvision engine: pixels, boxes and masks, and all that is drawn for each at random.

The seed, and how many images the run has seen before, decide order, flips, sizes, anchors and regions: how
images are dealt to processes does not matter. Images with rare categories may be visited more often
(repeat-factor sampling of LVIS, arXiv 1908.03195).
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as run_lengths
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from components.benchmarks.detection.data import DetectionImage, DetectionObject
from components.core.errors import InputError
from components.data.image import DecodeError, Pixels, decode
from components.sources.readers.objects import encode_mask
from components.training.distributed import Processes

_STREAM = 1  # keeps the numbers of `Draws` apart from those of the images' order


class Target(TypedDict, total=False):
    """What torchvision's detectors train on.

    Attributes:
        boxes: ``(objects, 4)`` float32, left, top, right, bottom in pixels.
        labels: ``(objects,)`` int64, from 1; 0 is the background.
        masks: ``(objects, height, width)`` uint8, only where the dataset has them.
    """

    boxes: Tensor
    labels: Tensor
    masks: Tensor


Sample = tuple[Tensor, Target]


class TrainSamples(Dataset[Sample]):
    """Samples by (image index, whether to mirror it); images without objects are never asked for."""

    def __init__(self, images: Sequence[DetectionImage], with_masks: bool) -> None:
        self.images = images
        self.with_masks = with_masks

    def __getitem__(self, visit: tuple[int, bool]) -> Sample:
        index, is_mirrored = visit
        image = self.images[index]
        pixels = read_pixels(image)
        objects = [item for item in image.objects if not item.is_crowd]
        target = self._target(objects, image)
        if is_mirrored:
            pixels, target = _mirrored(pixels, target)
        return as_tensor(pixels), target

    def _target(self, objects: Sequence[DetectionObject], image: DetectionImage) -> Target:
        boxes = torch.tensor([item.box for item in objects], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 0::2].clamp_(0, image.width)
        boxes[:, 1::2].clamp_(0, image.height)
        target: Target = {"boxes": boxes, "labels": torch.tensor([item.label + 1 for item in objects])}
        if self.with_masks:
            masks = [torch.from_numpy(decode_mask(item.segmentation, image)) for item in objects]
            target["masks"] = torch.stack(masks)
        return target


class TestImages(Dataset[tuple[Tensor, int]]):
    """Images in order with their indices."""

    __test__ = False  # not a test case, whatever its name

    def __init__(self, images: Sequence[DetectionImage]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return as_tensor(read_pixels(self.images[index])), index


class Visits:
    """Image indices and mirror flips of each iteration, from the seed alone.

    An epoch has its own order; a run that starts at any iteration sees what an uninterrupted one sees.

    Args:
        factors: average visits per epoch of each image; 0 for one that is never visited.
        seed: of order and flips.
        batch_size: images per iteration.
    """

    def __init__(self, factors: NDArray[np.float64], seed: int, batch_size: int) -> None:
        self.factors = factors
        self.seed = seed
        self.batch_size = batch_size

    def batches(self, start_iteration: int, num_iterations: int) -> Iterator[list[tuple[int, bool]]]:
        """Yield the visits of iterations ``start_iteration`` to ``num_iterations - 1``."""
        visits = self._visits()
        for iteration in range(num_iterations):
            batch = [next(visits) for _ in range(self.batch_size)]
            if iteration >= start_iteration:
                yield batch

    def numbers(self, iteration: int) -> range:
        """Return how many visits the run has made before each of the iteration's own."""
        return range(iteration * self.batch_size, (iteration + 1) * self.batch_size)

    def _visits(self) -> Iterator[tuple[int, bool]]:
        epoch = 0
        while True:
            rng = np.random.default_rng([self.seed, epoch])
            order = epoch_order(self.factors, rng)
            yield from zip(order.tolist(), (rng.random(len(order)) < 0.5).tolist(), strict=True)
            epoch += 1


def repeat_factors(images: Sequence[DetectionImage], threshold: float) -> NDArray[np.float64]:
    """Return how often to visit each image in an epoch, on average; at least 1.

    With ``f`` the share of the images that show a category, the category's factor is
    ``max(1, sqrt(threshold / f))``, and an image's is the largest of its categories.

    Args:
        images: all training images.
        threshold: share of the images below which a category counts as rare; 0 gives 1 everywhere.
    """
    present = [{item.label for item in image.objects if not item.is_crowd} for image in images]
    counts = Counter(label for labels in present for label in labels)
    factors = {label: max(1.0, math.sqrt(threshold * len(images) / count)) for label, count in counts.items()}
    return np.array([max((factors[label] for label in labels), default=1.0) for labels in present])


def epoch_order(factors: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return image indices of an epoch in random order; a factor's fraction is an extra visit by chance."""
    whole = np.floor(factors).astype(np.int64)
    repeats = whole + (rng.random(len(factors)) < factors - whole)
    return rng.permutation(np.repeat(np.arange(len(factors)), repeats))


def train_batches(
    samples: TrainSamples, visits: Visits, iterations: range, num_workers: int, processes: Processes
) -> Iterator[dict[str, Any]]:
    """Yield this process's part of each iteration's samples.

    Yields:
        ``image``, tensors ``(3, height, width)``; ``target``, a ``Target`` of each; ``visit``, int64
        ``(images,)``, how many visits the run has made before each.
    """
    part = slice(processes.rank, None, processes.count)
    chosen = visits.batches(iterations.start, iterations.stop)
    loader: DataLoader[Any] = DataLoader(
        samples,
        batch_sampler=[batch[part] for batch in chosen],
        collate_fn=list,
        num_workers=num_workers,
        generator=torch.Generator().manual_seed(0),
        worker_init_fn=_start_worker,
    )
    for iteration, batch in zip(iterations, loader, strict=True):
        images, targets = zip(*batch, strict=True)
        numbers = torch.tensor(visits.numbers(iteration)[part])
        yield {"image": list(images), "target": list(targets), "visit": numbers}


def _start_worker(_worker: int) -> None:
    torch.set_num_threads(1)


def read_pixels(image: DetectionImage) -> Pixels:
    """Decode an image: upright, or as stored where only so it has the size that its annotation says.

    Tools for boxes differ: most show a picture upright, some as it is stored.

    Raises:
        InputError: it cannot be read, or is of another size than its annotation says.
    """
    try:
        data = image.path.read_bytes()
        pixels = decode(data)
        if pixels.shape[:2] != (image.height, image.width):
            pixels = decode(data, upright=False)
    except (OSError, DecodeError) as error:
        raise InputError(f"{image.path}: cannot be read as an image: {error}") from error
    if pixels.shape[:2] != (image.height, image.width):
        raise InputError(
            f"{image.path}: is {pixels.shape[1]} x {pixels.shape[0]} pixels, but its annotation says "
            f"{image.width} x {image.height}"
        )
    return pixels


def as_tensor(pixels: Pixels) -> Tensor:
    """Return float32 ``(3, height, width)`` from 0 to 1; torchvision's detectors normalise and resize."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).contiguous().float() / 255


def decode_mask(segmentation: Any, image: DetectionImage) -> NDArray[np.uint8]:
    """Return polygons or run lengths as uint8 ``(height, width)``."""
    mask: NDArray[np.uint8] = run_lengths.decode(encode_mask(segmentation, image.width, image.height))
    return mask


def _mirrored(pixels: Pixels, target: Target) -> tuple[Pixels, Target]:
    width = pixels.shape[1]
    boxes = target["boxes"].clone()
    boxes[:, [0, 2]] = width - target["boxes"][:, [2, 0]]
    mirrored: Target = {**target, "boxes": boxes}
    if "masks" in target:
        mirrored["masks"] = target["masks"].flip(-1)
    return pixels[:, ::-1], mirrored


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
