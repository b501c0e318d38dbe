"""Try the faults of the table and print what became of them.

Start it with ``python -m tests.faults [--only KIND] [--quick N] [--results FILE]``.

Exits with 1 if anything was lost, silently wrong or ended with a traceback.
"""

import argparse
import json
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.faults.judge import End, verdict
from tests.faults.table import Fault, table

Found = dict[tuple[str, str], str]  # verdicts by kind and name
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
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what was made is removed
    found = try_all(faults, options.results)
    print_table(found)
    return int(any(one != "survived" for one in found.values()))


def try_all(faults: Sequence[Fault], results: Path | None) -> Found:
    """Verdicts of these faults and of all in ``results``; what has survived there is not tried again."""
    found = _read(results) if results else {}
    left = [fault for fault in faults if found.get((fault.kind, fault.name)) != "survived"]
    for number, fault in enumerate(left, 1):
        ends = fault.trial()
        found[fault.kind, fault.name] = now = verdict(ends, fault.allowed)
        if results:
            with results.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps([fault.kind, fault.name, now]) + "\n")
        if now != "survived":
            print(f"{now}: {describe(fault, ends)}\n", flush=True)
        elif sys.stderr.isatty():
            print(f"\r{number} of {len(left)}", end="", file=sys.stderr)
    return found


def _read(results: Path) -> Found:
    lines = results.read_text(encoding="utf-8").splitlines() if results.exists() else []
    return {(kind, name): now for kind, name, now in map(json.loads, lines)}


def describe(fault: Fault, ends: Sequence[End]) -> str:
    said = "; then ".join(f"{end.state}: {end.words.strip()[-_SHOWN:]}" for end in ends)
    return f"{fault.kind}, {fault.name}: {said}"


def print_table(found: Found) -> None:
    counted = Counter((kind, now) for (kind, _), now in found.items())
    kinds = list(dict.fromkeys(kind for kind, _ in found))
    width = max(map(len, [*kinds, "together"]))
    print("  ".join([" " * width, f"{'tried':>7}", *(f"{name:>14}" for name in VERDICTS)]))
    for name, members in [*((kind, [kind]) for kind in kinds), ("together", kinds)]:
        counts = [sum(counted[kind, now] for kind in members) for now in VERDICTS]
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
    parser.add_argument(
        "--results", type=Path, metavar="FILE", help="keep verdicts there, and go on from those it has"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
