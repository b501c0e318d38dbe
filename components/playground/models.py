"""What the playground shows of a picture: captions, where words looked, neighbours, likeliest words."""

import base64
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import safetensors
import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from torch import Tensor, nn
from torch.utils.data import Subset

from components.benchmarks.probes.captioner import HEADLINE, class_scores, sentences
from components.benchmarks.probes.likelihood import log_probabilities, texts_by_direction
from components.benchmarks.shared.features import Features, extract_features, l2_normalised
from components.captioning.attention import draw_captions_attention
from components.captioning.captioner import Caption, Captioner
from components.captioning.checkpoint import PUBLISHED_TRANSFORM, open_captioner
from components.core.pictures import spread
from components.core.redaction import redacted
from components.data.dataset import ImageDataset
from components.data.image import Pixels
from components.data.store import CaptionStore
from components.data.transforms import EvalTransform
from components.models.backbones import FORMAT, load_backbone

NEIGHBOURS = 8
BATCH = 32  # images


class Asked(BaseModel):
    """What a visitor chose; a wrong value is refused with pydantic's words."""

    model_config = ConfigDict(extra="forbid")

    image: int | None = None  # index of a validation image, in place of a picture
    beam_size: int = Field(default=5, ge=1, le=20)
    top_p: float = Field(default=0.9, gt=0, le=1)
    num_captions: int = Field(default=3, ge=1, le=10)
    seed: int = Field(default=0, ge=0, lt=2**63)
    words: tuple[str, ...] = Field(default=(), max_length=100)
    prompt: str = Field(default="a picture of {}.", max_length=200)  # most captions end so

    @field_validator("words", mode="before")
    @classmethod
    def _split(cls, words: object) -> object:
        if not isinstance(words, str):
            return words
        if not words.strip():
            return ()
        named = tuple(filter(None, map(str.strip, words.split(","))))
        if len(set(named)) != len(named) or len(named) < 2:
            raise ValueError("at least two to compare, each once, with commas between")
        return named

    @model_validator(mode="after")
    def _fits(self) -> "Asked":
        if self.num_captions > self.beam_size:
            raise ValueError(f"{self.num_captions} captions need a beam of at least {self.num_captions}")
        if "{}" not in self.prompt:
            raise ValueError("the sentence has no {} in the place of the word")
        return self


class Written(BaseModel):
    """A caption with its natural log-probability, summed over its tokens."""

    text: str
    log_probability: float


class Neighbour(BaseModel):
    """A validation image, with its first caption and the cosine of its features with the picture's."""

    image: int
    similarity: float
    caption: str


class Likely(BaseModel):
    """A word and the probability of its sentence among those of all words."""

    word: str
    probability: float


class Answer(BaseModel):
    """What one model says; ``attention`` is a PNG as a data URI, for the first caption of ``beam``."""

    name: str
    beam: list[Written] = []
    nucleus: list[Written] = []
    attention: str | None = None
    neighbours: list[Neighbour] = []
    zero_shot: list[Likely] = []
    notices: list[str] = []


@dataclass(frozen=True, slots=True)
class Known:
    """Validation images that neighbours are found among: ``indices`` into ``store``."""

    store: CaptionStore
    indices: Sequence[int]

    @classmethod
    def of(cls, path: Path, num_images: int) -> "Known":
        """Take images spread over a store.

        Raises:
            InputError: the file is missing or no store.
        """
        store = CaptionStore(path)
        return cls(store, spread(len(store), num_images))


