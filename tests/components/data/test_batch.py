import torch

from components.data.batch import CaptionSample, collate_captions, collate_images


def sample(name: str, tokens: list[int], value: float) -> CaptionSample:
    return {"image": torch.full((3, 4, 4), value), "image_id": name, "caption_tokens": tokens}


def test_captions_are_padded_to_the_longest_and_reversed_before_padding() -> None:
    batch = collate_captions([sample("a", [1, 7, 2], 0.5), sample("b", [1, 8, 9, 5, 2], 1.5)])
    assert batch["caption_tokens"].tolist() == [[1, 7, 2, 0, 0], [1, 8, 9, 5, 2]]
    assert batch["noitpac_tokens"].tolist() == [[2, 7, 1, 0, 0], [2, 5, 9, 8, 1]]
    assert batch["caption_lengths"].tolist() == [3, 5]
    assert batch["image_id"] == ["a", "b"]
    assert batch["image"].shape == (2, 3, 4, 4)
    assert batch["image"][1].unique().tolist() == [1.5]
    assert {batch[key].dtype for key in ("caption_tokens", "noitpac_tokens", "caption_lengths")} == {
        torch.int64
    }


def test_images_alone() -> None:
    assert set(collate_images([sample("a", [1], 0.0)])) == {"image", "image_id"}
