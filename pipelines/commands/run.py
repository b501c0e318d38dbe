"""``virtex run``: bring the pipeline up to date, as a Prefect flow."""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from components.core import machine
from components.core.command import positive
from components.core.errors import InputError
from components.core.foreign_text import said
from components.core.redaction import redacted_values
from components.params.families import PRESETS, chosen_family
from components.params.presets import DEFAULT
from components.tracking.pipeline_run import NOT_RUN, REPORT, REPORT_PAGE
from components.tracking.store import warm_up
from pipelines.commands import EXIT_FAILED, exit_status
from pipelines.commands.ablate import run_family
from pipelines.experiments import FamilyRun
from pipelines.graph import Plan
from pipelines.prefect_server import server_watched
from pipelines.process import Stop, stop_on_signals
from pipelines.record import (
    forget_states,
    has_report,
    how_it_ended,
    idle_states,
    read_states,
    report_text,
    write_states,
)
from pipelines.runners import check_cluster, cluster_address
from pipelines.servers import start_temporary_server, use_workspace_server
from pipelines.workspace import run_lock

EXAMPLES = """
examples:
  virtex run                                        all that is not up to date
  virtex run voc07@virtex caption                   two stages, and what they need
  virtex run --preset mini --set pretrain.seed=1    a preset, and a value on top of it
  virtex run --set 'benchmarks.backbones=[virtex]'  a list, quoted for the shell
"""
# Measured on two quiet cores of an AMD EPYC that multiplies bf16: seconds that `make demo` takes after its
# set-up, and that one product of matrices takes.
DEMO_SECONDS = 510.0
PRODUCT_SECONDS = 0.0375
SIDE, REPEATS = 1536, 5  # of the matrices; the quickest repeat counts


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "run",
        help="bring the pipeline up to date",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=EXAMPLES,
    )
    parser.add_argument("targets", nargs="*", help="stages, with all that they need; none means all")
    parser.add_argument(
        "--targets",
        nargs="+",
        dest="more_targets",
        default=[],
        metavar="TARGET",
        help="the same, after other options; names as `virtex status --all` lists them",
    )
    parser.add_argument(
        "--preset",
        action="append",
        dest="presets",
        default=[],
        help="apply this preset to params.yaml first; given twice or more: run each in its own workspace",
    )
    parser.add_argument(
        "--set",
        action="append",
        dest="overrides",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="write this value, in YAML, into params.yaml first, after the preset; it stays in force. "
        "May be given several times",
    )
    parser.add_argument("--force", action="store_true", help="run unchanged stages too")
    parser.add_argument("--no-report", action="store_true", help="do not print the results")
    parser.add_argument("--max-parallel", type=positive, help="stages at a time")
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="run stages on the workers of this Dask scheduler, such as tls://host:8786 (docs/teams.md)",
    )
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    if len(options.presets) > 1:
        if options.force or options.max_parallel or options.cluster:
            raise InputError("--force, --max-parallel and --cluster are for one preset at a time")
        targets = [*options.targets, *options.more_targets]
        family = chosen_family(PRESETS, options.presets)
        return run_family(FamilyRun(Path.cwd(), family, None, options.overrides, targets))
    options.preset = options.presets[0] if options.presets else None
    stop = Stop()
    with stop_on_signals(stop):
        return _run_until(stop, options)


