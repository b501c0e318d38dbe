"""The command line: ``virtex run``, ``virtex ui``, ``virtex report``, ``virtex preset``."""

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from components.errors import InputError
from components.params import list_presets, matching_presets, overlay, read_preset
from components.paths import PARAMS
from pipelines.graph import Plan
from pipelines.outcomes import REPORT
from pipelines.servers import servers, use_workspace_server
from pipelines.stopping import stop_on_signals
from pipelines.workspace import run_lock

EXIT_FAILED = 1
EXIT_INPUT_ERROR = 2
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns 0, 1 (a stage failed), 2 (bad input) or 130 (stopped)."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        if not PARAMS.is_file():
            raise InputError(f"no {PARAMS} in {Path.cwd()}: run it in the repository's root folder")
        return command(options)
    except InputError as error:
        print(f"virtex: error: {error}", file=sys.stderr)
        return EXIT_INPUT_ERROR
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="virtex", description="From captioned images to a benchmarked backbone."
    )
    commands = parser.add_subparsers(required=True)

    run = commands.add_parser("run", help="bring the pipeline up to date")
    run.add_argument("targets", nargs="*", help="stages; none means all")
    run.add_argument("--targets", nargs="+", dest="more_targets", default=[], metavar="TARGET")
    run.add_argument("--preset", help="lay this preset over params.yaml first")
    run.add_argument("--set", action="append", dest="overrides", default=[], metavar="SECTION.KEY=VALUE")
    run.add_argument("--force", action="store_true", help="run unchanged stages too")
    run.add_argument("--max-parallel", type=_positive, help="stages at a time")
    run.set_defaults(command=_run)

    ui = commands.add_parser("ui", help="start the MLflow and Prefect web pages; Ctrl-C stops them")
    ui.add_argument("--mlflow-port", type=_positive, default=5000)
    ui.add_argument("--prefect-port", type=_positive, default=4200)
    ui.set_defaults(command=_ui)

    report = commands.add_parser("report", help="print the results table of the last run")
    report.set_defaults(command=_report)

    preset = commands.add_parser("preset", help="overlays on params.yaml").add_subparsers(required=True)
    preset.add_parser("list", help="all presets; * marks those in force").set_defaults(command=_preset_list)
    show = preset.add_parser("show", help="print a preset")
    show.add_argument("name")
    show.set_defaults(command=_preset_show)
    apply = preset.add_parser("apply", help="lay a preset over params.yaml")
    apply.add_argument("name")
    apply.set_defaults(command=_preset_apply)
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def _run(options: argparse.Namespace) -> int:
    stop = threading.Event()
    with stop_on_signals(stop):
        return _run_until(stop, options)


def _run_until(stop: threading.Event, options: argparse.Namespace) -> int:
    from pipelines.preparation import prepare, stages_at_a_time

    root = Path.cwd()
    options.max_parallel = options.max_parallel or stages_at_a_time()
    targets = [*options.targets, *options.more_targets]
    with run_lock(root):
        plan, notices = prepare(root, targets, options.preset, options.overrides)
    if stop.is_set():
        raise KeyboardInterrupt
    print(*notices, sep="\n", end="\n" if notices else "", flush=True)
    if not plan.pending and not options.force:
        _print_results(plan)
        print(f"Nothing to do: all {len(plan.stages)} stages are unchanged.")
        _print_commands()
        return 0
    use_workspace_server(root)
    to_do = [stage.name for stage in plan.stages if options.force or stage.name in plan.pending]
    print(f"To do: {', '.join(to_do)}.", flush=True)
    return _run_flow(plan, targets, options, stop)


def _run_flow(plan: Plan, targets: list[str], options: argparse.Namespace, stop: threading.Event) -> int:
    from pipelines.run import start_server, virtex

    start_server()
    if stop.is_set():
        raise KeyboardInterrupt
    state = virtex(
        targets=targets,
        preset=options.preset,
        overrides=options.overrides,
        force=options.force,
        max_parallel=options.max_parallel,
        return_state=True,
    )
    if state.is_completed():
        _print_results(plan)
        _print_commands()
        return 0
    if state.is_cancelled():
        print(f"virtex: {state.message}", file=sys.stderr)
        return EXIT_INTERRUPTED
    print(f"virtex: error: {state.message}", file=sys.stderr)
    return EXIT_FAILED


def _ui(options: argparse.Namespace) -> int:
    root = Path.cwd()
    use_workspace_server(root)
    print("Starting; this takes some seconds.", flush=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt_once)
    with servers(root, options.mlflow_port, options.prefect_port) as addresses:
        for name, address in addresses.items():
            print(f"{name:<8} {address}")
        print("Ctrl-C stops what was started here.", flush=True)
        while True:
            time.sleep(1)


def _interrupt_once(_number: int, _frame: object) -> None:
    """End the command; further signals must not keep it from stopping its servers."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    print("\nStopping.", flush=True)
    raise KeyboardInterrupt


def _report(_: argparse.Namespace) -> int:
    if not REPORT.is_file():
        raise InputError(f"{REPORT} does not exist yet: run `virtex run` first")
    print(_report_text())
    return 0


def _preset_list(_: argparse.Namespace) -> int:
    in_force = matching_presets()
    for name in list_presets():
        print(f"{'*' if name in in_force else ' '} {name}")
    return 0


def _preset_show(options: argparse.Namespace) -> int:
    from components.params.presets import PRESETS_DIR

    read_preset(options.name)
    print((PRESETS_DIR / f"{options.name}.yaml").read_text(encoding="utf-8"), end="")
    return 0


def _preset_apply(options: argparse.Namespace) -> int:
    with run_lock(Path.cwd()):
        changes = overlay(options.name)
    print(*[str(change) for change in changes] or ["params.yaml has these values already."], sep="\n")
    return 0


def _print_results(plan: Plan) -> None:
    if plan.makes(REPORT) and REPORT.is_file():
        print(f"\n{_report_text()}\n\nReport: {REPORT}")


def _report_text() -> str:
    return REPORT.read_text(encoding="utf-8").rstrip()


def _print_commands() -> None:
    command = Path(sys.executable).with_name("virtex")
    shown = command.relative_to(Path.cwd()) if command.is_relative_to(Path.cwd()) else command.name
    print(f"MLflow and Prefect pages: {shown} ui")


if __name__ == "__main__":
    sys.exit(main())
