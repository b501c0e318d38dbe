from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from components.core.errors import InputError
from components.data.batch import TargetSample
from components.data.build import build_store
from components.data.dataset import (
    ClassifiedDataset,
    ClassifiedTrainDataset,
    ImageDataset,
    TrainDataset,
    ValDataset,
    collate_labelled,
)
from components.data.loader import in_order_loader, visit_loader
from components.data.record import StoreForm
from components.data.selection import select
from components.data.store import CaptionStore
from components.data.targets import make_targets
from components.data.transforms import EvalTransform, TrainTransform
from components.params import Augmentation, Subset
from components.sources.readers.imagenet import read_imagenet
from components.sources.readers.types import ClassifiedImages

MakeTrainDataset = Callable[..., TrainDataset]


@pytest.fixture
def train_dataset(store: CaptionStore, augmentation, letters) -> MakeTrainDataset:
    """A function that makes datasets of captioning; keywords choose a subset."""

    def make(seed: int = 0, **choice: Any) -> TrainDataset:
        subset = Subset(**{"image_fraction": 1.0, "captions_per_image": None, "seed": 0} | choice)
        selection = select(store, "captioning", subset)
        transform = TrainTransform(augmentation)
        return TrainDataset(store, selection, transform, make_targets("captioning", letters, 64), seed=seed)

    return make


@pytest.fixture
def val_dataset(store: CaptionStore, letters) -> Callable[..., ValDataset]:
    """A function that makes validation datasets of an objective."""

    def make(objective: str, max_length: int = 64) -> ValDataset:
        targets = make_targets(objective, letters, max_length)
        return ValDataset(store, select(store, objective), EvalTransform(24, 24), targets)

    return make


def tokens_of(sample: TargetSample) -> list[int]:
    tokens = sample["targets"]["caption_tokens"]
    assert isinstance(tokens, list)
    return tokens


def text_of(tokens: list[int]) -> str:
    return "".join(chr(token - 4) for token in tokens[1:-1])


