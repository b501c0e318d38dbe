from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from components.data.build import build_store
from components.data.dataset import ImageDataset, TrainDataset, ValDataset
from components.data.store import CaptionStore
from components.data.transforms import EvalTransform, TrainTransform
from components.errors import InputError


class Letters:
    """A tokenizer with one token a letter."""

    def caption_tokens(self, text: str, max_length: int) -> list[int]:
        return [1, *(4 + ord(letter) for letter in text), 2][:max_length]


def train_dataset(store: CaptionStore, augmentation, seed: int = 0) -> TrainDataset:
    return TrainDataset(store, TrainTransform(augmentation), Letters(), max_caption_length=64, seed=seed)


def text_of(tokens: list[int]) -> str:
    return "".join(chr(token - 4) for token in tokens[1:-1])


def test_an_epoch_shows_every_image_once(store: CaptionStore, augmentation) -> None:
    dataset = train_dataset(store, augmentation)
    epochs = [[dataset[epoch * 10 + position]["image_id"] for position in range(10)] for epoch in range(4)]
    assert all(sorted(epoch) == [f"world/{index}" for index in range(10)] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_a_visit_depends_on_the_seed_and_its_number_only(store: CaptionStore, augmentation) -> None:
    dataset, other = train_dataset(store, augmentation), train_dataset(store, augmentation)
    for visit in (0, 5, 31, 5, 4_000_000_007):
        left = dataset[visit]
    right = other[4_000_000_007]
    assert left["image_id"] == right["image_id"]
    assert left["caption_tokens"] == right["caption_tokens"]
    torch.testing.assert_close(left["image"], right["image"], rtol=0, atol=0)
    orders = {
        tuple(train_dataset(store, augmentation, seed)[visit]["image_id"] for visit in range(10))
        for seed in range(4)
    }
    assert len(orders) == 4


def test_captions_of_an_image_take_turns_and_follow_the_flip(store: CaptionStore, augmentation) -> None:
    dataset = train_dataset(store, augmentation)
    texts = {text_of(dataset[visit]["caption_tokens"]) for visit in range(400)}
    seen = {text for text in texts if text.split()[-1] == "3" or text.startswith("picture 3 ")}
    assert seen == {"picture 3 on the left", "picture 3 on the right", "A second caption of 3"}


def test_validation_takes_the_first_caption_in_order(store: CaptionStore) -> None:
    dataset = ValDataset(store, EvalTransform(24, 24), Letters(), max_caption_length=64)
    assert len(dataset) == 10
    assert [text_of(dataset[index]["caption_tokens"]) for index in range(10)] == [
        f"picture {index} on the left" for index in range(10)
    ]
    torch.testing.assert_close(dataset[2]["image"], dataset[2]["image"], rtol=0, atol=0)


def test_a_sequence_ends(store: CaptionStore) -> None:
    dataset = ValDataset(store, EvalTransform(24, 24), Letters(), max_caption_length=8)
    with pytest.raises(IndexError):
        dataset[10]
    assert len(dataset[0]["caption_tokens"]) == 8


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
    build_store(
        tmp_path / "png.lmdb",
        [replace(image, path=png)],
        short_side=None,
        jpeg_quality=95,
        on_unreadable="refuse",
        num_workers=1,
    )
    dataset = ImageDataset(CaptionStore(tmp_path / "png.lmdb"), EvalTransform(24, 24))
    assert dataset[0]["image"].std() > 0.1