@dataclass(slots=True)
class Player:
    """One model of the page.

    Attributes:
        name: as the visitor knows it.
        pooled: images ``(batch, 3, height, width)`` to features ``(batch, feature_size)``, on ``device``.
        transform: from pixels to what the model sees.
        captioner: None for a backbone alone.
        known: features of the known images by row, unit length.
    """

    name: str
    pooled: nn.Module
    transform: EvalTransform
    device: str
    captioner: Captioner | None
    known: Features = field(default_factory=lambda: np.empty((0, 0), np.float32))

    def learn(self, images: Known, num_workers: int) -> None:
        """Compute the features of the known images, with a progress bar."""
        pictures = Subset(ImageDataset(images.store, self.transform), images.indices)
        self.known = l2_normalised(
            extract_features(
                self.pooled,
                pictures,  # type: ignore[arg-type]  # of which only length and items are used
                batch_size=BATCH,
                num_workers=num_workers,
                device=self.device,
                description=self.name,
            )
        )

    def answer(self, pixels: Pixels, asked: Asked, images: Known | None) -> Answer:
        """Say all that this model can about a picture.

        Raises:
            InputError: a sentence longer than the model's captions; a beam wider than its vocabulary.
        """
        image = self.transform(pixels)[None]
        found = Answer(name=self.name)
        if images is not None:
            found.neighbours = self._neighbours(image, images, asked.image)
        if self.captioner is None:
            found.notices.append("A backbone alone: it has neighbours, and writes no captions.")
            return found
        generator = torch.Generator(self.device).manual_seed(asked.seed)
        [best] = self.captioner.search(image, asked.beam_size, asked.num_captions)
        [drawn] = self.captioner.sample(image, asked.top_p, asked.num_captions, generator)
        found.beam, found.nucleus = _written(best), _written(drawn)
        found.attention = _attention(self.captioner, image, best[0])
        if asked.words:
            found.zero_shot, notices = _zero_shot(self.captioner, image, asked)
            found.notices += notices
        return found

    @torch.inference_mode()
    def _neighbours(self, image: Tensor, images: Known, itself: int | None) -> list[Neighbour]:
        own = l2_normalised(self.pooled(image.to(self.device)).float().cpu().numpy())[0]
        similarities = self.known @ own
        nearest = [int(row) for row in np.argsort(-similarities, kind="stable")]
        rows = [row for row in nearest if images.indices[row] != itself][:NEIGHBOURS]
        return [
            Neighbour(
                image=images.indices[row],
                similarity=float(similarities[row]),
                caption=images.store.get(images.indices[row]).captions[0],
            )
            for row in rows
        ]


def open_players(sources: Sequence[str], device: str, tokenizer: Path | None) -> list[Player]:
    """Load captioners of any kind that `open_captioner` takes, and backbones' files of ours.

    A backbone alone sees pictures as the first captioner does; without one, as the published models do.

    Raises:
        InputError: one is neither, or a captioner without a tokenizer.
    """
    players = {
        source: _captioner(source, device, tokenizer) for source in sources if not _is_backbone(source)
    }
    seen = next((player.transform for player in players.values()), PUBLISHED_TRANSFORM)
    return [players.get(source) or _backbone(source, device, seen) for source in sources]


def _captioner(source: str, device: str, tokenizer: Path | None) -> Player:
    captioner = open_captioner(source, device, tokenizer)
    pooled = nn.Sequential(captioner.objective.visual, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Player(_name(source), pooled.eval(), captioner.transform, device, captioner)


def _backbone(source: str, device: str, transform: EvalTransform) -> Player:
    return Player(_name(source), load_backbone(Path(source))[0].to(device), transform, device, None)


def _name(source: str) -> str:
    return Path(redacted(source).partition("?")[0]).stem


def _is_backbone(source: str) -> bool:
    try:
        with safetensors.safe_open(source, framework="pt") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (OSError, safetensors.SafetensorError, UnicodeDecodeError):
        return False  # the captioner's reader says what is wrong with it


def _written(captions: Sequence[Caption]) -> list[Written]:
    return [Written(text=one.text, log_probability=one.log_probability) for one in captions]


def _attention(captioner: Captioner, image: Tensor, caption: Caption) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "attention.png")
        draw_captions_attention(captioner, image, [caption], [path])
        return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def _zero_shot(captioner: Captioner, image: Tensor, asked: Asked) -> tuple[list[Likely], list[str]]:
    """Return the words, likeliest first, and which of them the model's vocabulary cannot spell."""
    processor = captioner.tokenizer.processor
    strange = [word for word in asked.words if processor.unk_id() in processor.encode(word.lower())]
    texts = texts_by_direction(captioner, sentences(asked.prompt, asked.words), whole=True)
    sums = {name: found.cpu().numpy() for name, found in log_probabilities(captioner, image, texts).items()}
    lengths = next(iter(texts.values())).lengths.cpu().numpy() - 1
    probabilities = np.exp(class_scores(sums, lengths)[HEADLINE][0])
    order = np.argsort(-probabilities, kind="stable")
    likely = [Likely(word=asked.words[row], probability=float(probabilities[row])) for row in order]
    return likely, [f"Not in this model's vocabulary: {', '.join(strange)}."] if strange else []
