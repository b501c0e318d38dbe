"""``virtex bench``: how fast this machine does the work, beside the paper's own recipe."""

import importlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from components.bench.timing import as_json, as_table, hardware
from components.commands import run_command
from components.core.command import Parser, folder, positive
from components.core.files import write_json

BENCHES = {
    "data": "store to normalised batch",
    "stream": "batches from tars, on this disk and on a server, beside a store",
    "train": "training steps",
    "loop": "training from a store, end to end",
    "decode": "beam search",
    "svm": "the grid of VOC07 SVMs",
    "lmdb": "building a store",
    "pipeline": "what DVC and the flow add",
}
# Only by name: minutes long, and compared with nothing; ten minutes of all that a GPU is to be measured by
CURVES, GPU = "curves", "gpu"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run benchmarks, one after the other; print a table and write JSON for each."""
    options = build_parser().parse_args(arguments)
    for name in options.benches or BENCHES:
        if name == CURVES:
            _measure_curves(options.quick, options.output)
            continue
        if name == GPU:
            _measure_gpu(options.quick, options.output)
            continue
        module = importlib.import_module(f"components.bench.{name}")
        machine = hardware()
        print(f"{name}: {BENCHES[name]}\n{_described(machine)}", flush=True)
        rows = module.run(module.QUICK if options.quick else module.FULL, options.rounds)
        path = options.output / f"{name}.json"
        write_json(path, as_json(name, options.quick, machine, rows))
        print(f"{as_table(rows, not options.quick)}\nEvery round: {path}\n", flush=True)
    return 0


def _measure_curves(quick: bool, folder: Path) -> None:
    from components.bench import curves

    machine = hardware()
    print(f"{CURVES}: costs as they grow\n{_described(machine)}", flush=True)
    panels = []
    for panel in curves.run(curves.QUICK if quick else curves.FULL):
        print(curves.as_table([panel]), flush=True)
        panels.append(panel)
        content = {"bench": CURVES, "quick": quick, "machine": machine, "panels": list(map(asdict, panels))}
        write_json(folder / f"{CURVES}.json", content)  # anew after each: the whole takes minutes
        curves.draw(folder / f"{CURVES}.png", panels)
    print(f"All points: {folder / CURVES}.json, drawn in {CURVES}.png beside it\n", flush=True)


def _measure_gpu(quick: bool, folder: Path) -> None:
    from components.bench import gpu

    path = folder / f"{GPU}.json"
    content = gpu.run(path, quick)
    print(f"{_described(content['machine'])}\n{gpu.as_table(content)}\nAll figures: {path}\n", flush=True)


def build_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(
        prog="virtex bench",
        description="Measure speed beside the paper's recipe, both in turn in one run. "
        + "; ".join(f"{name}: {what}" for name, what in BENCHES.items())
        + f"; {CURVES}: costs as they grow, ours alone, drawn as a picture too"
        + f"; {GPU}: all that a GPU is to be measured by, in ten minutes, going on where it was cut",
    )
    parser.add_argument(
        "benches",
        nargs="*",
        choices=[[], *BENCHES, CURVES, GPU],
        metavar="BENCH",
        help=f"none means all but {CURVES} and {GPU}",
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes, which say nothing about speed")
    parser.add_argument("--rounds", type=positive, default=5, help="timed rounds of each side (default 5)")
    parser.add_argument(
        "--output", type=folder, default=Path("outputs/bench"), help="folder of the JSON files"
    )
    return parser


def _described(machine: dict[str, object]) -> str:
    where = machine["gpu"] or f"{machine['processor']}, {machine['cores']} cores, {machine['instructions']}"
    return f"{where}; load {machine['load']}; commit {machine['commit']}; {machine['date']}"


if __name__ == "__main__":
    run_command(main)
