"""``virtex preset list|show|apply``: overlays on params.yaml."""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.params import Change, list_presets, matching_presets, overlay, read_preset
from components.params.presets import PRESETS_DIR, preset_summary
from pipelines.workspace import run_lock


def add_parser(commands: Any) -> None:
    preset = commands.add_parser("preset", help="overlays on params.yaml").add_subparsers(required=True)
    preset.add_parser("list", help="all presets; * marks those in force").set_defaults(command=_list)
    show = preset.add_parser("show", help="print a preset and what it would change in params.yaml")
    show.add_argument("name")
    show.set_defaults(command=_show)
    apply = preset.add_parser("apply", help="lay a preset over params.yaml, which keeps its comments")
    apply.add_argument("name")
    apply.add_argument("--dry-run", action="store_true", help="only show what would change")
    apply.set_defaults(command=_apply)


def _list(_: argparse.Namespace) -> int:
    in_force, names = matching_presets(), list_presets()
    size, width = max(map(len, names), default=0), shutil.get_terminal_size((110, 24)).columns
    for name in names:
        line = f"{'*' if name in in_force else ' '} {name:<{size}}  {preset_summary(name)}".rstrip()
        print(line if len(line) <= width else line[: width - 3].rstrip() + "...")
    return 0


def _show(options: argparse.Namespace) -> int:
    read_preset(options.name)
    print((PRESETS_DIR / f"{options.name}.yaml").read_text(encoding="utf-8"), end="")
    print("\n# Changes to params.yaml as it is:")
    print(*(f"#   {line}" for line in _lines(overlay(options.name, dry_run=True))), sep="\n")
    return 0


def _apply(options: argparse.Namespace) -> int:
    if options.dry_run:
        changes = overlay(options.name, dry_run=True)
    else:
        with run_lock(Path.cwd()):
            changes = overlay(options.name)
    print(*_lines(changes), sep="\n")
    if options.dry_run and changes:
        print("Nothing is written: --dry-run.")
    return 0


def _lines(changes: Sequence[Change]) -> list[str]:
    return [str(change) for change in changes] or ["none: params.yaml has these values already"]
