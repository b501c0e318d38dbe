"""SentencePiece BPE captions: training and use (paper, section 3.1; keyword values of its public code).

And what a vocabulary makes of captions: lengths, truncation, unknown pieces, and a sample to read.
"""

import io
import re
import unicodedata
from array import array
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece

from components.core.caption_tokens import EOS_ID, SOS_ID, SPECIAL_PIECES, UNK_ID
from components.core.errors import InputError
from components.core.files import writing

BOUNDARY_TOKENS = 2  # [SOS] and [EOS]
TRAINER_ARGUMENTS: dict[str, Any] = {
    "model_type": "bpe",
    "character_coverage": 1.0,
    "bos_id": -1,
    "eos_id": -1,
    "control_symbols": list(SPECIAL_PIECES[1:]),
    "num_threads": 1,  # the same file, byte for byte, on any machine
    "minloglevel": 2,
}
# SentencePiece passes over longer texts silently, and over those with its own mark of unknown bytes.
LONGEST_BYTES = 4192
_MARK = "\u2585"


def normalise(caption: str) -> str:
    """Lower-case, decompose (NFKD), drop combining marks, as the paper's public code does first.

    White space is left alone: SentencePiece folds it.
    """
    if caption.isascii():
        return caption.lower()  # all that the rest would do to it
    decomposed = unicodedata.normalize("NFKD", caption.lower())
    return "".join(character for character in decomposed if not unicodedata.combining(character))


def train_tokenizer(captions: Iterable[str], vocab_size: int, model_path: Path) -> None:
    """Train on all captions, in the order given, and write ``model_path`` and its ``.vocab`` beside it.

    Args:
        captions: already normalised (see :func:`normalise`).
        vocab_size: pieces, the four special ones included.
        model_path: the ``.model`` file; both files are written atomically.

    Raises:
        InputError: no captions, or they do not allow a vocabulary of this size.
    """
    texts = deque(caption.replace(_MARK, " ") for caption in captions)
    longest = max((len(text.encode()) for text in texts), default=0)
    # Named only where it is needed, because the model's file remembers every argument.
    limit: dict[str, Any] = {"max_sentence_length": longest} if longest > LONGEST_BYTES else {}
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_let_go(texts), model_writer=model, vocab_size=vocab_size,
            **TRAINER_ARGUMENTS, **limit,
        )  # fmt: skip
    except RuntimeError as error:
        raise _explained(str(error), vocab_size) from error
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    lines = [f"{processor.id_to_piece(i)}\t{processor.get_score(i):g}\n" for i in range(len(processor))]
    with writing(model_path) as temporary:
        temporary.write_bytes(model.getvalue())
    with writing(model_path.with_suffix(".vocab")) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")


def _let_go(texts: deque[str]) -> Iterator[str]:
    """Yield the texts, of which SentencePiece keeps copies, and keep none of them."""
    while texts:
        yield texts.popleft()


def _explained(message: str, vocab_size: int) -> Exception:
    if "sentences_.empty()" in message:
        return InputError("there are no captions to train the tokenizer on; check the download section")
    if most := re.search(r"<= (\d+)\.", message):
        return InputError(
            f"tokenize.vocab_size: {vocab_size} is too large for these captions; "
            f"the largest possible is {most[1]}. Lower it, or add captions"
        )
    if least := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
        return InputError(
            f"tokenize.vocab_size: {vocab_size} is too small for these captions; "
            f"their characters and the special pieces alone take {least[1]}"
        )
    return RuntimeError(f"SentencePiece failed: {message}")


