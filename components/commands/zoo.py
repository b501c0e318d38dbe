"""``virtex zoo``: the published models, and other people's weights as files of this project."""

import argparse
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from components import params
from components.captioning.checkpoint import PUBLISHED_TRANSFORM
from components.commands import run_command
from components.core import paths
from components.core.command import Parser
from components.core.errors import InputError
from components.core.published import BENCHMARKS, REMARKS, SOURCE
from components.core.redaction import redacted
from components.export.zoo.captioners import Alike, build_captioner, is_captioner
from components.export.zoo.catalogue import ZOO, ZooModel, zoo_model
from components.export.zoo.resnets import find_resnet
from components.export.zoo.weights import cache_dir, open_weights
from components.models.backbones import export_backbone
from components.objectives.build import ModelConfig
from components.objectives.saved import Preprocessing, save_captioner
from components.params import list_presets
from components.text.tokenizer import CaptionTokenizer

COLUMNS = ("voc07.mAP", "imagenet_linear.top1")


def main() -> int:
    """Run the subcommand."""
    options = build_parser().parse_args()
    options.action(options)
    return 0


def _list(options: argparse.Namespace) -> None:
    if options.json:
        _print_json([_about(model) for model in ZOO.values()])
        return
    width = max(map(len, ZOO))
    print(f"{'Published model':<{width}}  VOC07 mAP  ImageNet top-1")
    for name, model in ZOO.items():
        voc07, imagenet = (model.published.figures[key] for key in COLUMNS)
        print(f"{name:<{width}}  {voc07:9.1f}  {imagenet:14.1f}")
    print(f"Figures: {SOURCE}. `virtex zoo import NAME` fetches the authors' checkpoint.")


def _about(model: ZooModel) -> dict[str, Any]:
    """Return what is known of a model, for programs; figures in percent by ``benchmark.metric``."""
    preset = next((preset for preset in list_presets() if preset.endswith(f"/{model.name}")), None)
    setup, figures = asdict(model.published.setup), dict(model.published.figures)
    return {"name": model.name, **setup, "figures": figures, "preset": preset, "checkpoint": model.url}


def _print_json(content: Any) -> None:
    print(json.dumps(content, indent=2, ensure_ascii=False))


def _show(options: argparse.Namespace) -> None:
    model = zoo_model(options.name)
    about = _about(model)
    if options.json:
        _print_json(about)
        return
    setup = model.published.setup
    titles = {benchmark.key: f"{benchmark.title}, {benchmark.metric_title}" for benchmark in BENCHMARKS}
    rows = {
        "task": setup.objective,
        "backbone": setup.backbone,
        "pretraining": f"{setup.captions}, {setup.iterations:,} iterations of {setup.batch_size} images",
        **{titles[key]: f"{figure:.1f} %" for key, figure in model.published.figures.items()},
        "preset": about["preset"] or "none",
        "checkpoint": model.url,
    }
    print(model.name)
    remarks = [REMARKS[key] for key in model.published.figures if key in REMARKS]
    width = max(map(len, rows))
    print(*(f"  {title:<{width}}  {value}" for title, value in rows.items()), *remarks, sep="\n")


def _import(options: argparse.Namespace) -> None:
    """Check everything, then write the backbone and, of a whole model, the captioner."""
    source: str = options.source
    name = options.name or re.sub(r"\W", "_", Path(re.split("[?#]", source)[0]).stem)
    _check_name(name)
    tensors = open_weights(source)
    found = find_resnet(tensors, source)
    captioner = build_captioner(tensors, source, options.objective) if is_captioner(tensors) else None
    preprocessing = _preprocessing(options.tokenizer, source, captioner[1] if captioner else None)

    path = paths.backbone_path(name)
    export_backbone(found.build(), path, found.architecture, name, {"weights": redacted(source)})
    print(f"{path}: {found.architecture}; benchmark it with")
    print(f"  virtex run --set 'benchmarks.backbones=[{params.PRETRAINED}, random, {name}]'")
    if captioner:
        path = paths.captioner_path(name)
        save_captioner(path, *captioner, preprocessing)
        config = captioner[1]
        print(f"{path}: {config.objective.name}, {config.vocab_size:,} pieces or labels")


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_]+", name):
        raise InputError(f"--name {name}: use letters, digits and _ only")
    made = [params.PRETRAINED, *params.read_section(params.Baseline).sources]
    if name in made:
        raise InputError(f"--name {name}: the pipeline makes a backbone of this name; choose another")


def _preprocessing(tokenizer: Path | None, source: str, config: ModelConfig | None) -> Preprocessing | None:
    if tokenizer is None:
        return None
    if config is None:
        raise InputError(f"{source}: a backbone alone writes no captions; leave --tokenizer out")
    pieces = CaptionTokenizer(tokenizer).vocab_size
    if pieces != config.vocab_size:
        raise InputError(f"{tokenizer}: {pieces} pieces, but {source} was trained with {config.vocab_size}")
    seen = PUBLISHED_TRANSFORM
    return Preprocessing(seen.crop_size, tokenizer.read_bytes(), seen.image_size, seen.antialias)


def build_parser() -> Parser:
    """Build the parser of the command line."""
    parser = Parser(prog="virtex zoo", description="Published models, and other people's checkpoints.")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="the published models with their figures")
    listing.set_defaults(action=_list)
    show = actions.add_parser("show", help="one of them: setup, figures, URL")
    show.add_argument("name")
    show.set_defaults(action=_show)
    for shown in (listing, show):
        shown.add_argument("--json", action="store_true", help="for programs")
    imports = actions.add_parser(
        "import",
        help="make a checkpoint of VirTex, torchvision or MoCo ready to benchmark, caption and export",
        description=f"Downloads stay in {cache_dir()}. Only tensors are read, no code is run.",
    )
    imports.add_argument(
        "source", help="a published model, a path, or a URL; #sha256=... after it is checked"
    )
    imports.add_argument("--name", help="of the files; default: the source's")
    imports.add_argument("--objective", choices=get_args(Alike), help="of a file that may be either")
    imports.add_argument(
        "--tokenizer", type=Path, help="SentencePiece model, so that the captioner's file is complete"
    )
    imports.set_defaults(action=_import)
    return parser


if __name__ == "__main__":
    run_command(main)
