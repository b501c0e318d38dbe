from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from components.core.errors import InputError
from components.data.classified import ClassifiedDataset, ClassifiedTrainDataset, collate_labelled
from components.data.loader import in_order_loader, visit_loader
from components.data.transforms import EvalTransform, TrainTransform
from components.params import Augmentation
from components.sources.readers.imagenet import read_imagenet
from components.sources.readers.types import ClassifiedImages


@pytest.fixture
def images(make_images) -> ClassifiedImages:
    pictures = make_images(6)
    labels = np.array([0, 0, 1, 1, 2, 2])
    return ClassifiedImages([picture.path for picture in pictures], ("a", "b", "c"), labels)


@pytest.fixture
def train_dataset(images: ClassifiedImages, augmentation: Augmentation) -> ClassifiedTrainDataset:
    return ClassifiedTrainDataset(images, TrainTransform(augmentation), seed=3)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_training_goes_on_exactly_where_it_was(
    train_dataset: ClassifiedTrainDataset, num_workers: int
) -> None:
    def batches(start: int, workers: int) -> list:
        return list(
            visit_loader(
                train_dataset,
                collate_labelled,
                batch_size=4,
                start_iteration=start,
                num_iterations=5,
                num_workers=workers,
            )
        )

    for expected, batch in zip(batches(0, 0)[2:], batches(2, num_workers), strict=True):
        assert batch["image_id"] == expected["image_id"]
        torch.testing.assert_close(batch["image"], expected["image"], rtol=0, atol=0)
        torch.testing.assert_close(batch["label"], expected["label"], rtol=0, atol=0)


def test_each_epoch_visits_every_image_once_with_its_label(train_dataset: ClassifiedTrainDataset) -> None:
    for epoch in range(3):
        samples = [train_dataset[6 * epoch + position] for position in range(6)]
        assert sorted(sample["image_id"] for sample in samples) == [f"{index:03}" for index in range(6)]
        assert all(sample["label"] == int(sample["image_id"]) // 2 for sample in samples)


def test_two_visits_of_an_image_are_augmented_differently(train_dataset: ClassifiedTrainDataset) -> None:
    samples = [train_dataset[visit] for visit in range(12)]
    first, second = (sample["image"] for sample in samples if sample["image_id"] == "003")
    assert not torch.equal(first, second)


def test_in_order_with_labels(images: ClassifiedImages) -> None:
    loader = in_order_loader(
        ClassifiedDataset(images, EvalTransform(36, 32)), collate_labelled, batch_size=4, num_workers=0
    )
    first, last = loader
    assert first["image"].shape == (4, 3, 32, 32)
    assert torch.cat([first["label"], last["label"]]).tolist() == [0, 0, 1, 1, 2, 2]
    assert last["label"].dtype == torch.int64


def test_an_unreadable_image_is_named(images: ClassifiedImages) -> None:
    images.image_paths[1].write_bytes(b"no image")
    with pytest.raises(InputError, match=r"001\.jpg: cannot be read"):
        ClassifiedDataset(images, EvalTransform(36, 32))[1]


def test_real_classes(shared_dir: Path) -> None:
    images = read_imagenet(shared_dir / "data" / "real" / "imagenette", "val")
    dataset = ClassifiedDataset(images, EvalTransform(64, 64))
    samples = [dataset[index] for index in range(0, len(dataset), 40)]
    assert {sample["label"] for sample in samples} <= set(range(10))
    assert all(sample["image"].isfinite().all() for sample in samples)


@pytest.mark.parametrize("upright", [True, False])
def test_turned_photographs(images: ClassifiedImages, augmentation: Augmentation, upright: bool) -> None:
    path = images.image_paths[0]
    with Image.open(path) as picture:
        exif = picture.getexif()
        exif[0x0112] = 3
        picture.save(path.with_name("turned.jpg"), exif=exif.tobytes(), quality=95)
        picture.save(path.with_name("plain.jpg"), quality=95)
    turned, plain = (
        ClassifiedImages([path.with_name(f"{name}.jpg")], ("a",), np.array([0]), upright)
        for name in ("turned", "plain")
    )
    transform = EvalTransform(32, 32)
    found, expected = (ClassifiedDataset(one, transform)[0]["image"] for one in (turned, plain))
    assert torch.equal(found, expected.flip(1, 2) if upright else expected)
    first, second = (
        ClassifiedTrainDataset(one, TrainTransform(augmentation), seed=3)[0]["image"]
        for one in (turned, plain)
    )
    assert torch.equal(first, second) != upright
