"""What this machine offers: decided here, never in params.yaml, so that it changes no result's name.

``torchrun`` gives each process that it starts its place in ``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK`` and
``LOCAL_WORLD_SIZE``; without them a process is alone.
"""

import os
import socket
from pathlib import Path

from components.core import paths
from components.core.errors import InputError, first_line

LOOPBACK = "127.0.0.1"
PAGE_PORTS = {"MLflow": 5000, "Prefect": 4200}  # where `virtex ui` tries to serve its pages


def num_cpus() -> int:
    """Return the processor cores this process may use, its part where ``torchrun`` started several here.

    ``VIRTEX_NUM_WORKERS`` overrides the number of cores that they share.

    Raises:
        InputError: if the variable is not a positive whole number.
    """
    cores = positive("VIRTEX_NUM_WORKERS") or len(os.sched_getaffinity(0))
    return max(1, cores // _place("LOCAL_WORLD_SIZE", 1))


def loading_workers(device: str) -> int:
    """Return how many processes load images for training on ``device``; a CPU keeps a core for training."""
    return num_cpus() if device.startswith("cuda") else max(1, num_cpus() - 1)


def is_launched() -> bool:
    """Return whether ``torchrun`` started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def is_first_process() -> bool:
    """Return whether this process writes the outputs: the first of all, or the only one."""
    return _place("RANK", 0) == 0


def num_processes() -> int:
    """Return how many processes train together here: ``VIRTEX_NUM_PROCESSES``, else one per GPU, else one.

    Where ``VIRTEX_DEVICE`` names one device it is one.

    Raises:
        InputError: if the variable is not a positive whole number.
    """
    number = positive("VIRTEX_NUM_PROCESSES")
    if number is not None:
        return number
    if (os.environ.get("VIRTEX_DEVICE") or "cuda") != "cuda":
        return 1
    import torch

    return max(1, torch.cuda.device_count())


def unpacked_dir() -> Path:
    """Return where archives are unpacked: ``VIRTEX_UNPACKED_DIR``, which workspaces can share, or our own."""
    return Path(os.environ.get("VIRTEX_UNPACKED_DIR") or paths.UNPACKED_DIR)


def streamed_dir() -> Path:
    """Return where tars from a server are kept: ``VIRTEX_STREAMED_DIR``, or our own."""
    return Path(os.environ.get("VIRTEX_STREAMED_DIR") or paths.STREAMED_DIR)


def max_restarts() -> int:
    """Return how often processes that train together are started again after one has crashed.

    ``VIRTEX_MAX_RESTARTS``, else never: a stage that is started again continues from its last checkpoint.

    Raises:
        InputError: if the variable is not a whole number.
    """
    value = os.environ.get("VIRTEX_MAX_RESTARTS", "0")
    if not value.isdecimal():
        raise InputError(f"VIRTEX_MAX_RESTARTS={value!r}: expected a whole number")
    return int(value)


def uses_gpu() -> bool:
    """Return whether this process computes on a GPU, see `device_name`."""
    return device_name().startswith("cuda")


def device_name() -> str:
    """Return ``VIRTEX_DEVICE`` (such as ``cuda:1``), else ``cuda:0`` when torch sees a GPU, else ``cpu``.

    A GPU always has its number. Of the processes that ``torchrun`` started on this machine, one or several,
    each gets that of its own place.

    Raises:
        InputError: if the variable names no device of this machine or one GPU for several processes, or there
            are more processes than GPUs.
    """
    import torch  # here, so that what never computes never pays for the import

    override = os.environ.get("VIRTEX_DEVICE")
    device = override or ("cuda" if torch.cuda.is_available() else "cpu")
    num_here = _place("LOCAL_WORLD_SIZE", 1)
    if num_here > 1 and device.startswith("cuda:"):
        raise InputError(f"VIRTEX_DEVICE={device!r}: several processes cannot share one GPU; set it to cuda")
    if override:
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:  # the latter where torch was built without CUDA
            raise InputError(
                f"VIRTEX_DEVICE={override!r}: cannot be used here: {first_line(error)}"
            ) from None
    if device != "cuda":
        return device
    number, num_gpus = _place("LOCAL_RANK", 0), torch.cuda.device_count()
    if num_here > 1 and number >= num_gpus:
        raise InputError(
            f"{num_here} processes here need a GPU each, and there are {num_gpus}; "
            "start fewer (VIRTEX_NUM_PROCESSES, torchrun --nproc-per-node), or set VIRTEX_DEVICE=cpu"
        )
    return f"cuda:{number}"


def port_is_free(port: int) -> bool:
    """Return whether a server could listen at this port of the loopback address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: one that has just gone
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def positive(variable: str) -> int | None:
    """Return the whole number of at least 1 in an environment variable; None if it is not set.

    Raises:
        InputError: if it is something else.
    """
    value = os.environ.get(variable)
    if value is None:
        return None
    if not value.isdecimal() or int(value) < 1:
        raise InputError(f"{variable}={value!r}: expected a whole number of at least 1")
    return int(value)


def _place(variable: str, alone: int) -> int:
    return int(os.environ[variable]) if is_launched() and variable in os.environ else alone
