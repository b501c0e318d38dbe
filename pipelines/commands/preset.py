"""``virtex preset list|show|apply``: overlays on params.yaml."""

import argparse
from pathlib import Path
from typing import Any

from components.params import list_presets, matching_presets, overlay, read_preset
from components.params.presets import PRESETS_DIR
from pipelines.workspace import run_lock


def add_parser(commands: Any) -> None:
    preset = commands.add_parser("preset", help="overlays on params.yaml").add_subparsers(required=True)
    preset.add_parser("list", help="all presets; * marks those in force").set_defaults(command=_list)
    show = preset.add_parser("show", help="print a preset")
    show.add_argument("name")
    show.set_defaults(command=_show)
    apply = preset.add_parser("apply", help="lay a preset over params.yaml")
    apply.add_argument("name")
    apply.set_defaults(command=_apply)


def _list(_: argparse.Namespace) -> int:
    in_force = matching_presets()
    for name in list_presets():
        print(f"{'*' if name in in_force else ' '} {name}")
    return 0


def _show(options: argparse.Namespace) -> int:
    read_preset(options.name)
    print((PRESETS_DIR / f"{options.name}.yaml").read_text(encoding="utf-8"), end="")
    return 0


def _apply(options: argparse.Namespace) -> int:
    with run_lock(Path.cwd()):
        changes = overlay(options.name)
    print(*[str(change) for change in changes] or ["params.yaml has these values already."], sep="\n")
    return 0
