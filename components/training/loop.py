"""The training loop, on one device or the same in several processes."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from components.objectives.interface import Objective
from components.training.checkpoints import CandidateFolder, CheckpointFolder
from components.training.distributed import SINGLE_PROCESS, Processes
from components.training.metrics import DataWait, DivergenceCheck, Progress, TokenMean
from components.training.optimizer import Multiplier, autocast, check_precision, learning_rates
from components.training.profiling import Keep, profiling
from components.training.state import Row, TrainingState, seed_process, unchanged_random_state
from components.training.stopping import Stopped, StopRequest
from components.training.validation import (
    TrainBatches,
    ValBatches,
    evaluating,
    in_groups,
    to_device,
    validate,
)

Log = Callable[[dict[str, float], int], None]


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """How long to train, how often to do what, and in which formats.

    Attributes:
        iterations: of the whole run.
        validate_every: iterations from one validation to the next; the last iteration has one, too.
        checkpoint_every: iterations from one checkpoint to the next.
        log_every: iterations that a logged row averages.
        section: of params.yaml, which holds ``precision``; for error messages.
        advice: sentence that says what to change once training has diverged.
        data_advice: sentence that says what to change if training waits for data.
        accumulate: parts of an iteration that each process works on one after the other.
        precision: ``fp32``, ``fp16`` or ``bf16``.
        channels_last: memory layout of images.
        clip_grad_norm: largest norm of all gradients together; None does not clip.
        freeze_backbone: iterations, the first ones, in which the backbone is not trained and keeps its
            running statistics.
        seed: of dropout where several processes train.
    """

    iterations: int
    validate_every: int
    checkpoint_every: int
    log_every: int
    section: str
    advice: str
    data_advice: str = "Give the stage more processor cores (VIRTEX_NUM_WORKERS)."
    accumulate: int = 1
    precision: str = "fp32"
    channels_last: bool = True
    clip_grad_norm: float | None = None
    freeze_backbone: int = 0
    seed: int = 0


def train(
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    schedule: Multiplier,
    options: LoopOptions,
    *,
    train_batches: TrainBatches,
    val_batches: ValBatches | None,
    checkpoints: CheckpointFolder,
    log: Log,
    candidates: CandidateFolder | None = None,
    figures: Callable[[int], dict[str, float]] | None = None,
    after_validation: Callable[[int], None] | None = None,
    profiled: Keep | None = None,
    processes: Processes = SINGLE_PROCESS,
) -> TrainingState:
    """Train ``objective`` in place, from the newest checkpoint if there is one.

    A run that was stopped and started again gives, on a CPU, the same weights bit by bit as one
    that was not, provided that ``train_batches`` gives the same batches wherever it starts. Neither
    logging nor validation nor checkpoints influence the weights. The device is waited for only
    when something is logged, validated or saved, and by the gradient scaler of fp16.

    Several processes call this with the same arguments, but each with batches of its own. The loss is
    the mean over the tokens of all of them, so how the images of an iteration are divided does not
    matter, but for batch normalisation and dropout.

    Args:
        objective: a freshly built model with its loss, on the device to train on.
        optimizer: of the objective's parameters; its learning rates are the highest ones.
        schedule: factor on these learning rates by iteration.
        options: length, intervals, number formats.
        train_batches: gives the iterator of the batches that follow a number of iterations,
            ``options.accumulate`` of them per iteration, all of one size.
        val_batches: gives the batches of the validation set, of this process's share of it;
            None validates nothing.
        checkpoints: where to continue from and to save to.
        log: receives ``train/...`` and ``val/...`` figures and the iterations done by then; after
            a restart, those from before it too.
        candidates: where to keep the model after each validation; None keeps none.
        figures: what a logged row is to show beside the loop's own, by the last iteration in it, from 0.
        after_validation: called in the first process with the iterations done, the model in eval mode.
        profiled: called in the first process with the profile of a few iterations; None profiles none.
        processes: those that train together; only the first one writes.

    Returns:
        The state after the last iteration; its ``history`` holds all that was logged.

    Raises:
        KeyboardInterrupt: after SIGINT or SIGTERM, once the iteration in progress is done and a
            checkpoint of it is written.
        InputError: if the loss or a gradient is not finite, or the device lacks the precision.
    """
    device = next(objective.parameters()).device
    check_precision(device, options.precision, f"{options.section}.precision")
    memory_format = torch.channels_last if options.channels_last else torch.contiguous_format
    objective.train()
    state = TrainingState(objective, optimizer, schedule, options.precision, device, options.seed, processes)
    _resume(state, checkpoints, log)

    def wrapped() -> nn.Module:
        if options.freeze_backbone:
            is_trained = state.iteration >= options.freeze_backbone
            objective.visual.requires_grad_(is_trained).train(is_trained)
        return processes.wrap_ddp(objective, device)

    model = wrapped()
    divergence = DivergenceCheck(device, options.advice, gradients_too=options.precision != "fp16")
    data_wait = DataWait(device, options.data_advice, is_shown=processes.is_first)
    images_logged, seconds_logged, processor_seconds = state.num_images, state.seconds, 0.0

    def is_due(every: int) -> bool:
        return state.iteration > 0 and (state.iteration % every == 0 or state.iteration == options.iterations)

    def save() -> None:
        divergence.check(checkpoints)
        content = state.state_dict()
        if processes.is_first:
            checkpoints.save(state.iteration, content)

    def validate_if_due(stop: StopRequest) -> None:
        is_done = state.history.is_validated(state.iteration)
        if val_batches is None or is_done or not is_due(options.validate_every):
            return
        divergence.check(checkpoints)
        processes.share_buffers(objective)
        val = stop.watch(val_batches())
        means = validate(objective, val, device, options.precision, memory_format, processes)
        state.history.val.append({"iteration": state.iteration, **means})
        if candidates is not None and processes.is_first:
            with unchanged_random_state():
                candidates.save(state.history)
        _log_row(log, "val", state.history.val[-1])
        if after_validation is not None and processes.is_first:
            with evaluating(objective), unchanged_random_state():
                after_validation(state.iteration)

    def log_train_row(averages: Row, rates: dict[str, float]) -> Row:
        nonlocal images_logged, seconds_logged, processor_seconds
        seconds = state.seconds - seconds_logged
        row = {"iteration": state.iteration, **averages}
        row |= {f"{part}_lr": rate for part, rate in rates.items()}
        row["images_per_second"] = (state.num_images - images_logged) / seconds
        row["data_wait_per_second"] = data_wait.per_second(seconds)
        if device.type == "cpu":
            row["core_seconds_per_second"] = processor_seconds / seconds
        if figures is not None:
            row |= figures(state.iteration - 1)
        images_logged, seconds_logged, processor_seconds = state.num_images, state.seconds, 0.0
        state.history.train.append(row)
        _log_row(log, "train", row)
        return row

    with (
        StopRequest(processes) as stop,
        Progress(options.iterations, state.iteration, is_shown=processes.is_first) as progress,
        profiling(device, profiled if processes.is_first else None) as profiler_step,
    ):
        try:
            batches = stop.watch(in_groups(train_batches(state.iteration), options.accumulate))
            while True:
                validate_if_due(stop)
                if state.iteration == options.iterations:
                    return state

                if state.iteration == options.freeze_backbone > 0:
                    model = wrapped()
                start, processor_start = time.perf_counter(), time.process_time()
                with unchanged_random_state():
                    group = data_wait.next(batches)
                    parts = [to_device(objective.prepared(part), device, memory_format) for part in group]
                rates = learning_rates(state.optimizer)
                measured = training_step(state, model, parts, options)
                data_wait.step_queued()
                divergence.observe(state.iteration, measured["loss"], measured["grad_norm"])
                num_images = processes.count * sum(len(part["image"]) for part in parts)
                state.num_images += num_images
                progress.advance(num_images)
                profiler_step()

                averages = None
                if is_due(options.log_every):
                    divergence.check(checkpoints)
                    averages = state.averages.read()  # waits for the device, which counts as training
                state.seconds += time.perf_counter() - start
                processor_seconds += time.process_time() - processor_start
                if averages is not None:
                    row = log_train_row(averages, rates)
                    progress.show({"loss": row["loss"], "waiting for data": row["data_wait_per_second"]})
                if is_due(options.checkpoint_every):
                    save()
        except Stopped:
            save()
            raise KeyboardInterrupt(f"stopped after iteration {state.iteration}") from None


def training_step(
    state: TrainingState, model: nn.Module, parts: list[dict[str, Any]], options: LoopOptions
) -> dict[str, Tensor]:
    """Take one optimizer step; returns its losses and ``grad_norm``, which ``state.averages`` has by then.

    Args:
        state: of before, changed in place.
        model: ``state.objective``, wrapped for several processes.
        parts: prepared batches on the device.
        options: the run's.
    """
    parameters = list(state.objective.parameters())
    mean = TokenMean(state.processes, len(parts))
    state.optimizer.zero_grad()
    for part in parts:
        with _gradients_exchanged(model, part is parts[-1]):
            with autocast(state.device, options.precision):
                output = model(part)
            state.scaler.scale(mean.add(output, len(part["image"]))).backward()
    state.scaler.unscale_(state.optimizer)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    measured = mean.finish(gradients)
    measured["grad_norm"] = get_total_norm(gradients)
    if options.clip_grad_norm is not None:
        clip_grads_with_norm_(parameters, options.clip_grad_norm, measured["grad_norm"])
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.schedule.step()
    state.iteration += 1
    state.averages.add(measured)
    return measured


def _gradients_exchanged(model: nn.Module, is_last: bool) -> AbstractContextManager[None]:
    """Have processes exchange the gradients of an iteration once, with those of its last part."""
    if isinstance(model, DistributedDataParallel) and not is_last:
        return model.no_sync()
    return nullcontext()


def _resume(state: TrainingState, checkpoints: CheckpointFolder, log: Log) -> None:
    """Continue from the newest checkpoint that the first process can read, if there is one."""
    processes = state.processes
    checkpoint = checkpoints.latest() if processes.is_first else None
    iteration = processes.broadcast(checkpoint.iteration if checkpoint else -1)
    if iteration < 0:
        if processes.count > 1:
            seed_process(state.seed, processes.rank)  # dropout; the weights are drawn already, alike
        return
    checkpoint = checkpoint or checkpoints.at(iteration)
    state.load_state_dict(checkpoint.state)
    for row in state.history.train:
        _log_row(log, "train", row)
    for row in state.history.val:
        _log_row(log, "val", row)
    if processes.is_first:
        before = len(checkpoint.state["random"])
        changed = f" ({before} before, now {processes.count} processes)" if before != processes.count else ""
        print(f"continuing after iteration {iteration}, from {checkpoint.path}{changed}", flush=True)


def _log_row(log: Log, kind: str, row: Row) -> None:
    figures = {f"{kind}/{name}": value for name, value in row.items() if name != "iteration"}
    log(figures, int(row["iteration"]))
