"""Log probabilities that a captioner gives texts, each for each image.

What the probes zero_shot and retrieval rank by: the natural log probabilities of a text's tokens after [SOS],
[EOS] included, summed or as their mean; of the text read backwards, in a model that does so, as well. A
contrastive model gives each pair a logit in their place, under the name ``similarity``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from components.captioning.captioner import Model
from components.core.caption_tokens import EOS_ID, PAD_ID
from components.core.errors import InputError
from components.models.textual_head import TransformerTextualHead
from components.objectives.captioning import BicaptioningObjective
from components.objectives.contrastive import ContrastiveObjective

SIMILARITY = "similarity"
LOGITS = 2**26  # at once: 256 MB


@dataclass(frozen=True, slots=True)
class Texts:
    """Tokens of some texts.

    Attributes:
        tokens: ``(num_texts, length)`` int64, from [SOS] to [EOS], padded with 0.
        lengths: ``(num_texts,)`` int64, tokens before the padding.
    """

    tokens: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]], device: torch.device | str) -> "Texts":
        """Pad rows of tokens."""
        longest = max(map(len, rows))
        padded = [[*row, *[PAD_ID] * (longest - len(row))] for row in rows]
        return cls(
            torch.tensor(padded, device=device), torch.tensor([len(row) for row in rows], device=device)
        )


def texts_by_direction(model: Model, texts: Sequence[str], whole: bool) -> dict[str, Texts]:
    """Return ``forward``, and ``backward`` for a model that reads backwards too; or ``similarity`` alone.

    Args:
        model: a captioner, or a contrastive model.
        texts: as written.
        whole: refuse a text that is longer than the model's captions; else it is cut, as in pretraining.

    Raises:
        InputError: if a text is refused.
    """
    longest = model.objective.textual.max_caption_length
    rows = [model.tokenizer.caption_tokens(text, longest) for text in texts]
    for row, text in zip(rows, texts, strict=True):
        if whole and row[-1] != EOS_ID:
            raise InputError(f"{text!r} has more than the {longest} tokens of this model's captions")
    if isinstance(model.objective, ContrastiveObjective):
        return {SIMILARITY: Texts.of(rows, model.device)}
    found = {"forward": Texts.of(rows, model.device)}
    if isinstance(model.objective, BicaptioningObjective):
        found["backward"] = Texts.of([row[::-1] for row in rows], model.device)
    return found


@torch.inference_mode()
def log_probabilities(model: Model, images: Tensor, texts: Mapping[str, Texts]) -> dict[str, Tensor]:
    """Return sums over tokens ``(num_images, num_texts)`` float32 by direction; logits of similarity.

    Args:
        model: a captioner, or a contrastive model.
        images: ``(num_images, 3, crop, crop)``, on any device.
        texts: as `texts_by_direction` gives them.
    """
    features = model.features(images)
    objective = model.objective
    if isinstance(objective, ContrastiveObjective):
        [(name, own)] = texts.items()
        return {name: objective.textual(features, own.tokens, own.lengths)}
    heads = {"forward": objective.textual}
    if isinstance(objective, BicaptioningObjective):
        heads["backward"] = objective.backward_textual
    return {direction: caption_log_probs(heads[direction], features, own) for direction, own in texts.items()}


def caption_log_probs(head: TransformerTextualHead, visual_features: Tensor, texts: Texts) -> Tensor:
    """Return the log probability of each text for each image, ``(num_images, num_texts)`` float32.

    An image's keys and values are computed once; texts are further queries to them.

    Args:
        head: in eval mode.
        visual_features: ``(num_images, feature_size, height, width)``.
        texts: candidates, the same for all images.
    """
    images = head.images(head.project(visual_features))
    num_images, length = len(visual_features), texts.tokens.shape[1] - 1
    at_once = max(1, LOGITS // (num_images * length * head.output.out_features))
    sums = []
    for tokens in texts.tokens.split(at_once):
        targets = tokens[:, 1:].expand(num_images, -1, -1)  # (images, texts, length)
        logits = head.output(head.decode_candidates(images, tokens[:, :-1]))
        losses = F.cross_entropy(logits.flatten(0, 2).float(), targets.flatten(), reduction="none")
        sums.append(-(losses.view_as(targets) * (targets != PAD_ID)).sum(dim=2))
    return torch.cat(sums, dim=1)
