"""Memory of the machine, and the refusal of what can never fit, before hours or the machine are lost to it.

What is counted is less than what is used: what is refused would not run.
"""

from collections.abc import Mapping
from pathlib import Path

import psutil

from components.core.errors import InputError

CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_GB = 1e9
# Of a batch: three float32 channels, and of a ResNet the first feature map alone, 64 channels at half the
# height and width, in half precision.
BYTES_PER_PIXEL = 3 * 4 + 64 / 4 * 2


def machine_memory() -> tuple[float, float]:
    """Return the memory of the machine or, where that is less, of the container: all, and what is free."""
    machine = psutil.virtual_memory()
    for path in CGROUP_LIMITS:
        try:
            limit = int(path.read_text(encoding="ascii"))
        except (OSError, ValueError):  # there is none, or it says `max`
            continue
        if limit < machine.total:
            return limit, min(machine.available, limit)
    return machine.total, machine.available


def batch_bytes(num_images: int, size: int) -> float:
    """Return what a batch of square images of ``size`` pixels takes at least, in a ResNet."""
    return float(num_images) * size**2 * BYTES_PER_PIXEL


def require_memory(device: str, needs: Mapping[str, float]) -> None:
    """Refuse what takes more than all memory of the device, swap included.

    Args:
        device: as torch names it.
        needs: bytes, each a lower bound, by the keys of params.yaml that ask for them.

    Raises:
        InputError: names the keys, the estimate, and what there is.
    """
    needed, there = sum(needs.values()), _all_bytes(device)
    if needed <= there:
        return
    parts = "; ".join(f"{_shown(amount)} for {keys}" for keys, amount in needs.items())
    raise InputError(
        f"this takes at least {_shown(needed)} of memory ({parts}), and {device} has {_shown(there)} in all: "
        "choose smaller values"
    )


def _all_bytes(device: str) -> float:
    if device.startswith("cuda"):
        import torch

        return float(torch.cuda.mem_get_info(device)[1])
    return machine_memory()[0] + psutil.swap_memory().total


def _shown(amount: float) -> str:
    return "an endless amount" if amount == float("inf") else f"{amount / _GB:,.1f} GB"
