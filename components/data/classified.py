"""Images with one class each: samples by training visit or in order, and their batches."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from components.data.batch import ImageBatch, ImageSample, collate_images
from components.data.dataset import ImageDataset, read_image
from components.data.sampling import Visits
from components.data.transforms import EvalTransform, TrainTransform
from components.sources.readers.types import ClassifiedImages


class LabelledSample(ImageSample):
    """An image with the index of its class."""

    label: int


class LabelledBatch(ImageBatch):
    """Images with their labels ``(batch,)`` int64."""

    label: Tensor


class ClassifiedTrainDataset(Dataset[LabelledSample]):
    """Training samples by visit (components.data.sampling), so it has no length.

    A visit sees its image with a crop and flip drawn from the visit's own generator.
    """

    def __init__(self, images: ClassifiedImages, transform: TrainTransform, seed: int) -> None:
        self.images = images
        self.transform = transform
        self.visits = Visits(len(images.image_paths), seed)

    def __getitem__(self, visit: int) -> LabelledSample:
        index = self.visits.image(visit)
        path = self.images.image_paths[index]
        pixels, _ = self.transform(read_image(path, self.images.upright), "", self.visits.generator(visit))
        return {
            "image": torch.from_numpy(pixels),
            "image_id": path.stem,
            "label": int(self.images.labels[index]),
        }


class ClassifiedDataset(Dataset[LabelledSample]):
    """Every image in its order with its label; nothing random."""

    def __init__(self, images: ClassifiedImages, transform: EvalTransform) -> None:
        self.images = ImageDataset(images.image_paths, transform, images.upright)
        self.labels = images.labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> LabelledSample:
        return {**self.images[index], "label": int(self.labels[index])}


def collate_labelled(samples: Sequence[LabelledSample]) -> LabelledBatch:
    """Make one batch of images of equal size."""
    return {**collate_images(samples), "label": torch.tensor([sample["label"] for sample in samples])}
