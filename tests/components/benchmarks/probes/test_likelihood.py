"""Log probabilities of given texts, against the model's own forward pass."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from components import params
from components.benchmarks.probes import likelihood
from components.benchmarks.probes.captioner import class_scores, pair_scores, ranks, recalls, sentences
from components.benchmarks.probes.likelihood import Texts, caption_log_probs
from components.models.textual_head import TransformerTextualHead
from components.params import read_section
from components.sources.drawn_world.captions import sentence

ROWS = [[1, 7, 9, 2], [1, 5, 2], [1, 11, 12, 13, 14, 2]]


def head(norm: str, num_layers: int) -> TransformerTextualHead:
    torch.manual_seed(0)
    made = TransformerTextualHead(8, 20, 16, num_layers, num_heads=2, norm=norm, max_caption_length=8)  # type: ignore[arg-type]
    return made.eval()


@pytest.mark.parametrize(("norm", "num_layers"), [("post", 1), ("post", 3), ("pre", 2)])
def test_texts_are_scored_as_in_training(norm: str, num_layers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, features = head(norm, num_layers), torch.randn(2, 8, 3, 3)
    with torch.no_grad():
        found = caption_log_probs(model, features, Texts.of(ROWS, "cpu"))
        for image in range(2):
            for number, row in enumerate(ROWS):
                tokens = torch.tensor([row[:-1]])
                logits = model(features[image : image + 1], tokens, torch.tensor([len(row) - 1]))
                expected = F.log_softmax(logits[0], dim=1)[torch.arange(len(row) - 1), row[1:]].sum()
                assert found[image, number].item() == pytest.approx(expected.item(), rel=1e-5)
        monkeypatch.setattr(likelihood, "LOGITS", 1)  # one text at a time
        assert torch.allclose(caption_log_probs(model, features, Texts.of(ROWS, "cpu")), found, rtol=1e-5)


def test_all_continuations_of_a_text_have_probability_1() -> None:
    model, features = head("post", 1), torch.randn(1, 8, 2, 2)
    with torch.no_grad():
        every = Texts.of([[1, token] for token in range(1, 20)], "cpu")  # 0 is padding
        probabilities = caption_log_probs(model, features, every).exp()
        logits = model(features, torch.tensor([[1]]), torch.tensor([1]))
        assert probabilities.sum().item() == pytest.approx(
            1 - logits.softmax(dim=2)[0, 0, 0].item(), rel=1e-5
        )


def test_sentences_have_the_article_and_words_of_captions() -> None:
    assert sentences("a picture of {}", ["aeroplane", "diningtable", "cat"]) == [
        "a picture of an aeroplane", "a picture of a dining table", "a picture of a cat",
    ]  # fmt: skip


def test_the_sentences_end_as_captions_of_the_drawn_world() -> None:
    prompt = read_section(params.Probes, Path(likelihood.__file__).parents[3] / "params.yaml").prompt
    assert prompt[-1] == sentence("a thing")[-1] == "."


def test_scores_of_classes_worked_out_by_hand() -> None:
    sums = {"forward": np.log(np.float32([[0.1, 0.3]])), "backward": np.log(np.float32([[0.2, 0.2]]))}
    found = class_scores(sums, np.array([2, 1]))
    assert list(found) == ["mAP", "mAP_mean", "mAP_forward", "mAP_backward"]
    assert np.exp(found["mAP"][0]) == pytest.approx([0.25, 0.75])  # 0.02 and 0.06
    assert np.exp(found["mAP_backward"][0]) == pytest.approx([0.5, 0.5])
    means = np.array([0.02 ** (1 / 4), 0.06 ** (1 / 2)])  # over two tokens and one, twice
    assert np.exp(found["mAP_mean"][0]) == pytest.approx(means / means.sum())
    assert list(class_scores({"forward": sums["forward"]}, np.array([2, 1]))) == ["mAP", "mAP_mean"]


def by_way(scores: np.ndarray) -> dict[str, list[int]]:
    of_images, of_texts = pair_scores({"forward": scores.astype(np.float32)})
    return {"to_image": ranks(of_images.T).tolist(), "to_text": ranks(of_texts).tolist()}


def test_ranks_worked_out_by_hand() -> None:
    """Images by captions; the second caption is the likelier on every image."""
    scores = np.log(np.array([[0.2, 0.5], [0.1, 0.6]]))
    # To text: 0.2 / 0.15 against 0.5 / 0.55; 0.6 / 0.55 against 0.1 / 0.15.
    assert by_way(scores) == {"to_image": [0, 0], "to_text": [0, 0]}
    assert by_way(scores[:, ::-1]) == {"to_image": [1, 1], "to_text": [1, 1]}


def test_a_model_that_tells_nothing_apart_is_in_the_middle() -> None:
    assert by_way(np.zeros((100, 100)))["to_text"] == [49] * 100
    hits = recalls({"to_text": np.array([0, 1, 4, 5, 10])})
    assert {name: values.mean() for name, values in hits.items()} == {
        "to_text_R1": 20, "to_text_R5": 60, "to_text_R10": 80,
    }  # fmt: skip