def test_an_epoch_shows_every_image_once(train_dataset: MakeTrainDataset) -> None:
    dataset = train_dataset()
    epochs = [[dataset[epoch * 10 + position]["image_id"] for position in range(10)] for epoch in range(4)]
    assert all(sorted(epoch) == [f"world/{index}" for index in range(10)] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_a_visit_depends_on_the_seed_and_its_number_only(train_dataset: MakeTrainDataset) -> None:
    dataset, other = train_dataset(), train_dataset()
    for visit in (0, 5, 31, 5, 4_000_000_007):
        left = dataset[visit]
    right = other[4_000_000_007]
    assert left["image_id"] == right["image_id"]
    assert left["targets"] == right["targets"]
    torch.testing.assert_close(left["image"], right["image"], rtol=0, atol=0)
    orders = {tuple(train_dataset(seed)[visit]["image_id"] for visit in range(10)) for seed in range(4)}
    assert len(orders) == 4


def test_captions_of_an_image_take_turns_and_follow_the_flip(train_dataset: MakeTrainDataset) -> None:
    dataset = train_dataset()
    texts = {text_of(tokens_of(dataset[visit])) for visit in range(400)}
    seen = {text for text in texts if text.split()[-1] == "3" or text.startswith("picture 3 ")}
    assert seen == {"picture 3 on the left", "picture 3 on the right", "A second caption of 3"}


def test_validation_takes_the_first_caption_in_order(val_dataset: Callable[..., ValDataset]) -> None:
    dataset = val_dataset("captioning")
    assert len(dataset) == 10
    assert [text_of(tokens_of(dataset[index])) for index in range(10)] == [
        f"picture {index} on the left" for index in range(10)
    ]
    torch.testing.assert_close(dataset[2]["image"], dataset[2]["image"], rtol=0, atol=0)


def test_a_sequence_ends(val_dataset: Callable[..., ValDataset]) -> None:
    dataset = val_dataset("captioning", 8)
    with pytest.raises(IndexError):
        dataset[10]
    assert len(tokens_of(dataset[0])) == 8


def test_a_subset_alone_is_visited(train_dataset: MakeTrainDataset) -> None:
    dataset = train_dataset(image_fraction=0.3, captions_per_image=1)
    assert len(dataset.selection) == 3
    epochs = [[dataset[3 * epoch + position] for position in range(3)] for epoch in range(20)]
    names = {f"world/{index}" for index in dataset.selection.indices}
    assert all({sample["image_id"] for sample in epoch} == names for epoch in epochs)
    texts = {text_of(tokens_of(sample)).replace("right", "left") for epoch in epochs for sample in epoch}
    assert len(texts) == 3


def test_labels_come_with_labelled_images_alone(val_dataset: Callable[..., ValDataset]) -> None:
    dataset = val_dataset("multilabel_classification")
    assert [sample["image_id"] for sample in dataset] == [f"world/{i}" for i in (0, 2, 3, 4, 6, 8, 9)]
    assert dataset[0]["targets"] == {"labels": [1, 2]}
    assert dataset[2]["targets"] == {"labels": [2]}


def test_validation_hides_the_same_tokens_each_time(val_dataset: Callable[..., ValDataset]) -> None:
    first, again = (val_dataset("masked_lm") for _ in range(2))
    assert again[4]["targets"] == first[4]["targets"] == first[4]["targets"]
    assert len({tuple(first[index]["targets"]["masked_labels"]) for index in range(10)}) > 5  # type: ignore[arg-type]


def test_images_from_files_and_from_a_store_are_the_same(store: CaptionStore, make_images) -> None:
    from_store = ImageDataset(store, EvalTransform(24, 20))
    from_files = ImageDataset([image.path for image in make_images(10)], EvalTransform(24, 20))
    assert len(from_store) == len(from_files) == 10
    assert from_store[7]["image_id"] == "world/7"
    assert from_files[7]["image_id"] == "007"
    torch.testing.assert_close(from_store[7]["image"], from_files[7]["image"], rtol=0, atol=0)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    dataset = ImageDataset([tmp_path / "broken.jpg", tmp_path / "missing.jpg"], EvalTransform(24, 24))
    with pytest.raises(InputError, match=r"broken\.jpg: cannot be read as an image"):
        dataset[0]
    with pytest.raises(InputError, match=r"missing\.jpg: cannot be read"):
        dataset[1]


def test_a_png_in_a_store(tmp_path: Path, make_images) -> None:
    image = make_images(1)[0]
    png = tmp_path / "one.png"
    with Image.open(image.path) as picture:
        picture.save(png)
    build_store(tmp_path / "png.lmdb", [replace(image, path=png)], StoreForm(), num_workers=1)
    dataset = ImageDataset(CaptionStore(tmp_path / "png.lmdb"), EvalTransform(24, 24))
    assert dataset[0]["image"].std() > 0.1


@pytest.mark.filterwarnings("error")
def test_decoded_stores_show_the_same_values(
    tmp_path: Path, store: CaptionStore, make_images, augmentation, letters
) -> None:
    build_store(tmp_path / "decoded.lmdb", make_images(10), StoreForm(decoded=True), num_workers=2)
    decoded = CaptionStore(tmp_path / "decoded.lmdb")
    assert all(record.image.startswith(b"P6") for record in decoded)
    targets = make_targets("captioning", letters, 64)
    ours, theirs = (
        TrainDataset(one, select(one, "captioning"), TrainTransform(augmentation), targets, seed=0)
        for one in (decoded, store)
    )
    for visit in range(20):
        assert torch.equal(ours[visit]["image"], theirs[visit]["image"])


@pytest.fixture
def labelled_images(make_images) -> ClassifiedImages:
    pictures = make_images(6)
    labels = np.array([0, 0, 1, 1, 2, 2])
    return ClassifiedImages([picture.path for picture in pictures], ("a", "b", "c"), labels)


@pytest.fixture
def labelled_train_dataset(
    labelled_images: ClassifiedImages, augmentation: Augmentation
) -> ClassifiedTrainDataset:
    return ClassifiedTrainDataset(labelled_images, TrainTransform(augmentation), seed=3)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_training_on_classes_goes_on_exactly_where_it_was(
    labelled_train_dataset: ClassifiedTrainDataset, num_workers: int
) -> None:
    def batches(start: int, workers: int) -> list:
        return list(
            visit_loader(
                labelled_train_dataset,
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


def test_each_epoch_visits_every_image_once_with_its_label(
    labelled_train_dataset: ClassifiedTrainDataset,
) -> None:
    for epoch in range(3):
        samples = [labelled_train_dataset[6 * epoch + position] for position in range(6)]
        assert sorted(sample["image_id"] for sample in samples) == [f"{index:03}" for index in range(6)]
        assert all(sample["label"] == int(sample["image_id"]) // 2 for sample in samples)


def test_two_visits_of_an_image_are_augmented_differently(
    labelled_train_dataset: ClassifiedTrainDataset,
) -> None:
    samples = [labelled_train_dataset[visit] for visit in range(12)]
    first, second = (sample["image"] for sample in samples if sample["image_id"] == "003")
    assert not torch.equal(first, second)


def test_classes_in_order(labelled_images: ClassifiedImages) -> None:
    loader = in_order_loader(
        ClassifiedDataset(labelled_images, EvalTransform(36, 32)),
        collate_labelled,
        batch_size=4,
        num_workers=0,
    )
    first, last = loader
    assert first["image"].shape == (4, 3, 32, 32)
    assert torch.cat([first["label"], last["label"]]).tolist() == [0, 0, 1, 1, 2, 2]
    assert last["label"].dtype == torch.int64


def test_an_unreadable_image_with_a_class_is_named(labelled_images: ClassifiedImages) -> None:
    labelled_images.image_paths[1].write_bytes(b"no image")
    with pytest.raises(InputError, match=r"001\.jpg: cannot be read"):
        ClassifiedDataset(labelled_images, EvalTransform(36, 32))[1]


def test_real_classes(shared_dir: Path) -> None:
    images = read_imagenet(shared_dir / "data" / "real" / "imagenette", "val")
    dataset = ClassifiedDataset(images, EvalTransform(64, 64))
    samples = [dataset[index] for index in range(0, len(dataset), 40)]
    assert {sample["label"] for sample in samples} <= set(range(10))
    assert all(sample["image"].isfinite().all() for sample in samples)


@pytest.mark.parametrize("upright", [True, False])
def test_turned_photographs(
    labelled_images: ClassifiedImages, augmentation: Augmentation, upright: bool
) -> None:
    path = labelled_images.image_paths[0]
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
