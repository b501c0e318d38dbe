"""Training steps on a batch that lies ready: ours beside the paper's recipe (components.bench.step)."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from components.bench.device import matrix_rate, wait
from components.bench.step import (
    COMPILED,
    Batch,
    Size,
    Step,
    all_steps,
    channels_last,
    drawn_batch,
    precision_of,
)
from components.bench.timing import Comparison, in_turn
from components.core import machine

TARGET = 2.0
FULL = Size(batch=16)
if torch.cuda.is_available():
    FULL = replace(FULL, batch=256, steps=10, variants=(*FULL.variants, COMPILED))
QUICK = Size(batch=2, crop_size=32, backbone="resnet18", hidden_size=64, vocab_size=50, longest=6)


def run(size: Size, rounds: int) -> list[Comparison]:
    """A row for each variant of ours: images a second on the clock, the same batch on both sides.

    ``fp32`` differs from a float32 baseline by rounding; ``bf16`` is ``pretrain.precision: bf16``,
    ``compiled`` is ``pretrain.compile: true``.
    """
    device = torch.device(machine.device_name())
    batch = drawn_batch(size, device)
    batches = {"baseline": batch} | dict.fromkeys(size.variants, channels_last(batch))
    losses: dict[str, Tensor] = {}
    with ExitStack() as stack:
        steps = all_steps(size, device, stack)

        def work(name: str) -> Callable[[], None]:
            def repeat() -> None:
                for _ in range(size.steps):
                    losses[name] = steps[name](batches[name])
                wait(device)

            return repeat

        baseline_times, *our_times = in_turn([work(name) for name in steps], rounds)
    flops, plain_flops = (
        count_flops(steps[name], batches[name]) / size.batch for name in ("fp32", "baseline")
    )
    rows = []
    for variant, times in zip(size.variants, our_times, strict=True):
        row = Comparison(
            f"{size.backbone} L1 H{size.hidden_size}, {size.crop_size} px, batch {size.batch}, {variant}",
            size.batch * size.steps,
            "images",
            "wall",
            baseline_times,
            times,
            TARGET,
            {"loss of the last step": f"{float(losses[variant]):.3f} ({float(losses['baseline']):.3f})"},
        )
        rate = row.rate(times).median * flops
        peak = matrix_rate(device, precision_of(variant))
        row.figures["arithmetic"] = (  # type: ignore[index]  # a dict, made here
            f"{flops / 1e9:.1f} GFLOP an image ({plain_flops / 1e9:.1f}), {rate / 1e9:.0f} GFLOP/s = "
            f"{rate / peak:.0%} of the {peak / 1e9:.0f} GFLOP/s of a matrix product of the same format"
        )
        rows.append(row)
    return rows


def count_flops(step: Step, batch: Batch) -> int:
    """Operations of one step's convolutions and matrix products, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        step(batch)
    return counter.get_total_flops()
