import pytest
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


def test_captions_are_padded_to_the_first_length_that_is_long_enough() -> None:
    samples = [sample(f"{size}", 0.0, caption_tokens=[1] * size, caption_lengths=size) for size in (3, 5)]
    for lengths, expected in (([4, 6, 9], 6), ([5, 9], 5)):
        batch = collate_targets(samples, lengths)
        assert batch["caption_tokens"].shape == (2, expected)
        assert (batch["caption_tokens"] != 0).sum(dim=1).tolist() == batch["caption_lengths"].tolist()
    with pytest.raises(ValueError, match="5 tokens"):
        collate_targets(samples, [3, 4])
