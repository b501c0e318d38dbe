"""A pretrained model that writes captions: batches of images in, texts out."""

from dataclasses import dataclass

import torch
from torch import Tensor

from components.core.caption_tokens import EOS_ID
from components.core.errors import InputError
from components.data.transforms import EvalTransform
from components.models.decoding import DecodedCaptions, beam_search, nucleus_sample
from components.objectives.captioning import CaptioningObjective
from components.objectives.contrastive import ContrastiveObjective
from components.text.tokenizer import CaptionTokenizer


@dataclass(frozen=True, slots=True)
class Caption:
    """One caption of an image.

    Attributes:
        text: of the pieces before [EOS].
        log_probability: natural, summed over the tokens.
        tokens: without [SOS], up to and with the first [EOS] if there is one.
    """

    text: str
    log_probability: float
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Model:
    """A model of images and captions, in eval mode, with all it needs to read them.

    Attributes:
        objective: on ``device``.
        tokenizer: the one it was trained with.
        transform: from a picture to what the model sees.
        device: where it computes.
    """

    objective: CaptioningObjective | ContrastiveObjective
    tokenizer: CaptionTokenizer
    transform: EvalTransform
    device: torch.device | str

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Return feature maps ``(batch, feature_size, height, width)`` of images on any device."""
        return self.objective.visual(images.to(self.device, non_blocking=True))


@dataclass(frozen=True, slots=True)
class Captioner(Model):
    """A model that writes captions."""

    objective: CaptioningObjective

    def search(self, images: Tensor, beam_size: int = 5, num_captions: int = 1) -> list[list[Caption]]:
        """Return the likeliest captions of each image, best first, by beam search.

        Args:
            images: ``(batch, 3, crop, crop)``, on any device.
            beam_size: captions kept per image while searching.
            num_captions: captions per image to return.

        Raises:
            InputError: if the beam is narrower than ``num_captions`` or wider than the vocabulary.
        """
        if num_captions > beam_size:
            raise InputError(
                f"{num_captions} captions per image need a beam of at least {num_captions}, not {beam_size}"
            )
        features = self.features(images)
        if num_captions == 1:
            return self._texts(_one_per_image(beam_search(self.objective.textual, features, beam_size)))
        tokens, log_probs = beam_search(self.objective.textual, features, beam_size, all_beams=True)
        return self._texts(DecodedCaptions(tokens[:, :num_captions], log_probs[:, :num_captions]))

    def sample(
        self, images: Tensor, nucleus: float, num_captions: int, generator: torch.Generator
    ) -> list[list[Caption]]:
        """Draw captions of each image, by nucleus sampling.

        Args:
            images: ``(batch, 3, crop, crop)``, on any device.
            nucleus: probability mass to draw from, in (0, 1].
            num_captions: captions per image, drawn independently.
            generator: source of the random numbers, on the captioner's device.

        Raises:
            InputError: if ``nucleus`` is out of range.
        """
        features = self.features(images).repeat_interleave(num_captions, dim=0)
        tokens, log_probs = nucleus_sample(self.objective.textual, features, nucleus, generator=generator)
        return self._texts(
            DecodedCaptions(
                tokens.unflatten(0, (-1, num_captions)), log_probs.unflatten(0, (-1, num_captions))
            )
        )

    def _texts(self, decoded: DecodedCaptions) -> list[list[Caption]]:
        """Turn tokens ``(batch, captions, length)`` into texts."""
        rows = zip(decoded.tokens.tolist(), decoded.log_probs.tolist(), strict=True)
        return [
            [self._caption(*one) for one in zip(tokens, log_probs, strict=True)] for tokens, log_probs in rows
        ]

    def _caption(self, tokens: list[int], log_probability: float) -> Caption:
        end = tokens.index(EOS_ID) + 1 if EOS_ID in tokens else len(tokens)
        return Caption(self.tokenizer.decode(tokens), log_probability, tuple(tokens[:end]))


def _one_per_image(decoded: DecodedCaptions) -> DecodedCaptions:
    return DecodedCaptions(decoded.tokens.unsqueeze(1), decoded.log_probs.unsqueeze(1))
