"""Number formats of the forward pass: fp32, or fp16 and bf16 by autocast."""

import torch

from components.core.errors import InputError

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def check_precision(device: torch.device, precision: str, key: str = "pretrain.precision") -> None:
    """Refuse what the device cannot do; ``key`` is where params.yaml says the precision.

    Raises:
        InputError: for fp16 without a GPU, and for bf16 on a GPU that lacks it.
    """
    if precision == "fp16" and device.type != "cuda":
        raise InputError(f"{key}: fp16 needs a GPU, this runs on {device}; choose fp32 or bf16")
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        name = torch.cuda.get_device_name(device)
        raise InputError(f"{key}: {name} has no bf16; choose fp16 or fp32")


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context of a forward pass in ``precision``; weights stay float32."""
    return torch.autocast(device.type, dtype=_DTYPES[precision], enabled=precision != "fp32")


def grad_scaler(device: torch.device, precision: str) -> torch.amp.GradScaler:
    """Loss scaling that keeps small fp16 gradients from vanishing; passes everything through otherwise."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")
