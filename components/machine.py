"""What this machine offers: decided here, never in params.yaml, so that it changes no result's name."""

import os
from pathlib import Path

from components import paths
from components.errors import InputError


def num_cpus() -> int:
    """Processor cores this process may use; ``VIRTEX_NUM_WORKERS`` overrides.

    Raises:
        InputError: if the variable is not a positive whole number.
    """
    value = os.environ.get("VIRTEX_NUM_WORKERS")
    if value is None:
        return len(os.sched_getaffinity(0))
    if not value.isdecimal() or int(value) < 1:
        raise InputError(f"VIRTEX_NUM_WORKERS={value!r}: expected a whole number of at least 1")
    return int(value)


def unpacked_dir() -> Path:
    """Where archives are unpacked; ``VIRTEX_UNPACKED_DIR`` overrides, so that workspaces can share it."""
    return Path(os.environ.get("VIRTEX_UNPACKED_DIR") or paths.UNPACKED_DIR)


def device_name() -> str:
    """``cuda`` when torch sees a GPU, else ``cpu``; ``VIRTEX_DEVICE`` (such as ``cuda:1``) overrides.

    Raises:
        InputError: if the variable names no device of this machine.
    """
    import torch  # here, so that what never computes never pays for the import

    override = os.environ.get("VIRTEX_DEVICE")
    if not override:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=override)
    except (RuntimeError, AssertionError) as error:  # the latter where torch was built without CUDA
        reason = str(error).splitlines()[0]
        raise InputError(f"VIRTEX_DEVICE={override!r}: cannot be used here: {reason}") from None
    return override
