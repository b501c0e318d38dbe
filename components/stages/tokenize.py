"""Stage 2, ``tokenize``: train the captions' vocabulary and report what it does to them."""

from components import params
from components.core import paths
from components.core.files import write_csv
from components.entry import run_stage
from components.sources.manifest import read_manifest
from components.text.document_frequencies import write_frequencies
from components.text.tokenizer import (
    CaptionTokenizer,
    caption_figures,
    normalise,
    readable_sample,
    train_tokenizer,
)
from components.tracking import StageRun

SECTIONS = (params.Tokenize, params.TextualHead)
SPLITS = ("train", "val")


def main(run: StageRun, tokenize: params.Tokenize, textual_head: params.TextualHead) -> None:
    """Train on the training captions alone; the validation captions are only measured."""
    manifest = read_manifest(paths.dataset_part("captions"))
    written = {
        split: [text for image in manifest.captions_of(split) for text in image.captions] for split in SPLITS
    }
    train_tokenizer(map(normalise, written["train"]), tokenize.vocab_size, paths.TOKENIZER_MODEL)

    tokenizer = CaptionTokenizer(paths.TOKENIZER_MODEL)
    max_length = textual_head.max_caption_length
    figures = {
        split: caption_figures(tokenizer, map(normalise, written[split]), max_length) for split in SPLITS
    }
    write_frequencies(paths.DOCUMENT_FREQUENCIES, tokenizer, written["train"], max_length)
    lengths_path = run.output_dir / "lengths.csv"
    write_csv(lengths_path, ("tokens", "captions"), figures["train"].lengths)
    run.metrics(
        {"vocab_size": tokenizer.vocab_size, **{split: found.metrics for split, found in figures.items()}}
    )
    run.artifact(lengths_path)
    run.artifact(paths.TOKENIZER_MODEL)
    run.text(readable_sample(tokenizer, written["train"], max_length), "tokenised_captions.txt")


if __name__ == "__main__":
    run_stage("tokenize", SECTIONS, main)
