from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from components.core.errors import InputError
from components.data.batch import TargetSample
from components.data.build import build_store
from components.data.dataset import ImageDataset, TrainDataset, ValDataset
from components.data.record import StoreForm
from components.data.selection import select
from components.data.store import CaptionStore
from components.data.targets import make_targets
from components.data.transforms import EvalTransform, TrainTransform
from components.params import Subset

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
