"""``virtex doctor``: whether this machine can do what params.yaml asks for, and what to do where not."""

import dataclasses
import json
import os
import shutil
from collections.abc import Iterator

from components import params
from components.commands import run_command
from components.core import paths
from components.core.command import Parser
from components.core.dvc_cache import all_objects, cache_folder, repair
from components.core.errors import InputError
from components.doctor import Check, Finding, Sections, broken, capacity, fine, software, summary

EXIT_BROKEN = 1
CHECKS: tuple[Check, ...] = (
    software.python,
    software.packages,
    software.git,
    software.torch_and_torchvision,
    software.gpus,
    capacity.disk,
    capacity.memory,
    capacity.shared_memory,
    capacity.file_descriptors,
    capacity.folders,
    software.java,
    software.spice,
    software.detectron2,
    software.dvc,
    software.mlflow,
    software.prefect,
)


def main() -> int:
    """Check this machine; return 1 if something that the active parameters need is broken."""
    options = build_parser().parse_args()
    if not os.path.lexists(paths.PARAMS):
        raise InputError(f"no {paths.PARAMS} here: run it in the repository's root folder")
    if options.cache:
        return _check_cache()
    width = shutil.get_terminal_size((110, 24)).columns
    findings = []
    for finding in examine():
        findings.append(finding)
        if not options.json:
            print(finding.shown(width), flush=True)
    if options.json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2, ensure_ascii=False))
    else:
        print(f"\n{summary(findings)}")
    return EXIT_BROKEN if any(finding.state == "broken" for finding in findings) else 0


def examine() -> Iterator[Finding]:
    """Yield every finding as soon as it is known. A check that fails itself is a finding too."""
    sections: Sections = {}
    try:
        sections = params.check_params()
        yield fine("params.yaml", next(iter(params.matching_presets()), "parameters of your own"))
    except InputError as error:
        advice = "correct it; what it needs of this machine is not known until then"
        yield broken("params.yaml", str(error), advice)
    for check in CHECKS:
        try:
            yield from check(sections)
        except Exception as error:  # the other checks still help
            found = f"the check failed: {type(error).__name__}: {error}"
            yield broken(check.__name__.replace("_", " "), found, software.INSTALL)


def _check_cache() -> int:
    """Read all of DVC's cache, and move what is damaged out of DVC's sight."""
    cache = cache_folder()
    names = all_objects(cache)
    print(f"reading {len(names):,} files of {cache}", flush=True)
    damaged = list(repair(cache))
    for line in damaged:
        print(line)
    if damaged:
        many = f"{len(damaged)} of {len(names):,} are damaged"
        print(f"{many}: DVC takes them for missing, and the next run makes them again")
        return EXIT_BROKEN
    print("none is damaged")
    return 0


def build_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(prog="virtex doctor", description="Check this machine.")
    parser.add_argument(
        "--cache", action="store_true", help="only read all of DVC's cache and move aside what is damaged"
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    return parser


if __name__ == "__main__":
    run_command(main)
