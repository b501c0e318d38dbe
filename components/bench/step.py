"""One training step: ours, and the paper's recipe in plain PyTorch (NCHW, eager).

The recipe is float32 on a CPU; on a GPU it is the paper's mixed precision, fp16 with gradient scaling.
"""

import multiprocessing
import resource
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_

from components import params
from components.core import machine
from components.core.caption_tokens import PAD_ID
from components.models.backbones import TorchvisionBackbone
from components.models.textual_head import TransformerTextualHead
from components.objectives.captioning import BicaptioningObjective
from components.training.optimizer import autocast, build_optimizer, grad_scaler
from components.training.profiling import compiled

OPTIMIZER = params.Optimizer(  # section 3.2
    backbone_lr=0.2,
    head_lr=0.001,
    momentum=0.9,
    weight_decay=1e-4,
    no_weight_decay=".*textual.(embedding|transformer).*(norm.*|bias)",
    lookahead_steps=5,
    lookahead_alpha=0.5,
    clip_grad_norm=10.0,
)
COMPILED = "bf16, compiled"  # what else is a variant of ours: a pretrain.precision
Batch = Mapping[str, Tensor]
Step = Callable[[Batch], Tensor]


@dataclass(frozen=True, slots=True)
class Size:
    """The model and the batch; ``longest`` is the caption tokens of the longest caption."""

    batch: int
    steps: int = 1
    crop_size: int = 224
    backbone: str = "resnet50"
    hidden_size: int = 1024
    vocab_size: int = 10_000
    longest: int = 22
    variants: tuple[str, ...] = ("fp32", "bf16")


def build(size: Size, device: torch.device) -> BicaptioningObjective:
    """The paper's model with the same weights every time."""
    torch.manual_seed(0)
    visual = TorchvisionBackbone(size.backbone)
    textual = TransformerTextualHead(visual.feature_size, size.vocab_size, size.hidden_size)
    return BicaptioningObjective(visual, textual).to(device).train()


def drawn_batch(size: Size, device: torch.device) -> Batch:
    """Noise, and captions of random tokens, 8 to ``longest`` long, padded to the longest."""
    rng = torch.Generator().manual_seed(0)
    lengths = torch.randint(min(8, size.longest), size.longest + 1, (size.batch,), generator=rng)
    lengths[0] = size.longest
    tokens = torch.randint(4, size.vocab_size, (size.batch, size.longest), generator=rng)
    tokens *= torch.arange(size.longest) < lengths.unsqueeze(1)
    image = torch.randn(size.batch, 3, size.crop_size, size.crop_size, generator=rng)
    return plain_batch(image, tokens, device)


def plain_batch(image: Tensor, tokens: Tensor, device: torch.device) -> Batch:
    """What bicaptioning reads: images, padded captions forwards and backwards, and their lengths."""
    lengths = (tokens != PAD_ID).sum(dim=1)
    backwards = torch.zeros_like(tokens)
    for row, length in enumerate(lengths.tolist()):
        backwards[row, :length] = tokens[row, :length].flip(0)
    batch = {
        "image": image,
        "caption_tokens": tokens,
        "noitpac_tokens": backwards,
        "caption_lengths": lengths,
    }
    return {name: value.to(device) for name, value in batch.items()}


def all_steps(size: Size, device: torch.device, stack: ExitStack) -> dict[str, Step]:
    """Of ``baseline`` and of the size's variants; what is compiled stays so as long as ``stack``."""
    torch.backends.cudnn.benchmark = device.type == "cuda"  # as the pretrain stage has it
    # What the paper trained in, where there is a GPU for it
    plain_precision = "fp16" if device.type == "cuda" else "fp32"
    steps = {"baseline": plain_step(build(size, device), device, plain_precision)}
    for variant in size.variants:
        objective = build(size, device)
        stack.enter_context(compiled(objective.visual, variant == COMPILED))
        steps[variant] = our_step(objective, device, precision_of(variant))
    return steps


def precision_of(variant: str) -> str:
    """``pretrain.precision`` of one of ``Size.variants``."""
    return variant.partition(",")[0]


