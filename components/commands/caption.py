"""``virtex caption``: captions of any images, for people or as JSON."""

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from components.captioning.caption_files import CaptionedFile, Writer, caption_files, find_photographs
from components.captioning.captioner import Captioner
from components.captioning.checkpoint import open_captioner
from components.commands import run_command
from components.core import machine, paths
from components.core.command import Parser, folder, positive
from components.core.errors import InputError
from components.core.foreign_text import printable, said
from components.dataset_titles import DRAWN, read_titles

EXIT_SKIPPED = 1
KNOWS_SHAPES = (
    "this run's model was pretrained on the drawn world and knows its shapes only, no photographs; "
    "`virtex zoo list` names models that do"
)
BEAM_SIZE, TOP_P = 5, 0.9  # of the paper's public code

DESCRIPTION = "Caption images with a pretrained model."
EPILOG = """
examples:
  the likeliest caption, by beam search
    virtex caption photo.jpg
  a folder and all below it, as JSON
    virtex caption holidays/ --json > captions.json
  five random captions
    virtex caption photo.jpg --nucleus --num-captions 5 --seed 3
  a picture of where each word looked
    virtex caption photo.jpg --attention looks/
  a checkpoint of the original authors, whose tokenizer is a file of its own
    virtex caption photo.jpg --checkpoint bicaptioning_R_50_L1_H2048.pth --tokenizer coco_10k.model

Images are cut to the centre square the model was trained on. Files that are no image are skipped with
a message. Exit status: 0 all captioned, 1 some skipped, 2 bad input, 130 interrupted.
VIRTEX_DEVICE chooses the device.
"""


def main() -> int:
    """Caption what the arguments name; return 0, or 1 if a file was skipped."""
    options = _options(sys.argv[1:])
    files = find_photographs(options.images)
    if options.checkpoint is None and read_titles().get("source") == DRAWN:
        print(f"virtex: {KNOWS_SHAPES}, for --checkpoint", file=sys.stderr, flush=True)
    captioner = _captioner(options)
    results: list[CaptionedFile] = []
    found = caption_files(
        captioner,
        files,
        _writer(captioner, options),
        batch_size=options.batch_size,
        num_threads=machine.num_cpus(),
        attention_dir=options.attention,
    )
    quiet = None if options.json else True  # JSON comes at the end; None: only a terminal is shown progress
    for result in tqdm(found, total=len(files), unit="image", disable=quiet):
        if result.error is not None:
            message = said(f"virtex: skipped {printable(result.path)}: {result.error}")
            print(message, file=sys.stderr, flush=True)
        elif not options.json:
            _print(result)
        results.append(result)
    if options.json:
        print(json.dumps([_entry(result) for result in results], indent=2, ensure_ascii=False))
    return EXIT_SKIPPED if any(result.error is not None for result in results) else 0


def build_parser() -> Parser:
    """Build the parser of the command line."""
    parser = Parser(
        prog="virtex caption",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="image file, or folder of them")
    parser.add_argument(
        "--checkpoint",
        help=f"our captioner file, an authors' .pth file (path or URL), or a published model's name "
        f"(default: {paths.CAPTIONER})",
    )
    parser.add_argument("--tokenizer", type=Path, help="SentencePiece model, if the checkpoint holds none")
    parser.add_argument("--json", action="store_true", help="print a JSON array")
    parser.add_argument(
        "--num-captions", type=positive, default=1, metavar="N", help="captions per image (default: 1)"
    )
    parser.add_argument(
        "--beam-size", type=positive, metavar="N", help=f"beams per image (default: {BEAM_SIZE})"
    )
    parser.add_argument("--nucleus", action="store_true", help="sample instead of beam search")
    parser.add_argument(
        "--top-p", type=float, metavar="P", help=f"probability mass to sample from (default: {TOP_P})"
    )
    parser.add_argument("--seed", type=int, help="seed of sampling (default: 0)")
    parser.add_argument(
        "--attention", type=folder, metavar="DIR", help="draw where each word of the first caption looked"
    )
    parser.add_argument(
        "--batch-size", type=positive, default=16, metavar="N", help="images per batch (default: 16)"
    )
    return parser


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.nucleus and options.beam_size is not None:
        parser.error("--beam-size applies to beam search, not to --nucleus")
    if not options.nucleus and (options.top_p is not None or options.seed is not None):
        parser.error("--top-p and --seed need --nucleus: beam search draws nothing at random")
    return options


def _captioner(options: argparse.Namespace) -> Captioner:
    if options.checkpoint is None and not paths.CAPTIONER.is_file():
        raise InputError(
            f"{paths.CAPTIONER} does not exist yet: run `virtex run` in the repository first, or name a "
            "model with --checkpoint"
        )
    return open_captioner(
        options.checkpoint or str(paths.CAPTIONER), machine.device_name(), options.tokenizer
    )


def _writer(captioner: Captioner, options: argparse.Namespace) -> Writer:
    number = options.num_captions
    if not options.nucleus:
        beam_size = options.beam_size or max(BEAM_SIZE, number)
        return partial(captioner.search, beam_size=beam_size, num_captions=number)
    top_p = TOP_P if options.top_p is None else options.top_p
    generator = torch.Generator(captioner.device).manual_seed(options.seed or 0)
    return partial(captioner.sample, nucleus=top_p, num_captions=number, generator=generator)


def _entry(result: CaptionedFile) -> dict[str, Any]:
    """Return one element of the JSON array."""
    if result.error is not None:
        return {"image": str(result.path), "error": result.error}
    captions = [{"caption": c.text, "log_probability": c.log_probability} for c in result.captions]
    picture = {"attention": str(result.attention)} if result.attention else {}
    return {"image": str(result.path), "captions": captions, **picture}


def _print(result: CaptionedFile) -> None:
    print(printable(result.path))
    for caption in result.captions:
        print(f"  {caption.log_probability:8.2f}  {printable(caption.text)}", flush=True)


if __name__ == "__main__":
    run_command(main)
