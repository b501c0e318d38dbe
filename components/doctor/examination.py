"""All checks in their order."""

from collections.abc import Iterator

from components import params
from components.core.errors import InputError
from components.doctor import capacity, services, software
from components.doctor.finding import Check, Finding, Sections, broken, fine

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
    services.dvc,
    services.mlflow,
    services.prefect,
    services.ports,
)


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