def _run_until(stop: Stop, options: argparse.Namespace) -> int:
    from pipelines.preparation import prepare, stages_at_a_time

    root = Path.cwd()
    options.max_parallel = options.max_parallel or stages_at_a_time()
    options.cluster = cluster_address(options.cluster)
    targets = [*options.targets, *options.more_targets]
    with run_lock(root):  # until the end, so that the flow need not prepare again
        plan, notices = prepare(root, targets, options.preset, options.overrides, bool(options.cluster))
        if stop.is_set():
            raise KeyboardInterrupt
        print(*map(said, notices), sep="\n", end="\n" if notices else "", flush=True)
        if not plan.pending and not options.force:
            states = idle_states(plan)
            write_states(root, states)
            _print_results(plan, options)
            number = sum(state != NOT_RUN for state in states.values())
            which = "all" if number == len(states) else "the other"
            print(f"Nothing to do: {which} {number} stages are unchanged.")
            _print_commands(options)
            return 0
        if options.cluster:
            check_cluster(options.cluster, root)
        use_workspace_server(root)
        forced = [stage.name for stage in plan.stages if stage.name not in plan.not_run]
        to_do = forced if options.force else plan.pending
        print(f"To do: {', '.join(to_do)}.", *told(plan, options.preset), sep="\n", flush=True)
        return _run_flow(plan, targets, options, stop)


def _run_flow(plan: Plan, targets: list[str], options: argparse.Namespace, stop: Stop) -> int:
    forget_states(Path.cwd())
    wait_for_server = start_temporary_server(Path.cwd())
    from pipelines.run import pipeline_flow  # takes as long as the server

    warm_up()
    wait_for_server(stop.is_set)
    if stop.is_set():
        raise KeyboardInterrupt
    with server_watched(stop, lambda: _without_prefect(plan, options)):
        state = pipeline_flow(plan)(
            targets=targets,
            preset=options.preset,
            set=redacted_values(options.overrides),  # for Prefect to show: they are in force already
            force=options.force,
            max_parallel=options.max_parallel,
            cluster=options.cluster,
            return_state=True,
        )
    _print_results(plan, options)
    if state.is_completed():
        _print_commands(options)
    return exit_status(state)


def _without_prefect(plan: Plan, options: argparse.Namespace) -> int:
    """Print results and return the exit status of a run whose end Prefect's server cannot be told."""
    _print_results(plan, options)
    end = how_it_ended((stage.name for stage in plan.stages), read_states(Path.cwd()), False)
    return 0 if end == "completed" else EXIT_FAILED


def _print_results(plan: Plan, options: argparse.Namespace) -> None:
    """Print the report, if the run that just ended has one."""
    is_made = has_report(plan, read_states(Path.cwd())) and REPORT.is_file()
    if is_made and not options.no_report:
        page = REPORT_PAGE if REPORT_PAGE.is_file() else REPORT
        print(f"\n{report_text()}\n\nReport: {page}")


def _print_commands(options: argparse.Namespace) -> None:
    if options.no_report:
        return
    command = Path(sys.executable).with_name("virtex")
    shown = command.relative_to(Path.cwd()) if command.is_relative_to(Path.cwd()) else command.name
    print(f"MLflow and Prefect pages: {shown} ui")


def told(plan: Plan, preset: str | None) -> list[str]:
    """Announce a whole run of the demo: its steps, how long they take here, where its pictures appear.

    Return no line for any other run.
    """
    if preset != DEFAULT or plan.unchanged or not any(str(REPORT) in stage.outs for stage in plan.stages):
        return []
    minutes = max(1, round(DEMO_SECONDS / PRODUCT_SECONDS * seconds_of_product() / 60))
    return [
        "The demo draws scenes with captions, pretrains a small network on them, and measures on the paper's",
        "benchmarks what it learned, beside a random network.",
        f"Expected: about {minutes} minutes, as busy as the {machine.num_cpus()} cores are now.",
        "Pictures: outputs/datasets/scenes.png (scenes with captions, first), .scratch/captions.png",
        "(captions by the network in training), outputs/caption/index.html (by the trained one),",
        "outputs/report/report.html (all results, at the end).",
    ]


def seconds_of_product() -> float:
    """Return how long a product of matrices takes on all cores; done in a second where they are free."""
    factor = np.random.default_rng(0).random((SIDE, SIDE), dtype=np.float32)
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        factor @ factor
        seconds.append(time.perf_counter() - start)
    return min(seconds)
