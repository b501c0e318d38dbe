"""From a checkpoint, ours or the original authors', to a captioner."""

from pathlib import Path

import torch

from components.captioning.captioner import Captioner
from components.core.errors import InputError
from components.data.transforms import EvalTransform
from components.export.zoo.captioners import Alike, build_captioner
from components.export.zoo.weights import local_file, open_weights
from components.objectives.build import ModelConfig
from components.objectives.captioning import CaptioningObjective
from components.objectives.interface import Objective
from components.objectives.saved import load_captioner, load_preprocessing
from components.params import CHECKSUM_MARK
from components.text.tokenizer import CaptionTokenizer

# The authors' code captions at this scale, resized without antialiasing (their DEFAULT_IMAGE_TRANSFORM).
PUBLISHED_TRANSFORM = EvalTransform(image_size=256, crop_size=224, antialias=False)


def open_captioner(source: str, device: torch.device | str, tokenizer_path: Path | None = None) -> Captioner:
    """Load a model that writes captions.

    Args:
        source: path or URL of a captioner file or of an authors' ``.pth`` file, or the name of a
            published model.
        device: where to compute.
        tokenizer_path: a SentencePiece model; needed by files that hold none, and used before theirs.

    Raises:
        InputError: if the file is no such model, has no tokenizer, or writes no captions.
    """
    objective, config, tokenizer, transform = (
        _ours(local_file(source), source) if _is_safetensors(source) else _authors(source)
    )
    if not isinstance(objective, CaptioningObjective):
        raise InputError(
            f"{source}: a model of {config.objective.name} writes no captions; "
            "expected one of bicaptioning or captioning"
        )
    if tokenizer_path is not None:
        tokenizer = CaptionTokenizer(tokenizer_path)
    if tokenizer is None:
        raise InputError(
            f"{source}: holds no tokenizer; pass the SentencePiece model it was trained with (--tokenizer)"
        )
    if tokenizer.vocab_size != config.vocab_size:
        raise InputError(
            f"{tokenizer.model_path} has {tokenizer.vocab_size} pieces, and {source} was trained with "
            f"{config.vocab_size}; pass the tokenizer it was trained with (--tokenizer)"
        )
    return Captioner(objective.to(device).eval(), tokenizer, transform, device)


Parts = tuple[Objective, ModelConfig, CaptionTokenizer | None, EvalTransform]


def _is_safetensors(source: str) -> bool:
    return source.partition(CHECKSUM_MARK)[0].partition("?")[0].endswith(".safetensors")


def _ours(path: Path, source: str) -> Parts:
    objective, config = load_captioner(path)
    preprocessing = load_preprocessing(path)
    if preprocessing is None:
        return objective, config, None, PUBLISHED_TRANSFORM
    transform = EvalTransform(preprocessing.scale, preprocessing.crop_size, preprocessing.antialias)
    return objective, config, CaptionTokenizer(source, preprocessing.tokenizer_model), transform


def _authors(source: str) -> Parts:
    """Read an authors' file; of the two objectives with equal tensors, one captions: ``captioning``."""
    place = source.partition(CHECKSUM_MARK)[0]
    alike: Alike = "masked_lm" if "masked_lm" in Path(place).name else "captioning"
    objective, config = build_captioner(open_weights(source), source, alike)
    return objective, config, None, PUBLISHED_TRANSFORM
