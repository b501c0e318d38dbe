import torch

from components.data.batch import TargetSample, collate_images, collate_targets


def sample(name: str, value: float, **targets: list[int] | int) -> TargetSample:
    return {"image": torch.full((3, 4, 4), value), "image_id": name, "targets": targets}


def test_lists_are_padded_to_the_longest_and_numbers_stacked() -> None:
    batch = collate_targets(
        [
            sample("a", 0.5, caption_tokens=[1, 7, 2], caption_lengths=3),
            sample("b", 1.5, caption_tokens=[1, 8, 9, 5, 2], caption_lengths=5),
        ]
    )
    assert batch["caption_tokens"].tolist() == [[1, 7, 2, 0, 0], [1, 8, 9, 5, 2]]
    assert batch["caption_lengths"].tolist() == [3, 5]
    assert batch["image_id"] == ["a", "b"]
    assert batch["image"].shape == (2, 3, 4, 4)
    assert batch["image"][1].unique().tolist() == [1.5]
    assert {batch[key].dtype for key in ("caption_tokens", "caption_lengths")} == {torch.int64}


def test_images_alone() -> None:
    assert set(collate_images([sample("a", 0.0, labels=[1])])) == {"image", "image_id"}
