"""``virtex export``: a backbone in the format of another library; backbone or captioner as a served model."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from components import params
from components.commands import run_command
from components.core import paths
from components.core.command import Parser, writable
from components.core.errors import InputError
from components.core.redaction import redacted
from components.export.formats import FORMATS, Format
from components.export.zoo.resnets import find_resnet
from components.export.zoo.weights import open_weights
from components.models.backbones import TorchvisionBackbone, load_backbone
from components.objectives.saved import load_preprocessing
from components.params.reading import nearest

SERVED_FILES = frozenset(
    ("MLmodel", "artifacts", "code", "conda.yaml", "python_env.yaml", "requirements.txt", "served.py")
)


def _save_served(cnn: nn.Module, about: Mapping[str, str], path: Path) -> None:
    from components.captioning.served import save_backbone_model  # MLflow, for seconds: only where asked for

    save_backbone_model(cnn, about, path)


EXPORTS = FORMATS | {"mlflow": Format(_save_served, "_mlflow", SERVED_FILES)}


def main() -> int:
    """Write one file or folder and print its path."""
    options = build_parser().parse_args()
    chosen = EXPORTS[options.format]
    if options.output is not None:
        _require_own(options.output, chosen)
    if options.captioner:
        if options.format != "mlflow":
            raise InputError("--captioner: a captioner has one format, --format mlflow")
        from components.captioning.served import save_captioner_model

        path = options.output or paths.EXPORTS_DIR / f"captioner{chosen.ending}"
        save_captioner_model(paths.CAPTIONER, path)
        print(path)
        return 0
    if options.checkpoint is None:
        name = options.backbone
        known = paths.exported_backbones()
        if known and name not in known:
            raise InputError(f"--backbone {name}: not in {paths.BACKBONES_DIR}{nearest(name, known)}")
        cnn, metadata = load_backbone(paths.backbone_path(name))
        if metadata.get("source") == params.PRETRAINED and paths.CAPTIONER.is_file():
            seen = load_preprocessing(paths.CAPTIONER)
            metadata |= {"resolution": str(seen.crop_size)} if seen else {}
    else:
        cnn, metadata = _from_checkpoint(options.checkpoint)
        name = Path(options.checkpoint.partition("#")[0].partition("?")[0]).stem
    path = options.output or paths.EXPORTS_DIR / f"{name}{chosen.ending}"
    chosen.export(cnn, metadata, path)
    print(path)
    return 0


def _from_checkpoint(source: str) -> tuple[nn.Module, dict[str, str]]:
    found = find_resnet(open_weights(source), source)
    cnn = found.build().requires_grad_(False).eval()
    with torch.device("meta"):
        size = TorchvisionBackbone(found.architecture).feature_size
    return cnn, {
        "architecture": found.architecture,
        "feature_size": str(size),
        "weights": redacted(source),
    }


def _require_own(path: Path, chosen: Format) -> None:
    """Refuse to replace anything of the user's but an earlier export."""
    if path.is_dir():
        others = {entry.name for entry in path.iterdir()} - chosen.files
        if others or not chosen.files:
            raise InputError(
                f"--output {path}: a folder"
                + (f" with other things in it, such as {min(others)}" if chosen.files else "")
                + f"; name {'a new folder' if chosen.files else 'a file'}"
            )
    elif chosen.files and path.exists():
        raise InputError(f"--output {path}: a file; this format is a folder, name a new one")


def build_parser() -> Parser:
    """Build the parser of the command line."""
    parser = Parser(
        prog="virtex export",
        description="A backbone in the format of another library, or a model that MLflow serves.",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--backbone",
        default=params.PRETRAINED,
        help=f"name of a file in {paths.BACKBONES_DIR}; default: this run's, {params.PRETRAINED}",
    )
    what.add_argument(
        "--checkpoint", metavar="SOURCE", help="a path, a URL or a model of `virtex zoo list`, instead"
    )
    what.add_argument("--captioner", action="store_true", help="this run's captioner, for MLflow to serve")
    parser.add_argument("--format", required=True, choices=EXPORTS)
    parser.add_argument(
        "--output",
        type=writable,
        metavar="PATH",
        help=f"file, or folder of huggingface and mlflow; default: in {paths.EXPORTS_DIR}",
    )
    return parser


if __name__ == "__main__":
    run_command(main)
