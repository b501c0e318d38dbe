"""Try the faults of the table and print what became of them.

Start it with ``python -m tests.faults [--only KIND] [--quick N]``.

Exits with 1 if anything was lost, silently wrong or ended with a traceback.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence

from tests.faults.judge import End, verdict
from tests.faults.table import Fault, table

VERDICTS = ("survived", "lost", "silently wrong", "traceback")
_SHOWN = 600  # characters of what a start said


def main() -> int:
    options = _parser().parse_args()
    faults = [fault for fault in table() if not options.only or fault.kind in options.only]
    if not faults:
        kinds = ", ".join(dict.fromkeys(fault.kind for fault in table()))
        print(f"no fault of this kind; there are: {kinds}", file=sys.stderr)
        return 2
    if options.quick:
        faults = _spread(faults, options.quick)
    counted: Counter[tuple[str, str]] = Counter()
    for number, fault in enumerate(faults, 1):
        ends = fault.trial()
        found = verdict(ends, fault.allowed)
        counted[fault.kind, found] += 1
        if found != "survived":
            print(f"{found}: {describe(fault, ends)}\n", flush=True)
        elif sys.stderr.isatty():
            print(f"\r{number} of {len(faults)}", end="", file=sys.stderr)
    print_table(counted)
    return int(any(count for (_, found), count in counted.items() if found != "survived"))


def describe(fault: Fault, ends: Sequence[End]) -> str:
    said = "; then ".join(f"{end.state}: {end.words.strip()[-_SHOWN:]}" for end in ends)
    return f"{fault.kind}, {fault.name}: {said}"


def print_table(counted: Counter[tuple[str, str]]) -> None:
    kinds = list(dict.fromkeys(kind for kind, _ in counted))
    width = max(map(len, [*kinds, "together"]))
    print("  ".join([" " * width, f"{'tried':>7}", *(f"{name:>14}" for name in VERDICTS)]))
    for name, members in [*((kind, [kind]) for kind in kinds), ("together", kinds)]:
        counts = [sum(counted[kind, found] for kind in members) for found in VERDICTS]
        print("  ".join([f"{name:<{width}}", f"{sum(counts):>7}", *(f"{count:>14}" for count in counts)]))


def _spread(faults: list[Fault], count: int) -> list[Fault]:
    """At most ``count`` of them, evenly over the table."""
    step = max(1, len(faults) // count)
    return faults[::step][:count]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", action="append", metavar="KIND", help="of the first column; may be repeated"
    )
    parser.add_argument("--quick", type=int, metavar="N", help="N of them, spread over the table")
    return parser


if __name__ == "__main__":
    sys.exit(main())
