"""Start pretraining from other weights: ``pretrain.start_from`` names them in the place of random ones.

A model of ours or of the authors' gives its backbone, and its head where this run's is of the same kind and
size. Rows that belong to words (embedding, output layer) go by the pieces' names: a tokenizer trained on
other captions has others. With a plain backbone all else starts fresh.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from components.core.errors import InputError
from components.core.files import sha256
from components.core.redaction import redacted
from components.data.targets import LABEL_TASKS
from components.export.zoo.captioners import Alike, build_captioner, is_captioner
from components.export.zoo.resnets import IMAGENET, RANDOM, make_baseline
from components.export.zoo.weights import is_url, local_file, open_weights
from components.objectives.build import ModelConfig
from components.objectives.interface import Objective
from components.objectives.saved import FORMAT, load_captioner, load_preprocessing
from components.params import CHECKSUM_MARK
from components.text.tokenizer import CaptionTokenizer

EMBEDDING = "textual.embedding.words.weight"
WORDS = (EMBEDDING, "textual.output.weight", "textual.output.bias", "classifier.output.weight",
         "classifier.output.bias")  # fmt: skip
OWN = "token_weights"  # counted on the captions of a run


@dataclass(frozen=True, slots=True)
class Start:
    """Weights that a model starts from.

    Attributes:
        tensors: by the names of our models.
        architecture: of the backbone.
        config: of the whole model; None for a backbone alone.
        tokenizer: that of the model, if it is known.
    """

    tensors: Mapping[str, Tensor]
    architecture: str
    config: ModelConfig | None = None
    tokenizer: CaptionTokenizer | None = None


def start_model(
    model: Objective,
    config: ModelConfig,
    tokenizer: CaptionTokenizer,
    source: str,
    tokenizer_path: Path | None,
) -> str:
    """Copy weights into a freshly built model; return what was taken, in words.

    Args:
        model: of this run.
        config: its configuration.
        tokenizer: of this run.
        source: path or URL of a captioner file or of an authors' checkpoint, name of a published model, or
            any entry that ``baseline.sources`` may have.
        tokenizer_path: SentencePiece model of a file that holds none.

    Raises:
        InputError: if there are no such weights, backbone or head have other sizes, or the words of a head
            are not known.
    """
    name, found = redacted(source), _read(source, tokenizer_path, config)
    if found.architecture != config.backbone.name:
        raise InputError(
            f"pretrain.start_from: the backbone of {name} is {found.architecture}, and backbone.name is "
            f"{config.backbone.name}; make the latter {found.architecture}, or start from another model"
        )
    state = model.state_dict()
    taken = {key: value for key, value in found.tensors.items() if key.startswith("visual.") and key in state}
    said = [f"starting from {name}: its backbone"]
    if found.config is not None and _same_kind(config, found.config, state, found.tensors):
        if found.tokenizer is None:
            raise InputError(
                f"pretrain.start_from: {name} holds no tokenizer, so its words are not known; name the "
                "SentencePiece model it was trained with in pretrain.start_tokenizer"
            )
        head, words = _head(state, found, tokenizer, name)
        taken |= head
        said.append(f"its head, {words}")
    elif found.config is not None:
        said.append(f"not its head, which is of another kind ({found.config.objective.name})")
    fresh = len({key for key in state if key != OWN} - set(taken))
    said.append(f"{fresh} tensors start fresh" if fresh else "nothing else starts fresh")
    model.load_state_dict({**state, **taken})
    return "; ".join(said)


def _read(source: str, tokenizer_path: Path | None, config: ModelConfig) -> Start:
    tokenizer = None if tokenizer_path is None else CaptionTokenizer(tokenizer_path)
    if source in (RANDOM, IMAGENET):
        return _backbone(source, config)
    if _is_ours(source):
        path = local_file(source)
        objective, found = load_captioner(path)
        own = load_preprocessing(path)
        if tokenizer is None and own is not None:
            tokenizer = CaptionTokenizer(path, own.tokenizer_model)
    elif is_captioner(tensors := open_weights(source)):
        # Both have the same tensors.
        alike: Alike = "masked_lm" if config.objective.name == "masked_lm" else "captioning"
        objective, found = build_captioner(tensors, source, alike)
    else:
        return _backbone(source, config)
    if tokenizer is not None and tokenizer.vocab_size != found.vocab_size:
        raise InputError(
            f"{tokenizer.model_path} has {tokenizer.vocab_size} pieces, and {redacted(source)} was trained "
            f"with {found.vocab_size}; name the tokenizer it was trained with in pretrain.start_tokenizer"
        )
    return Start(objective.state_dict(), found.backbone.name, found, tokenizer)


def _backbone(source: str, config: ModelConfig) -> Start:
    found = make_baseline(source, 0, config.backbone)
    tensors = {f"visual.cnn.{key}": value for key, value in found.cnn.state_dict().items()}
    return Start(tensors, found.architecture)


def _is_ours(source: str) -> bool:
    if _place(source.partition("?")[0]).suffix != ".safetensors":
        return False
    path = local_file(source)
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except SafetensorError as error:
        raise InputError(
            f"{path}: not a whole safetensors file ({error}); write or fetch it again"
        ) from error


def _same_kind(
    ours: ModelConfig, theirs: ModelConfig, state: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> bool:
    """Return whether both heads are transformers that read captions, or towers, or layers of words."""
    if {ours.objective.name, theirs.objective.name} & set(LABEL_TASKS):
        return False  # whose labels have no names in the file
    marks = (EMBEDDING, "textual.output.weight", "textual.text_projection.weight")
    return all((mark in state) == (mark in tensors) for mark in marks)


def _head(
    state: Mapping[str, Tensor], found: Start, tokenizer: CaptionTokenizer, name: str
) -> tuple[dict[str, Tensor], str]:
    """Return the head's tensors, and what became of the words."""
    assert found.tokenizer is not None
    old = {piece: row for row, piece in enumerate(_pieces(found.tokenizer))}
    rows = [old.get(piece, -1) for piece in _pieces(tokenizer)]
    known = [row for row, place in enumerate(rows) if place >= 0]
    places = [rows[row] for row in known]
    taken = {}
    for key, value in state.items():
        # A second direction that is not there starts as a copy of the first one.
        given = found.tensors.get(key, found.tensors.get(key.replace("backward_textual.", "textual.")))
        if key.startswith("visual.") or key == OWN or given is None:
            continue
        is_of_words = key.removeprefix("backward_") in WORDS
        if given.shape[is_of_words:] != value.shape[is_of_words:]:
            raise InputError(
                f"pretrain.start_from: {key} of {name} has shape {tuple(given.shape)} where this run has "
                f"{tuple(value.shape)}; give textual_head the sizes of that model"
            )
        if is_of_words:
            given, rows_given = value.clone(), given
            given[known] = rows_given[places]
        taken[key] = given
    number = len(rows) - len(known)
    words = f"{number:,} of {len(rows):,} words are new and start fresh" if number else "all words known"
    return taken, words


def digests(*sources: str | None) -> dict[str, str]:
    """Return the SHA-256 of those sources that are files here, or URLs, by name.

    Raises:
        InputError: if a URL's file cannot be fetched.
    """
    files = {name: local_file(name) if is_url(name) else _place(name) for name in sources if name}
    return {name: sha256(path) for name, path in files.items() if path.is_file()}


def _place(source: str) -> Path:
    return Path(source.partition(CHECKSUM_MARK)[0])


def _pieces(tokenizer: CaptionTokenizer) -> Sequence[str]:
    return [tokenizer.processor.id_to_piece(row) for row in range(tokenizer.vocab_size)]
