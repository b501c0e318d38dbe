"""Commands that need torch: ``virtex NAME ...`` becomes ``python -m components.commands.NAME ...``."""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

# name: what it does, for `virtex --help`; the module parses its own arguments.
CHILD_COMMANDS: dict[str, str] = {
    "doctor": "check this machine: what is fine, what is broken, what to do",
    "export": "write a backbone for torchvision, timm, detectron2, ONNX or Hugging Face",
    "zoo": "the published models, and checkpoints of other people",
    "bench": "how fast this machine works, beside the paper's own recipe",
    "caption": "caption images with a pretrained model",
}


def become(name: str, arguments: Sequence[str]) -> NoReturn:
    """Turn this process into the command's: signals and the exit status are its own."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", f"components.commands.{name}", *arguments])
