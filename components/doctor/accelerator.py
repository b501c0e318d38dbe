"""torch, and whether its CUDA, cuDNN, the driver and the GPUs belong together."""

import importlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components import machine
from components.doctor import needs
from components.doctor.finding import Finding, Sections, attention, broken, fine
from components.errors import InputError
from components.params import Augmentation, Pretrain, Schedule
from components.sources.progress import shown_bytes

PINS = "install the pinned pair: pip install -c constraints.txt torch torchvision"
DRIVER_FILE = Path("/proc/driver/nvidia/version")
MANY_IMAGE_PIXELS = 2e6 * 224**2  # looked at in a pretraining that no CPU should be asked for


def torch_and_torchvision(_: Sections) -> Iterator[Finding]:
    """That both import, and that torchvision's own operations find torch."""
    try:
        torch, torchvision = (importlib.import_module(name) for name in ("torch", "torchvision"))
        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except (ImportError, OSError, RuntimeError) as error:
        yield broken("torch", f"does not work: {_first_line(error)}", PINS)
        return
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    yield fine("torch", f"{torch.__version__} ({build}), torchvision {torchvision.__version__}")


def gpus(sections: Sections) -> Iterator[Finding]:
    """The driver, then each GPU put to work."""
    try:
        import torch
    except (ImportError, OSError):  # said already
        return
    try:
        device = machine.device_name()
    except InputError as error:
        yield broken("device", str(error), "unset VIRTEX_DEVICE, or name a device that is there")
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    if not usable:
        said = " ".join(_first_line(warning.message) for warning in caught)
        yield _without_gpu(sections, said, torch.version.cuda)
        return
    if not device.startswith("cuda"):
        yield attention("GPU", f"not used: VIRTEX_DEVICE={device}", "unset VIRTEX_DEVICE to use it")
    yield _cudnn(torch)
    for number in range(torch.cuda.device_count()):
        yield _gpu(torch, number)


def _without_gpu(sections: Sections, said: str, cuda: str | None) -> Finding:
    driver = _driver()
    if driver is None:
        found, advice = "none, no NVIDIA driver", "run on a machine with one"
    elif cuda is None:
        found = f"driver {driver} is there, and this torch was built without CUDA"
        advice = "install a CUDA build of torch: https://pytorch.org/get-started/locally"
    else:
        found = (
            f"driver {driver} is there, and torch with CUDA {cuda} cannot use it{': ' if said else ''}{said}"
        )
        advice = (
            f"update the driver, or install a torch for an older CUDA than {cuda}; in containers: --gpus all"
        )
    asked = needs.needs_gpu(sections) if sections else []
    if asked:
        return broken("GPU", f"{found}; params.yaml needs one for {', '.join(asked)}", advice)
    if driver is not None:
        return attention("GPU", found, advice)
    if sections and _is_large(sections):
        return attention("GPU", f"{found}; this pretraining would take a CPU weeks or longer", advice)
    return fine("GPU", f"{found}; params.yaml does not ask for one")


def _is_large(sections: Sections) -> bool:
    augmentation, pretrain, schedule = (sections[name] for name in ("augmentation", "pretrain", "schedule"))
    assert isinstance(augmentation, Augmentation)
    assert isinstance(pretrain, Pretrain)
    assert isinstance(schedule, Schedule)
    pixels = schedule.iterations * pretrain.batch_size * augmentation.crop_size**2
    return pixels > MANY_IMAGE_PIXELS


def _driver() -> str | None:
    """Version of the NVIDIA driver; None if there is none."""
    try:
        import pynvml

        pynvml.nvmlInit()
        version = pynvml.nvmlSystemGetDriverVersion()
        pynvml.nvmlShutdown()
        return version.decode() if isinstance(version, bytes) else version
    except Exception:  # no library, no driver, no permission: NVML has an exception for each
        return "of an unknown version" if DRIVER_FILE.exists() else None


def _cudnn(torch: Any) -> Finding:
    if not torch.backends.cudnn.is_available():
        return broken("cuDNN", "torch cannot use it", PINS)
    return fine("cuDNN", str(torch.backends.cudnn.version()))


def _gpu(torch: Any, number: int) -> Finding:
    """A small convolution is done on the GPU: what does not match fails here and not in a stage."""
    name = f"GPU {number}"
    try:
        with torch.cuda.device(number):
            what, (major, minor) = (
                torch.cuda.get_device_name(number),
                torch.cuda.get_device_capability(number),
            )
            free, total = torch.cuda.mem_get_info(number)
            image = torch.ones(1, 8, 8, 8, device=f"cuda:{number}")
            done = torch.nn.functional.conv2d(image, torch.ones(8, 8, 3, 3, device=f"cuda:{number}"))
            correct = bool((done == 72).all())
    except (RuntimeError, AssertionError) as error:
        return broken(name, f"does not compute: {_first_line(error)}", f"update the driver, or {PINS}")
    found = f"{what} (capability {major}.{minor}), {shown_bytes(free)} free of {shown_bytes(total)}"
    if not correct:
        return broken(name, f"{found}; it computes wrong figures", "test its memory and its driver")
    if free < total / 2:
        advice = "nvidia-smi says who; choose another one with VIRTEX_DEVICE or CUDA_VISIBLE_DEVICES"
        return attention(name, f"{found}: others are using it", advice)
    return fine(name, found)


def _first_line(error: object) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
