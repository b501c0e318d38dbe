"""What this machine's arithmetic can do at best: a large matrix product."""

import time

import torch

from components.bench.device import wait

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def matrix_rate(device: torch.device, precision: str, side: int | None = None) -> float:
    """Operations a second of a square product of the format, the best of five.

    On a GPU ``fp32`` is TF32 where convolutions are, which they are unless somebody forbids it.
    """
    side = side or (8192 if device.type == "cuda" else 1536)
    left = torch.randn(side, side, device=device).to(_DTYPES[precision])
    best, allowed = float("inf"), torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    for _ in range(6):
        start = time.perf_counter()
        left @ left
        wait(device)
        best = min(best, time.perf_counter() - start)
    torch.backends.cuda.matmul.allow_tf32 = allowed
    return 2 * side**3 / best
