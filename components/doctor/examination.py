"""All checks in their order, and how their findings are shown."""

import textwrap
from collections.abc import Iterator, Sequence

from components import params
from components.doctor import accelerator, capacity, programs, services, software
from components.doctor.finding import Check, Finding, Sections, broken, fine
from components.errors import InputError

CHECKS: tuple[Check, ...] = (
    software.python,
    software.packages,
    software.git,
    accelerator.torch_and_torchvision,
    accelerator.gpus,
    capacity.disk,
    capacity.memory,
    capacity.shared_memory,
    capacity.file_descriptors,
    capacity.folders,
    programs.java,
    programs.meteor,
    programs.spice,
    programs.detectron2,
    services.dvc,
    services.mlflow,
    services.prefect,
    services.ports,
)
_STATE_WIDTH, _NAME_WIDTH = 11, 15


def examine() -> Iterator[Finding]:
    """Every finding, as soon as it is known. A check that fails itself is a finding too."""
    sections: Sections = {}
    try:
        sections = params.check_params()
        yield fine("params.yaml", next(iter(params.matching_presets()), "parameters of your own"))
    except InputError as error:
        yield broken(
            "params.yaml", str(error), "correct it; what it needs of this machine is not known until then"
        )
    for check in CHECKS:
        try:
            yield from check(sections)
        except Exception as error:  # a doctor who faints helps nobody
            found = f"the check failed: {type(error).__name__}: {error}"
            yield broken(check.__name__.replace("_", " "), found, software.INSTALL)


def shown(finding: Finding, width: int) -> str:
    """A finding for a terminal, its advice on lines of its own."""
    indent = " " * (_STATE_WIDTH + _NAME_WIDTH)
    head = f"{finding.state:<{_STATE_WIDTH}}{finding.name:<{_NAME_WIDTH - 1}} "
    lines = [_wrapped(head + " ".join(finding.found.split()), indent, width)]
    if finding.advice:
        lines.append(_wrapped(f"{indent}-> {finding.advice}", f"{indent}   ", width))
    return "\n".join(lines)


def _wrapped(text: str, indent: str, width: int) -> str:
    return textwrap.fill(
        text, max(width, 60), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def summary(findings: Sequence[Finding]) -> str:
    """One line of counts."""
    counts = {state: sum(f.state == state for f in findings) for state in ("fine", "attention", "broken")}
    return ", ".join(f"{number} {state}" for state, number in counts.items() if number)
