"""Training steps on a batch that lies ready: ours beside the paper's recipe in plain PyTorch (NCHW, eager).

The recipe is float32 on a CPU; on a GPU it is the paper's mixed precision, fp16 with gradient scaling.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_
from torch.utils.flop_counter import FlopCounterMode

from components import params
from components.bench.device import matrix_rate, wait
from components.bench.timing import Comparison, in_turn
from components.core import machine
from components.core.caption_tokens import PAD_ID
from components.models.backbones import TorchvisionBackbone
from components.models.textual_head import TransformerTextualHead
from components.objectives.captioning import BicaptioningObjective
from components.training.optimizer import autocast, build_optimizer, grad_scaler
from components.training.profiling import Compile, compiled

OPTIMIZER = params.Optimizer(  # section 3.2
    name="sgd",
    backbone_lr=0.2,
    head_lr=0.001,
    momentum=0.9,
    betas=(0.9, 0.999),
    epsilon=1e-8,
    weight_decay=1e-4,
    no_weight_decay=".*textual.(embedding|transformer).*(norm.*|bias)",
    lookahead_steps=5,
    lookahead_alpha=0.5,
    clip_grad_norm=10.0,
)
# A variant of ours is a pretrain.precision, and one of these after it a pretrain.compile
COMPILE: dict[str, Compile] = {"": False, "compiled": True, "graphs": "reduce-overhead"}
CAPTION_LENGTHS = [12, 16, 22, 30]  # pretrain.caption_lengths of what is compiled
Batch = Mapping[str, Any]
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


TARGET = 2.0
FULL = Size(batch=16)
if torch.cuda.is_available():
    FULL = replace(FULL, batch=256, steps=10, variants=(*FULL.variants, "bf16, compiled"))
QUICK = Size(batch=2, crop_size=32, backbone="resnet18", hidden_size=64, vocab_size=50, longest=6)


def run(size: Size, rounds: int) -> list[Comparison]:
    """Measure a row per variant of ours: images per second on the clock, the same batch on both sides.

    ``fp32`` differs from a float32 baseline by rounding; ``bf16`` is ``pretrain.precision: bf16``,
    ``compiled`` is ``pretrain.compile: true``.
    """
    device = torch.device(machine.device_name())
    batch = drawn_batch(size, device)
    batches = {"baseline": batch} | dict.fromkeys(size.variants, our_batch(batch))
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
            f"{flops / 1e9:.1f} GFLOP per image ({plain_flops / 1e9:.1f}), {rate / 1e9:.0f} GFLOP/s = "
            f"{rate / peak:.0%} of the {peak / 1e9:.0f} GFLOP/s of a matrix product of the same format"
        )
        rows.append(row)
    return rows


def count_flops(step: Step, batch: Batch) -> int:
    """Count the operations of one step's convolutions and matrix products, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        step(batch)
    return counter.get_total_flops()


def build(size: Size, device: torch.device) -> BicaptioningObjective:
    """Return the paper's model with the same weights every time."""
    torch.manual_seed(0)
    visual = TorchvisionBackbone(size.backbone)
    textual = TransformerTextualHead(visual.feature_size, size.vocab_size, size.hidden_size)
    return BicaptioningObjective(visual, textual).to(device).train()


def drawn_batch(size: Size, device: torch.device) -> Batch:
    """Return noise, and captions of random tokens, 8 to ``longest`` long, padded to the longest."""
    rng = torch.Generator().manual_seed(0)
    lengths = torch.randint(min(8, size.longest), size.longest + 1, (size.batch,), generator=rng)
    lengths[0] = size.longest
    tokens = torch.randint(4, size.vocab_size, (size.batch, size.longest), generator=rng)
    tokens *= torch.arange(size.longest) < lengths.unsqueeze(1)
    image = torch.randn(size.batch, 3, size.crop_size, size.crop_size, generator=rng)
    return plain_batch(image, tokens, device)


def plain_batch(image: Tensor, tokens: Tensor, device: torch.device) -> Batch:
    """Return what bicaptioning reads: images, padded captions forwards and backwards, and their lengths."""
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
    """Return the steps of ``baseline`` and the variants; what is compiled stays so as long as ``stack``."""
    torch.backends.cudnn.benchmark = device.type == "cuda"  # as the pretrain stage has it
    # What the paper trained in, where there is a GPU for it
    plain_precision = "fp16" if device.type == "cuda" else "fp32"
    steps = {"baseline": plain_step(build(size, device), device, plain_precision)}
    for variant in size.variants:
        objective = build(size, device)
        how = compile_of(variant)
        stack.enter_context(compiled(objective, how, CAPTION_LENGTHS if how else None))
        steps[variant] = our_step(objective, device, precision_of(variant))
    return steps


def precision_of(variant: str) -> str:
    """Return ``pretrain.precision`` of one of ``Size.variants``."""
    return variant.partition(",")[0]


def compile_of(variant: str) -> Compile:
    """Return ``pretrain.compile`` of one of ``Size.variants``."""
    return COMPILE[variant.partition(", ")[2]]


def plain_step(objective: BicaptioningObjective, device: torch.device, precision: str) -> Step:
    """Return a step of each direction's head by itself, over padding too; SGD in Lookahead, unfused."""
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
    """Return the objective's loss, written as its definition is read."""
    features = objective.visual(batch["image"])
    loss = torch.zeros((), device=features.device)
    for head, name in ((objective.textual, "caption"), (objective.backward_textual, "noitpac")):
        tokens = batch[f"{name}_tokens"]
        logits = head(features, tokens[:, :-1], batch["caption_lengths"])
        loss = loss + F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), ignore_index=PAD_ID)
    return loss


def our_step(objective: BicaptioningObjective, device: torch.device, precision: str) -> Step:
    """Return the step of components.training.loop for a batch whose images are in channels_last."""
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


def our_batch(batch: Batch) -> Batch:
    """Return the batch as bicaptioning prepares it, its images in the layout that our step wants."""
    prepared = build(QUICK, torch.device("cpu")).prepared(batch)  # the model's size has no part in it
    return {**prepared, "image": batch["image"].contiguous(memory_format=torch.channels_last)}
