"""``virtex ablate``: a family of runs, experiments of DVC's, and one comparison."""

import argparse
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.core.command import positive
from components.core.errors import InputError
from components.params.families import FAMILIES, SEEDS, chosen_family
from components.tracking.pipeline_run import REPORT
from components.tracking.store import warm_up
from pipelines.commands import EXIT_FAILED, exit_status
from pipelines.comparison import comparison_dir, comparison_text, write_comparison
from pipelines.dvc_internals import read_plan
from pipelines.experiments import FamilyRun, ReadyRow, at_equal_time, prepare_rows, workspace_dir
from pipelines.prefect_server import server_watched
from pipelines.process import Stop, stop_on_signals
from pipelines.row import RowRunner
from pipelines.servers import start_temporary_server, use_workspace_server
from pipelines.stage import StageRunner
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
    parser.add_argument(
        "--seeds", type=positive, metavar="N", help="runs of each row, with a seed each (family seeds: 3)"
    )
    parser.add_argument(
        "--equal-time",
        action="store_true",
        help="rows train as long as the first instead of on as many images; for rows that were run already",
    )
    parser.add_argument("--at-once", type=positive, default=1, metavar="N", help="rows at a time")
    parser.set_defaults(command=run)


def _described(name: str) -> str:
    rows = ", ".join(row.name for row in FAMILIES[name].rows)
    base = f" [paper: --preset {FAMILIES[name].paper_base}]" if FAMILIES[name].paper_base else ""
    return textwrap.fill(f"{name}: {rows}{base}", 78, initial_indent="  ", subsequent_indent="    ")


def run(options: argparse.Namespace) -> int:
    family = chosen_family(options.family, options.rows, options.seeds)
    if options.equal_time:
        family = at_equal_time(Path.cwd(), family)
    asked = (options.preset, options.overrides, options.targets, options.at_once)
    return run_family(FamilyRun(Path.cwd(), family, *asked))


def run_family(asked: FamilyRun) -> int:
    """Run the flow, unless there is nothing to do, and print the comparison; returns the exit status."""
    stop, folder = Stop(), asked.root / workspace_dir(asked.family.name)
    with stop_on_signals(stop), run_lock(folder):  # until the end: the flow need not prepare again
        for left in stop_orphans(folder):
            print(f"Stopped orphaned row {left} of a crashed run.", flush=True)
        ready = prepare_rows(asked, stop.is_set)
        width = max(len(row.row.name) for row in ready)
        for row in ready:
            print(f"{row.row.name:<{width}}  to do: {', '.join(row.plan.pending) or 'nothing'}", flush=True)
        if any(row.plan.pending for row in ready):
            use_workspace_server(asked.root)
            return _run_flow(asked, ready, stop)
        runner = RowRunner(asked, {}, stop)
        for row in ready:
            runner.skip(row)
        write_comparison(asked, ready, runner.outcomes)
    _print_comparison(asked)
    renew_report(asked, stop)
    return 0


def _run_flow(asked: FamilyRun, ready: Sequence[ReadyRow], stop: Stop) -> int:
    started = time.time()
    wait_for_server = start_temporary_server(asked.root)
    from pipelines.ablations import family_flow  # takes as long as the server

    warm_up()
    wait_for_server(stop.is_set)
    if stop.is_set():
        raise KeyboardInterrupt
    rows = [row.row.name for row in ready]
    with server_watched(stop, lambda: EXIT_FAILED):
        state = family_flow(asked, ready)(
            rows=rows, base=asked.base, targets=list(asked.targets), at_once=asked.at_once, return_state=True
        )
    _print_comparison(asked, since=started)
    renew_report(asked, stop)
    return exit_status(state)


def renew_report(asked: FamilyRun, stop: Stop) -> None:
    """Make the report of the run as it is again if that is up to date: it says what seeds have shown."""
    if asked.family.name != SEEDS or stop.is_set() or not (asked.root / REPORT).is_file():
        return
    try:
        with run_lock(asked.root):
            plan = read_plan(["report"])
            if plan.pending:
                return
            (report,) = (stage for stage in plan.stages if stage.name == "report")
            outcome = StageRunner(asked.root, {}, True, stop, 1).run(report, lambda line: None)
    except InputError as error:
        print(f"The report does not say it yet: {error}", flush=True)
    else:
        said = f"Also in the report: {REPORT}" if outcome.state == "ran" else outcome.message
        print(said, flush=True)


def _print_comparison(asked: FamilyRun, since: float = 0.0) -> None:
    """Print the comparison if it was made after ``since``, in seconds of the epoch."""
    folder = comparison_dir(asked.family.name)
    table = folder / "comparison.md"
    if table.is_file() and table.stat().st_mtime >= since:
        print(f"\n{comparison_text(folder)}\n\nComparison: {folder}; the rows: dvc exp show")