def plain_step(objective: BicaptioningObjective, device: torch.device, precision: str) -> Step:
    """Each direction's head by itself, over padding too; SGD in Lookahead, a parameter at a time."""
    head = [value for name, value in objective.named_parameters() if not name.startswith("visual.")]
    groups: list[dict[str, Any]] = [
        {"params": list(objective.visual.parameters()), "lr": OPTIMIZER.backbone_lr},
        {"params": head, "lr": OPTIMIZER.head_lr},
    ]
    sgd = torch.optim.SGD(
        groups, momentum=OPTIMIZER.momentum, weight_decay=OPTIMIZER.weight_decay, foreach=False
    )
    scaler = grad_scaler(device, precision)
    slow_weights = [weight.detach().clone() for weight in objective.parameters()]
    done = 0

    def step(batch: Batch) -> Tensor:
        nonlocal done
        with autocast(device, precision):
            loss = plain_loss(objective, batch)
        _update(objective, sgd, scaler, loss)
        done += 1
        if done % OPTIMIZER.lookahead_steps == 0:
            with torch.no_grad():
                for slow, fast in zip(slow_weights, objective.parameters(), strict=True):
                    slow.add_(fast - slow, alpha=OPTIMIZER.lookahead_alpha)
                    fast.copy_(slow)
        return loss.detach()

    return step


def plain_loss(objective: BicaptioningObjective, batch: Batch) -> Tensor:
    """The objective's loss, written as its definition is read."""
    features = objective.visual(batch["image"])
    loss = torch.zeros((), device=features.device)
    for head, name in ((objective.textual, "caption"), (objective.backward_textual, "noitpac")):
        tokens = batch[f"{name}_tokens"]
        logits = head(features, tokens[:, :-1], batch["caption_lengths"])
        loss = loss + F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), ignore_index=PAD_ID)
    return loss


def our_step(objective: BicaptioningObjective, device: torch.device, precision: str) -> Step:
    """What components.training.loop does for a batch whose images are in channels_last."""
    objective = objective.to(memory_format=torch.channels_last)
    optimizer, scaler = build_optimizer(objective, OPTIMIZER), grad_scaler(device, precision)

    def step(batch: Batch) -> Tensor:
        with autocast(device, precision):
            loss: Tensor = objective(batch).loss
        _update(objective, optimizer, scaler, loss)
        return loss.detach()

    return step


def _update(
    objective: BicaptioningObjective,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    loss: Tensor,
) -> None:
    optimizer.zero_grad()
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    clip_grad_norm_(objective.parameters(), OPTIMIZER.clip_grad_norm)
    scaler.step(optimizer)
    scaler.update()


def channels_last(batch: Batch) -> Batch:
    """The batch with its images in the layout that our step wants."""
    return {**batch, "image": batch["image"].contiguous(memory_format=torch.channels_last)}


STEPS = 2  # timed, after one that is not


@dataclass(frozen=True, slots=True)
class StepCost:
    """Images a second on the clock; bytes at the peak, beyond what the process has before the model."""

    images_per_second: float
    peak_bytes: int


def step_cost(size: Size, precision: str) -> StepCost:
    """Measure in a process of its own, whose peak no earlier measurement has raised."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_measure, size, precision, torch.get_num_threads()).result()


def _measure(size: Size, precision: str, num_threads: int) -> StepCost:
    torch.set_num_threads(num_threads)
    device = torch.device(machine.device_name())
    before = psutil.Process().memory_info().rss
    step = our_step(build(size, device), device, precision)
    batch = channels_last(drawn_batch(size, device))
    step(batch).item()
    start = time.perf_counter()
    for _ in range(STEPS):
        loss = step(batch)
    loss.item()  # waits for a GPU
    seconds = time.perf_counter() - start
    on_gpu = device.type == "cuda"
    peak = torch.cuda.max_memory_allocated(device) if on_gpu else _peak_memory() - before
    return StepCost(STEPS * size.batch / seconds, peak)


def _peak_memory() -> int:
    """Largest resident size of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says on Linux may be the parent's
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
