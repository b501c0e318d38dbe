"""The GPUs that runs on this machine may hand to their stages, found without torch."""

import os
from collections.abc import Sequence

from components.core.machine import positive

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_DEVICE = "VIRTEX_DEVICE"


def gpu_slots() -> int:
    """Stages that may share a GPU: ``VIRTEX_GPU_SLOTS``, else one.

    Raises:
        InputError: if the variable is not a positive whole number.
    """
    return positive("VIRTEX_GPU_SLOTS") or 1


def visible_gpus() -> list[str]:
    """Names of the GPUs as ``CUDA_VISIBLE_DEVICES`` takes them: those it lists, else all by their UUID.

    ``VIRTEX_DEVICE`` narrows them: ``cpu`` to none, ``cuda:1`` to the second.
    """
    device = os.environ.get(_DEVICE) or "cuda"
    kind, _, index = device.partition(":")
    if kind != "cuda":
        return []
    listed = os.environ.get(_VISIBLE)
    gpus = _all_gpus() if listed is None else _listed(listed)
    if index:
        return gpus[int(index) : int(index) + 1] if index.isdecimal() else []
    return gpus


def variables_for(chosen: Sequence[str], gpus: Sequence[str]) -> dict[str, str]:
    """The environment of a stage that was given ``chosen`` of ``gpus``: it sees no other.

    Nothing on a machine without GPUs.
    """
    if not gpus:
        return {}
    variables = {_VISIBLE: ",".join(chosen)}
    if chosen and ":" in os.environ.get(_DEVICE, ""):
        variables[_DEVICE] = "cuda:0"  # of those it sees
    return variables


def _listed(value: str) -> list[str]:
    """CUDA ignores what follows an invalid entry, such as -1."""
    gpus: list[str] = []
    for entry in value.split(","):
        name = entry.strip()
        if not name or name.startswith("-"):
            break
        gpus.append(name)
    return gpus


def _all_gpus() -> list[str]:
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no driver, no GPU
        return []
    try:
        handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
        return [str(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles]
    except pynvml.NVMLError:
        return []
    finally:
        pynvml.nvmlShutdown()
