"""``virtex playground``: a page on loopback that shows what models make of a picture."""

import argparse
import os
import socket
from pathlib import Path

import uvicorn

from components.commands import run_command
from components.commands.caption import KNOWS_SHAPES
from components.core import machine, paths
from components.core.command import Parser, positive
from components.core.errors import InputError
from components.dataset_titles import DRAWN, read_titles
from components.playground.models import Known, open_players
from components.playground.server import HOSTS, Playground

PORT, IMAGES = 7860, 500

DESCRIPTION = "A page that shows what models make of a picture: captions, looks, neighbours, likeliest words."
EPILOG = """
examples:
  this run's captioner, beside the random backbone
    virtex playground
  an imported model beside it
    virtex playground outputs/select/captioner.safetensors outputs/captioners/NAME.safetensors
  a checkpoint of the original authors, whose tokenizer is a file of its own
    virtex playground bicaptioning_R_50_L1_H2048.pth --tokenizer coco_10k.model

The page is for this machine alone, and fetches nothing from elsewhere. Ctrl-C stops it.
VIRTEX_DEVICE chooses the device.
"""


def main() -> int:
    """Serve the page until a signal comes."""
    options = build_parser().parse_args()
    with _listening(options.port) as listening:
        server = uvicorn.Server(
            uvicorn.Config(
                _playground(options).app(),
                log_level="warning",
                lifespan="off",
                server_header=False,
                timeout_graceful_shutdown=2,
            )
        )
        print(f"Playground http://{HOSTS[0]}:{options.port}\nCtrl-C stops it.", flush=True)
        server.run([listening])
    return 0


def _playground(options: argparse.Namespace) -> Playground:
    sources = options.models or _this_run()
    players = open_players(sources, machine.device_name(), options.tokenizer)
    is_ours = not options.models and read_titles().get("source") == DRAWN
    notices = [KNOWS_SHAPES] if is_ours else []
    images, store = None, paths.lmdb_path("val")
    if store.is_file():
        images = Known.of(store, options.images)
        for player in players:
            player.learn(images, machine.num_cpus())
    else:
        notices.append(f"{store} does not exist, so that there are no neighbours: `virtex run lmdb` makes it")
    return Playground(players, images, notices)


def _this_run() -> list[str]:
    if not paths.CAPTIONER.is_file():
        raise InputError(
            f"{paths.CAPTIONER} does not exist yet: run `virtex run` in the repository first, or name models"
        )
    random = paths.backbone_path("random")
    return [str(paths.CAPTIONER), *([str(random)] if random.is_file() else [])]


def _listening(port: int) -> socket.socket:
    try:
        return socket.create_server((HOSTS[0], port))
    except (OSError, OverflowError) as error:  # OverflowError: no port has so high a number
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
        raise InputError(f"port {port} cannot be used ({reason}); choose another with --port") from error


def build_parser() -> Parser:
    """Build the parser of the command line."""
    parser = Parser(
        prog="virtex playground",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "models",
        nargs="*",
        metavar="MODEL",
        help="captioner file or backbone file of ours, an authors' .pth file (path or URL), or a published "
        f"model's name (default: {paths.CAPTIONER}, and the random backbone)",
    )
    parser.add_argument(
        "--tokenizer", type=Path, help="SentencePiece model of those captioners whose files hold none"
    )
    parser.add_argument("--port", type=positive, default=PORT, help=f"default: {PORT}")
    parser.add_argument(
        "--images",
        type=positive,
        default=IMAGES,
        metavar="N",
        help=f"validation images to find neighbours among (default: {IMAGES})",
    )
    return parser


if __name__ == "__main__":
    run_command(main)