class CaptionTokenizer:
    """Captions to caption tokens and back; opens its model when it is first used.

    It can be pickled: a worker process opens the model itself.
    """

    def __init__(self, model_path: Path | str, content: bytes | None = None) -> None:
        """Name the model.

        Args:
            model_path: the ``.model`` file.
            content: of the model, where it does not lie in a file of its own; ``model_path`` then
                only says in messages where it came from.
        """
        self.model_path = Path(model_path)
        self._content = content
        self._processor: sentencepiece.SentencePieceProcessor | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"model_path": self.model_path, "_content": self._content, "_processor": None}

    @property
    def processor(self) -> sentencepiece.SentencePieceProcessor:
        """The opened model.

        Raises:
            InputError: the file is missing, unreadable, or its special pieces are not ours.
        """
        if self._processor is None:
            self._processor = _open(self.model_path, self._content)
        return self._processor

    @property
    def vocab_size(self) -> int:
        """Number of pieces, special ones included."""
        return len(self.processor)

    def encode(self, text: str) -> list[int]:
        """Return the piece ids of ``text`` as it stands: not normalised, nothing added, nothing cut."""
        return self.processor.encode(text)

    def pieces(self, text: str) -> list[str]:
        """Return the pieces themselves, for people to read; an unknown one is shown as its text."""
        return self.processor.encode(text, out_type=str)

    def caption_tokens(self, text: str, max_length: int) -> list[int]:
        """Normalise, encode, put between [SOS] and [EOS], and cut to ``max_length`` caption tokens.

        The [EOS] goes when it does not fit. ``text`` is a caption as written.
        """
        return [SOS_ID, *self.encode(normalise(text)), EOS_ID][:max_length]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of the caption tokens before the first [EOS]; special pieces leave no trace.

        An unknown piece becomes ``⁇``; so does padding, unless an [EOS] stands before it.
        """
        plain = [int(piece) for piece in ids]
        end = plain.index(EOS_ID) if EOS_ID in plain else len(plain)
        return self.processor.decode(plain[:end])


def _open(path: Path, content: bytes | None) -> sentencepiece.SentencePieceProcessor:
    if content is None:
        if not path.is_file():
            raise InputError(f"{path}: no such tokenizer; run the tokenize stage first")
        content = path.read_bytes()
    try:
        processor = sentencepiece.SentencePieceProcessor(model_proto=content)
    except RuntimeError:
        raise InputError(f"{path}: not a SentencePiece model; run the tokenize stage again") from None
    found = tuple(processor.id_to_piece(i) for i in range(min(len(SPECIAL_PIECES), len(processor))))
    if found != SPECIAL_PIECES:
        raise InputError(
            f"{path}: its first pieces are {', '.join(found)}; expected {', '.join(SPECIAL_PIECES)}: "
            "a tokenizer made elsewhere?"
        )
    return processor


@dataclass(frozen=True)
class CaptionFigures:
    """Figures of one split.

    Attributes:
        metrics: numbers for metrics.json; lengths in caption tokens, [SOS] and [EOS] included, uncut.
        lengths: ``(caption tokens, captions)`` from the shortest to the longest, gaps as 0.
    """

    metrics: dict[str, float]
    lengths: list[tuple[int, int]]


def caption_figures(
    tokenizer: CaptionTokenizer, captions: Iterable[str], max_caption_length: int
) -> CaptionFigures:
    """Measure normalised captions (at least one) under a tokenizer; none is kept."""
    lengths = array("l")
    num_unknown = 0
    for caption in captions:
        pieces = tokenizer.encode(caption)
        lengths.append(len(pieces) + BOUNDARY_TOKENS)
        num_unknown += pieces.count(UNK_ID)
    tokens = np.array(lengths)
    counts = Counter(lengths)
    num_pieces = sum(lengths) - BOUNDARY_TOKENS * len(lengths)
    return CaptionFigures(
        metrics={
            "captions": len(lengths),
            "tokens_mean": float(tokens.mean()),
            "tokens_p50": float(np.percentile(tokens, 50)),
            "tokens_p95": float(np.percentile(tokens, 95)),
            "tokens_max": int(tokens.max()),
            "truncated_share": float((tokens > max_caption_length).mean()),
            "unknown_rate": num_unknown / max(num_pieces, 1),
        },
        lengths=[(length, counts[length]) for length in range(min(counts), max(counts) + 1)],
    )


def readable_sample(
    tokenizer: CaptionTokenizer, captions: Sequence[str], max_caption_length: int, num_captions: int = 40
) -> str:
    """Return captions as written, spread evenly over all, each with the pieces the model will see."""
    step = max(1, len(captions) // num_captions)
    blocks = []
    for caption in captions[::step][:num_captions]:
        pieces = ["[SOS]", *tokenizer.pieces(normalise(caption)), "[EOS]"]
        kept, cut = pieces[:max_caption_length], pieces[max_caption_length:]
        tail = f"   cut off: {' '.join(cut)}" if cut else ""
        blocks.append(f"{caption.strip()}\n  {' '.join(kept)}{tail}\n")
    return "\n".join(blocks)
