"""Training end to end, from a store to new weights: ours beside the plain loader and the plain step."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from components.bench import data, train
from components.bench.device import IdleWatch, wait
from components.bench.drawn import draw_photographs
from components.bench.timing import Comparison, Times, turns
from components.bench.train import CAPTION_LENGTHS, Step, all_steps, build, compile_of, plain_batch
from components.core import machine
from components.training.validation import to_device

TARGET = 2.0


@dataclass(frozen=True, slots=True)
class Size:
    """A store, a model with its batch, and how many iterations a round times once it is in its stride."""

    data: data.Size
    step: train.Size
    iterations: int


# Workers that start together deliver in bursts, so a GPU's many need many iterations.
ITERATIONS = 160 if torch.cuda.is_available() else 4
FULL = Size(data.FULL, replace(train.FULL, variants=train.FULL.variants[1:]), ITERATIONS)
QUICK = Size(data.QUICK, replace(train.QUICK, vocab_size=60, variants=("bf16",)), iterations=2)


@dataclass(frozen=True, slots=True)
class Side:
    """One way to train.

    Attributes:
        batches: starts worker processes that make the batches of so many iterations.
        advance: takes one of them to the device and makes a step with it.
    """

    batches: Callable[[int], Iterator[Any]]
    advance: Callable[[Any], object]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some iterations on the clock: seconds, and of these seconds spent waiting for a batch."""

    seconds: float
    waited: float


def run(size: Size, rounds: int) -> list[Comparison]:
    """Measure a row per variant of ours, from the files' bytes; the processor's time is not looked at.

    Loaders start anew in each round, and as many batches as they make ahead are used before the clock
    starts. The first round does not count: while it compiles, batches pile up.
    """
    device = torch.device(machine.device_name())
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        sides = _sides(size, device, Path(folder), stack)
        stretches: list[list[Stretch]] = [[] for _ in sides]
        for number, index in turns(len(sides), rounds, warm_up=1):
            stretch = _timed(sides[index], size.iterations, device)
            if number >= 0:
                stretches[index].append(stretch)
        workers = machine.loading_workers(device.type)
        loaded = 20 * workers
        alone = _timed(Side(sides[1].batches, lambda batch: None), loaded, device)
        watches = [IdleWatch(device) for _ in sides[1:]]
        for side, watch in zip(sides[1:], watches, strict=True):
            _timed(side, size.iterations, device, watch)
    images, loader_rate = size.step.batch * size.iterations, size.step.batch * loaded / alone.seconds
    baseline, *others = ([stretch.seconds for stretch in found] for found in stretches)
    waited = [sum(s.waited for s in found) / sum(s.seconds for s in found) for found in stretches]
    return [
        Comparison(
            f"{size.data.width}x{size.data.height} files in LMDB to weights, {size.step.backbone} "
            f"L1 H{size.step.hidden_size}, {size.step.crop_size} px, batch {size.step.batch}, {variant}",
            images,
            "images",
            "wall",
            Times(baseline, []),
            Times(seconds, []),
            TARGET,
            {
                "waiting for batches": f"{waited[number]:.1%} (baseline {waited[0]:.1%})",
                "the loader alone": f"{loader_rate:.0f} images/s from {workers} process(es)",
                "GPU idle": "no GPU" if watch.idle_share is None else f"{watch.idle_share:.1%}",
            },
        )
        for number, (variant, seconds, watch) in enumerate(
            zip(size.step.variants, others, watches, strict=True), start=1
        )
    ]


def _sides(size: Size, device: torch.device, folder: Path, stack: ExitStack) -> list[Side]:
    """Return the baseline, then the variants; what is compiled stays so as long as ``stack``."""
    images = draw_photographs(folder, size.data.images, size.data.height, size.data.width)
    tokenizer, stores = data.prepare(folder, images, {"": data.kept_as(size.data)[data.AS_FILES]})
    augmentation = data.AUGMENTATION.model_copy(update={"crop_size": size.step.crop_size})
    batch, num_workers = size.step.batch, machine.loading_workers(device.type)

    def plain_batches(count: int) -> Iterator[Any]:
        dataset = data.PlainDataset(stores[""], tokenizer, augmentation, batch * count)
        return iter(data.plain_loader(dataset, batch, num_workers))

    def our_batches(lengths: list[int] | None, count: int) -> Iterator[Any]:
        return data.our_batches(stores[""], tokenizer, augmentation, batch, count, num_workers, lengths)

    def plainly(step: Step, batch: Any) -> object:
        images, tokens = batch
        return step(plain_batch(images, tokens, device))

    def advance(step: Step, batch: Any) -> object:
        return step(to_device(prepared(batch), device, torch.channels_last))

    prepared = build(train.QUICK, torch.device("cpu")).prepared
    steps = all_steps(size.step, device, stack)
    sides = [Side(plain_batches, partial(plainly, steps.pop("baseline")))]
    for variant, step in steps.items():
        lengths = CAPTION_LENGTHS if compile_of(variant) else None
        sides.append(Side(partial(our_batches, lengths), partial(advance, step)))
    return sides


def _timed(
    side: Side,
    iterations: int,
    device: torch.device,
    watch: AbstractContextManager[object] = nullcontext(),  # noqa: B008  # it has no state
) -> Stretch:
    """Take as many iterations as a loader makes batches ahead, and then ``iterations`` within ``watch``.

    The loader goes on working until the end: it has as many again to make.
    """
    ahead = 2 * machine.loading_workers(device.type) + 1
    batches = side.batches(ahead + iterations + ahead)
    for batch in islice(batches, ahead):
        side.advance(batch)
    wait(device)
    with watch:
        waited, start = 0.0, time.perf_counter()
        for _ in range(iterations):
            asked = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - asked
            side.advance(batch)
        wait(device)
        return Stretch(time.perf_counter() - start, waited)
