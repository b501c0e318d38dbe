import hashlib
import json
import pickle
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import sentencepiece

from components.core.caption_tokens import EOS_ID, MASK_ID, PAD_ID, SOS_ID, UNK_ID
from components.core.errors import InputError
from components.text.tokenizer import CaptionTokenizer, normalise, train_tokenizer

CAPTIONS = ["a red dog on a mat", "two dogs left of a red cat", "a cat on a mat"] * 5


def without_marks(caption: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFD", caption) if unicodedata.category(c) != "Mn")


def largest_vocabulary(tmp_path: Path) -> int:
    with pytest.raises(
        InputError, match=r"tokenize\.vocab_size: 9999 is too large.* largest possible is"
    ) as fault:
        train_tokenizer(CAPTIONS, 9999, tmp_path / "x.model")
    return int(str(fault.value).split("possible is ")[1].split(".")[0])


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CaptionTokenizer:
    path = tmp_path_factory.mktemp("tokenizer") / "captions.model"
    train_tokenizer(CAPTIONS, 30, path)
    return CaptionTokenizer(path)


@pytest.fixture(scope="module")
def golden(shared_dir: Path) -> dict[str, Any]:
    return json.loads((shared_dir / "golden" / "tokenizer.json").read_text(encoding="utf-8"))["variants"]


@pytest.fixture(scope="module")
def golden_corpus(shared_dir: Path) -> list[str]:
    corpus = json.loads((shared_dir / "golden" / "tokenizer_corpus.json").read_text(encoding="utf-8"))
    return [annotation["caption"] for annotation in corpus["annotations"]]


@pytest.mark.parametrize("variant", ["lower_s300", "cased_s300", "lower_accents_s300"])
def test_golden_vocabulary_and_ids(
    variant: str, golden: dict[str, Any], golden_corpus: list[str], tmp_path: Path
) -> None:
    prepare = {
        "lower_s300": normalise,
        "cased_s300": without_marks,
        "lower_accents_s300": str.lower,
    }[variant]
    expected = golden[variant]
    path = tmp_path / "captions.model"
    train_tokenizer(map(prepare, golden_corpus), expected["vocab_size"], path)

    vocab = path.with_suffix(".vocab").read_bytes()
    assert [line.split("\t")[0] for line in vocab.decode().splitlines()] == expected["vocab"]
    assert hashlib.sha256(vocab).hexdigest() == expected["vocab_sha256"]
    tokenizer = CaptionTokenizer(path)
    assert tokenizer.vocab_size == expected["vocab_size"]
    for sentence in expected["sentences"]:
        assert tokenizer.encode(sentence["text"]) == sentence["ids"]
        assert [tokenizer.processor.id_to_piece(i) for i in sentence["ids"]] == sentence["pieces"]
        assert tokenizer.decode(sentence["ids"]) == sentence["decoded"]
    for case in expected["decode"]:
        assert tokenizer.decode(case["ids"]) == case["text"]
    for piece in ("<unk>", "[SOS]", "[EOS]", "[MASK]"):
        assert tokenizer.processor.piece_to_id(piece) == expected["special"][piece]


def test_training_is_deterministic(tokenizer: CaptionTokenizer, tmp_path: Path) -> None:
    train_tokenizer(iter(CAPTIONS), 30, tmp_path / "again.model")
    assert (tmp_path / "again.model").read_bytes() == tokenizer.model_path.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.model", "again.vocab"]


def test_largest_possible_vocabulary_is_named_and_works(tmp_path: Path) -> None:
    largest = largest_vocabulary(tmp_path)
    assert list(tmp_path.iterdir()) == []
    train_tokenizer(CAPTIONS, largest, tmp_path / "x.model")
    assert CaptionTokenizer(tmp_path / "x.model").vocab_size == largest
    with pytest.raises(InputError, match=str(largest)):
        train_tokenizer(CAPTIONS, largest + 1, tmp_path / "x.model")


def test_long_captions_and_the_trainers_own_mark_lose_nothing(tmp_path: Path) -> None:
    """SentencePiece itself leaves out texts of more than 4,192 bytes, and texts with U+2585."""
    for name, caption in (("long", "zebra " * 1000), ("mark", "zebra \u2585")):
        train_tokenizer([*CAPTIONS, caption], 34, tmp_path / f"{name}.model")
        assert UNK_ID not in CaptionTokenizer(tmp_path / f"{name}.model").encode("zebra")


def test_too_small_and_no_captions(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tokenize\.vocab_size: 8 is too small"):
        train_tokenizer(CAPTIONS, 8, tmp_path / "x.model")
    with pytest.raises(InputError, match="no captions"):
        train_tokenizer([], 30, tmp_path / "x.model")


def test_caption_tokens_are_normalised_and_cut(tokenizer: CaptionTokenizer) -> None:
    whole = tokenizer.caption_tokens("A RÉD dog", 30)
    assert whole == [SOS_ID, *tokenizer.encode("a red dog"), EOS_ID]
    assert tokenizer.caption_tokens("a red dog", len(whole)) == whole
    assert tokenizer.caption_tokens("a red dog", len(whole) - 1) == whole[:-1]
    assert tokenizer.caption_tokens("", 30) == [SOS_ID, EOS_ID]


def test_special_pieces_cannot_be_written_in_a_caption(tokenizer: CaptionTokenizer) -> None:
    inner = tokenizer.caption_tokens("[SOS] a [MASK] [EOS]", 99)[1:-1]
    assert not {SOS_ID, EOS_ID, MASK_ID} & set(inner)
    assert UNK_ID in inner


def test_decode_stops_at_the_first_eos(tokenizer: CaptionTokenizer) -> None:
    dog = tokenizer.encode("a red dog")
    assert tokenizer.decode([SOS_ID, *dog, EOS_ID, PAD_ID, PAD_ID]) == "a red dog"
    assert tokenizer.decode([SOS_ID, *dog, EOS_ID, *dog]) == "a red dog"
    assert tokenizer.decode([EOS_ID]) == tokenizer.decode([]) == ""


def test_pickled_by_path_alone(tokenizer: CaptionTokenizer) -> None:
    expected = tokenizer.encode("a dog")
    data = pickle.dumps(tokenizer)
    assert len(data) < 1000
    assert pickle.loads(data).encode("a dog") == expected


def test_a_model_may_come_as_its_content(tokenizer: CaptionTokenizer) -> None:
    content = tokenizer.model_path.read_bytes()
    inside = CaptionTokenizer("captioner.safetensors", content)
    for copy in (inside, pickle.loads(pickle.dumps(inside))):
        assert copy.encode("a red dog") == tokenizer.encode("a red dog")
    with pytest.raises(InputError, match=r"captioner\.safetensors: not a SentencePiece model"):
        CaptionTokenizer("captioner.safetensors", b"not a model").encode("a")


def test_missing_broken_and_foreign_models(tmp_path: Path) -> None:
    path = tmp_path / "captions.model"
    tokenizer = CaptionTokenizer(path)
    with pytest.raises(InputError, match="run the tokenize stage"):
        tokenizer.encode("a")
    path.write_bytes(b"not a model")
    with pytest.raises(InputError, match="not a SentencePiece model"):
        tokenizer.encode("a")
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CAPTIONS),
            model_writer=file,
            vocab_size=30,
            model_type="bpe",
            minloglevel=2,
        )
    with pytest.raises(InputError, match=r"first pieces are <unk>, <s>, </s>"):
        tokenizer.encode("a")


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A Dog", "a dog"),
        ("the SEÑOR's café", "the senor's cafe"),
        ("ａ ½ ﬁeld", "a 1⁄2 field"),
        ("e\u0301\u0327", "e"),
        ("İ", "i"),
        ("犬 🐕", "犬 🐕"),
        ("  two\n", "  two\n"),
    ],
)
def test_lower_case_without_marks(caption: str, expected: str) -> None:
    assert normalise(caption) == expected
