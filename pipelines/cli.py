"""The command line ``virtex``: its parser, how a command ends, and the commands that fit a screen.

The larger ones are in modules of pipelines.commands. Each has a function that adds its arguments and sets
``command`` to the function that runs it: options in, exit status out. Commands that need torch are modules of
components.commands, which this process turns into.
"""

import argparse
import importlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

from components.core.command import EXIT_STATUS, Parser, ended, folder, writable
from components.core.errors import InputError
from components.core.files import read_json
from components.core.foreign_text import printable, said
from components.core.paths import PARAMS
from components.params import Change, list_presets, matching_presets, overlay, read_preset
from components.params.expected_time import as_lines, expected_times
from components.params.presets import PRESETS_DIR, preset_sections, preset_summary
from components.tracking.pipeline_run import REPORT, REPORT_PAGE
from pipelines.commands import EXIT_FAILED, ablate, cluster, pages, run
from pipelines.record import report_text
from pipelines.workspace import run_lock

# name: what it does, for `virtex --help`; the module in components.commands parses its own arguments.
CHILD_COMMANDS: dict[str, str] = {
    "doctor": "check this machine: what is fine, what is broken, what to do",
    "export": "write a backbone for torchvision, timm, detectron2, ONNX or Hugging Face",
    "zoo": "the published models, and checkpoints of other people",
    "bench": "how fast this machine works, beside the paper's own recipe",
    "caption": "caption images with a pretrained model",
    "playground": "a page that shows what models make of a picture",
}


GROUPS = {
    "results": ("run", "status", "report", "preset", "ablate"),
    "what was learned": ("caption", "playground", "export", "zoo"),
    "pages, and other machines": ("ui", "serve", "cluster", "worker"),
    "this machine": ("doctor", "bench", "completion"),
}
EXAMPLES = """
examples:
  virtex run --preset mini                       a preset, which stays in force
  virtex run --set schedule.iterations=1000      one value changed
  virtex status voc07@virtex                     what that stage would cost
  virtex caption photo.jpg                       with the model that was pretrained
  virtex COMMAND --help                          all about a command"""
ALL_COLUMNS = sys.maxsize  # where no terminal limits them: nothing is cut short in a pipe


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its status, ``EXIT_STATUS``."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in CHILD_COMMANDS:
        _exec_command(arguments[0], arguments[1:])
    return ended(lambda: _run(arguments))


