"""The device on a clock: a GPU works on while the host goes ahead."""

import torch


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
