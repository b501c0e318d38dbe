"""``virtex ablate``: a family of runs, each in a workspace of its own, and one comparison."""

import argparse
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.core.command import positive
from components.params.families import FAMILIES, chosen_family
from components.tracking.store import warm_up
from pipelines.commands import EXIT_FAILED, exit_status
from pipelines.prefect_server import server_watched
from pipelines.process import Stop, stop_on_signals
from pipelines.row import base_title, comparison_dir, comparison_text, write_comparison
from pipelines.row_workspace import workspace_dir
from pipelines.servers import start_temporary_server, use_workspace_server
from pipelines.workspace import run_lock, stop_orphans


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "ablate",
        help="run a family of configurations and compare them",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(["families and their rows:", *map(_described, FAMILIES)]),
    )
    parser.add_argument("family", choices=FAMILIES, metavar="FAMILY")
    parser.add_argument("--preset", help="base of the rows; default: params.yaml as it is")
    parser.add_argument("--set", action="append", dest="overrides", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--rows", nargs="+", default=[], metavar="ROW", help="only these")
    parser.add_argument("--targets", nargs="+", default=[], metavar="TARGET", help="stages of each row")
    parser.add_argument("--at-once", type=positive, default=1, metavar="N", help="rows at a time")
    parser.set_defaults(command=run)


def _described(name: str) -> str:
    rows = ", ".join(row.name for row in FAMILIES[name].rows)
    base = f" [paper: --preset {FAMILIES[name].paper_base}]"
    return textwrap.fill(f"{name}: {rows}{base}", 78, initial_indent="  ", subsequent_indent="    ")


def run(options: argparse.Namespace) -> int:
    return run_family(
        options.family, options.rows, options.preset, options.overrides, options.targets, options.at_once
    )


def run_family(
    family: str,
    rows: Sequence[str] = (),
    preset: str | None = None,
    overrides: Sequence[str] = (),
    targets: Sequence[str] = (),
    at_once: int = 1,
) -> int:
    """Run the flow, unless there is nothing to do, and print the comparison; returns the exit status."""
    stop = Stop()
    arguments = {
        "family": family,
        "preset": preset,
        "overrides": list(overrides),
        "rows": list(rows),
        "targets": list(targets),
    }
    with stop_on_signals(stop):
        if _nothing_to_do(arguments, stop):
            return 0
        use_workspace_server(Path.cwd())
        return _run_flow(arguments, at_once, stop)


def _nothing_to_do(arguments: dict[str, Any], stop: Stop) -> bool:
    """Prepare the rows and say what there is to do; with nothing, bring the comparison up to date."""
    from pipelines.row import unchanged
    from pipelines.row_workspace import ready_rows

    root = Path.cwd()
    family = chosen_family(arguments["family"], arguments["rows"])
    base, changes = (arguments[key] for key in ("preset", "overrides"))
    with run_lock(root / workspace_dir(family.name)):
        stop_orphans(root / workspace_dir(family.name))
        ready = ready_rows(root, family, base, changes, arguments["targets"], stop.is_set)
        width = max(len(row.row.name) for row in ready)
        for row in ready:
            to_do = ", ".join(row.plan.pending) or "nothing"
            print(f"{row.row.name:<{width}}  to do: {to_do}", flush=True)
        if any(row.plan.pending for row in ready):
            return False
        outcomes = {row.row.name: unchanged(row) for row in ready}
        write_comparison(root, family, base_title(family, base, changes), ready, outcomes)
    _print_comparison(family.name)
    return True


def _run_flow(arguments: dict[str, Any], at_once: int, stop: Stop) -> int:
    started = time.time()
    wait_for_server = start_temporary_server(Path.cwd())
    from pipelines.ablations import ablation  # takes as long as the server

    warm_up()
    wait_for_server(stop.is_set)
    if stop.is_set():
        raise KeyboardInterrupt
    with server_watched(stop, lambda: EXIT_FAILED):
        state = ablation(**arguments, at_once=at_once, return_state=True)
    _print_comparison(arguments["family"], since=started)
    return exit_status(state)


def _print_comparison(family: str, since: float = 0.0) -> None:
    """Print the comparison if it was made after ``since``, in seconds of the epoch."""
    folder = comparison_dir(family)
    table = folder / "comparison.md"
    if table.is_file() and table.stat().st_mtime >= since:
        print(f"\n{comparison_text(folder)}\n\nComparison: {folder}")