def _exec_command(name: str, arguments: Sequence[str]) -> NoReturn:
    """Turn this process into the command's: signals and the exit status are its own."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", f"components.commands.{name}", *arguments])


def _run(arguments: Sequence[str]) -> int:
    options = build_parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    if command is not _completion and not os.path.lexists(PARAMS):
        raise InputError(f"no {PARAMS} in {Path.cwd()}: run it in the repository's root folder")
    return command(options)


def build_parser() -> Parser:
    """Return the parser of the whole command line, but for the arguments of ``CHILD_COMMANDS``."""
    parser = Parser(
        prog="virtex",
        usage="%(prog)s [-h] [--version] COMMAND ...",
        description="From captioned images to a benchmarked backbone.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action="version", version=f"virtex {metadata.version('virtex-pipeline')}"
    )
    commands = parser.add_subparsers(prog="virtex", required=True, metavar="COMMAND", help=argparse.SUPPRESS)
    for add_parser in (
        run.add_parser,
        pages.add_serve_parser,
        _add_status_parser,
        ablate.add_parser,
        cluster.add_parser,
        cluster.add_worker_parser,
        pages.add_ui_parser,
        _add_report_parser,
        _add_preset_parser,
        _add_completion_parser,
    ):
        add_parser(commands)
    for name, purpose in CHILD_COMMANDS.items():
        commands.add_parser(name, help=purpose, add_help=False)
    purposes = {listed.dest: listed.help for listed in commands._choices_actions}
    groups = [
        "\n".join([f"{title}:", *(f"  {name:<12}{purposes[name]}" for name in names)])
        for title, names in GROUPS.items()
    ]
    parser.epilog = "\n\n".join([*groups, EXAMPLES.strip(), f"exit status:\n  {EXIT_STATUS}"])
    return parser


def whole_parser() -> Parser:
    """Return the parser with all arguments, for which the modules of ``CHILD_COMMANDS`` are imported."""
    parser = build_parser()
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    for name in CHILD_COMMANDS:
        commands.choices[name] = importlib.import_module(f"components.commands.{name}").build_parser()
    return parser


def _add_completion_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "completion",
        help="print what lets a shell complete commands and options",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="virtex completion bash > ~/.local/share/bash-completion/completions/virtex\n"
        "virtex completion zsh > ~/.zfunc/_virtex       # with fpath+=~/.zfunc before compinit",
    )
    parser.add_argument("shell", choices=["bash", "zsh", "tcsh"])
    parser.set_defaults(command=_completion)


def _completion(options: argparse.Namespace) -> int:
    import shtab

    parser = whole_parser()
    _completed(parser)
    print(shtab.complete(parser, options.shell))
    return 0


def _completed(parser: argparse.ArgumentParser) -> None:
    """Make of the parser what shtab understands: commands, choices, and files where a path is asked for."""
    import shtab

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            action.help = "command"  # shtab leaves out what the help does
            for below in action.choices.values():
                _completed(below)
        elif action.choices:
            action.choices = [choice for choice in action.choices if isinstance(choice, str)]  # not `[]`
        elif action.type in (Path, writable, folder):
            action.complete = shtab.DIRECTORY if action.type is folder else shtab.FILE  # type: ignore[attr-defined]


def _add_status_parser(commands: Any) -> None:
    parser = commands.add_parser("status", help="what has run, what is stale and why, and what it would cost")
    parser.add_argument("targets", nargs="*", help="stages, with all that they need; none means all")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--all", action="store_true", help="every stage on a line of its own")
    shown.add_argument("--json", action="store_true", help="for programs")
    shown.add_argument(
        "--check",
        action="store_true",
        help="the stages whose entry in dvc.lock is stale, and exit status 1 if there are any; outputs need "
        "not be here, as in a clone without `dvc pull`",
    )
    parser.set_defaults(command=_status)


def _status(options: argparse.Namespace) -> int:
    from pipelines.status.state import as_json, read_status, stale_in_lock
    from pipelines.status.text import all_lines, as_lines

    if options.check:
        stale = stale_in_lock(options.targets)
        print(*stale or ["dvc.lock is up to date"], sep="\n")
        return EXIT_FAILED if stale else 0
    status = read_status(Path.cwd(), options.targets)
    if options.json:
        print(json.dumps(as_json(status), indent=2, ensure_ascii=False))
    elif options.all:
        print(*map(printable, all_lines(status)), sep="\n")
    else:
        print(*map(printable, as_lines(status, _columns())), sep="\n")
    return 0


def _columns() -> int:
    return shutil.get_terminal_size((ALL_COLUMNS, 24)).columns


def _add_report_parser(commands: Any) -> None:
    parser = commands.add_parser("report", help="print the results of the last run and where their page is")
    parser.add_argument("--json", action="store_true", help="for programs: the figures")
    parser.set_defaults(command=_report)


def _report(options: argparse.Namespace) -> int:
    if not REPORT.is_file():
        raise InputError(f"{REPORT} does not exist yet: run `virtex run` first")
    if options.json:
        print(_figures(REPORT.with_name("metrics.json")))
        return 0
    print(report_text())
    if REPORT_PAGE.is_file():
        print(f"\nPage: {REPORT_PAGE.resolve()}")
    return 0


def _figures(path: Path) -> str:
    try:
        return json.dumps(read_json(path), indent=2, ensure_ascii=False)
    except (FileNotFoundError, ValueError) as error:
        raise InputError(f"{path}: {error}; make it again with `virtex run report`") from error


def _add_preset_parser(commands: Any) -> None:
    preset = commands.add_parser("preset", help="overlays on params.yaml").add_subparsers(
        required=True, metavar="ACTION"
    )
    preset.add_parser("list", help="all presets; * marks those in force").set_defaults(command=_list_presets)
    show = preset.add_parser("show", help="print a preset and what it would change in params.yaml")
    show.add_argument("name")
    show.set_defaults(command=_show_preset)
    apply = preset.add_parser("apply", help="apply a preset to params.yaml, which keeps its comments")
    apply.add_argument("name")
    apply.add_argument("--dry-run", action="store_true", help="only show what would change")
    apply.set_defaults(command=_apply_preset)


def _list_presets(_: argparse.Namespace) -> int:
    in_force, names = matching_presets(), list_presets()
    size, width = max(map(len, names), default=0), _columns()
    for name in names:
        line = printable(
            f"{'*' if name in in_force else ' '} {name:<{size}}  {preset_summary(name)}".rstrip()
        )
        print(line if len(line) <= width else line[: width - 3].rstrip() + "...")
    return 0


def _show_preset(options: argparse.Namespace) -> int:
    read_preset(options.name)
    print(said((PRESETS_DIR / f"{options.name}.yaml").read_text(encoding="utf-8")), end="")
    times = as_lines(expected_times(preset_sections(options.name)))
    print("\n# Time and cost of pretraining, the data ready (docs/performance.md says from what):")
    print(
        *(f"#   {line}" for line in times or ["not known for this backbone, or images this small"]), sep="\n"
    )
    print("\n# Changes to params.yaml as it is:")
    print(*(f"#   {line}" for line in _lines(overlay(options.name, dry_run=True))), sep="\n")
    return 0


def _apply_preset(options: argparse.Namespace) -> int:
    if options.dry_run:
        changes = overlay(options.name, dry_run=True)
    else:
        with run_lock(Path.cwd()):
            changes = overlay(options.name)
    print(*map(printable, _lines(changes)), sep="\n")
    if options.dry_run and changes:
        print("Nothing is written: --dry-run.")
    return 0


def _lines(changes: Sequence[Change]) -> list[str]:
    return [str(change) for change in changes] or ["none: params.yaml has these values already"]


if __name__ == "__main__":
    sys.exit(main())
