"""The training loop, on one device or the same in several processes."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_

from components import params
from components.objectives.interface import Objective
from components.training.checkpoints import CandidateFolder, CheckpointFolder
from components.training.distributed import ALONE, Processes, with_sync_batch_norm
from components.training.metrics import DivergenceCheck, Progress, TokenMean
from components.training.optimizer import autocast, check_precision, learning_rates
from components.training.profiling import Keep, compiled, profiling
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


def train(
    objective: Objective,
    *,
    optimizer: params.Optimizer,
    schedule: params.Schedule,
    pretrain: params.Pretrain,
    train_batches: TrainBatches,
    val_batches: ValBatches,
    checkpoints: CheckpointFolder,
    device: torch.device,
    log: Log,
    candidates: CandidateFolder | None = None,
    after_validation: Callable[[int], None] | None = None,
    profiled: Keep | None = None,
    processes: Processes = ALONE,
) -> TrainingState:
    """Train ``objective`` in place, from the newest checkpoint if there is one.

    A run that was stopped and started again gives, on a CPU, the same weights bit by bit as one
    that was not, provided that ``train_batches`` gives the same batches wherever it starts. Neither
    logging nor validation nor checkpoints influence the weights. The device is waited for only
    when something is logged, validated or saved, by the gradient scaler of fp16, and at the start of an
    iteration that predicts tokens, for their number.

    Several processes call this with the same arguments, but each with batches of its own. The loss is
    the mean over the tokens of all of them, so how the images of an iteration are divided does not
    matter, but for batch normalisation and dropout.

    Args:
        objective: a freshly built model with its loss.
        optimizer: learning rates and so on.
        schedule: number of iterations and learning rates over them.
        pretrain: precision, memory layout and how often to do what; the batch size is not read.
        train_batches: gives the iterator of the batches that follow a number of iterations,
            ``pretrain.accumulate`` of them an iteration, all of one size.
        val_batches: gives the batches of the validation set, of this process's share of it.
        checkpoints: where to continue from and to save to.
        device: where to train.
        log: receives ``train/...`` and ``val/...`` figures and the iterations done by then; after
            a restart, those from before it too.
        candidates: where to keep the model after each validation; None keeps none.
        after_validation: called in the first process with the iterations done, the model in eval mode.
        profiled: called in the first process with the profile of a few iterations, if ``pretrain.profile``.
        processes: those that train together; only the first one writes.

    Returns:
        The state after the last iteration; its ``history`` holds all that was logged.

    Raises:
        KeyboardInterrupt: after SIGINT or SIGTERM, once the iteration in progress is done and a
            checkpoint of it is written.
        InputError: if the loss or a gradient is not finite, or the device lacks the precision.
    """
    check_precision(device, pretrain.precision)
    memory_format = torch.channels_last if pretrain.channels_last else torch.contiguous_format
    if pretrain.sync_batch_norm:
        with_sync_batch_norm(objective, device, processes)
    objective.to(device).to(memory_format=memory_format).train()
    model = processes.spread(objective, device)
    state = TrainingState(
        objective, optimizer, schedule, pretrain.precision, device, pretrain.seed, processes
    )
    _resume(state, checkpoints, log)
    divergence = DivergenceCheck(device, gradients_too=pretrain.precision != "fp16")
    images_logged, seconds_logged = state.num_images, state.seconds

    def is_due(every: int) -> bool:
        return state.iteration > 0 and (
            state.iteration % every == 0 or state.iteration == schedule.iterations
        )

    def save() -> None:
        divergence.check(checkpoints)
        content = state.state_dict()
        if processes.is_first:
            checkpoints.save(state.iteration, content)

    with (
        compiled(objective.visual, pretrain.compile),
        StopRequest(processes) as stop,
        Progress(schedule.iterations, state.iteration, is_shown=processes.is_first) as progress,
        profiling(device, profiled if pretrain.profile and processes.is_first else None) as profiler_step,
    ):
        try:
            batches = stop.watch(in_groups(train_batches(state.iteration), pretrain.accumulate))
            while True:
                if is_due(pretrain.validate_every) and not state.history.is_validated(state.iteration):
                    divergence.check(checkpoints)
                    processes.share_buffers(objective)
                    val = stop.watch(val_batches())
                    figures = validate(objective, val, device, pretrain.precision, memory_format, processes)
                    state.history.val.append({"iteration": state.iteration, **figures})
                    _log_row(log, "val", state.history.val[-1])
                    if candidates is not None and processes.is_first:
                        candidates.save(state.history)
                    if after_validation is not None and processes.is_first:
                        with evaluating(objective), unchanged_random_state():
                            after_validation(state.iteration)
                if state.iteration == schedule.iterations:
                    return state

                start = time.perf_counter()
                with unchanged_random_state():
                    parts = [to_device(part, device, memory_format) for part in next(batches)]
                mean = TokenMean(processes, len(parts))
                state.optimizer.zero_grad()
                for part in parts:
                    with _gradients_exchanged(model, part is parts[-1]):
                        with autocast(device, pretrain.precision):
                            output = model(part)
                        state.scaler.scale(mean.add(output, len(part["image"]))).backward()
                state.scaler.unscale_(state.optimizer)
                losses = mean.finish(p.grad for p in objective.parameters() if p.grad is not None)
                grad_norm = clip_grad_norm_(objective.parameters(), optimizer.clip_grad_norm)
                state.scaler.step(state.optimizer)
                state.scaler.update()
                rates = learning_rates(state.optimizer)
                state.schedule.step()

                num_images = processes.count * sum(len(part["image"]) for part in parts)
                state.iteration += 1
                state.num_images += num_images
                state.averages.add({**losses, "grad_norm": grad_norm})
                divergence.observe(state.iteration, losses["loss"], grad_norm)
                progress.advance(num_images)
                profiler_step()

                if is_due(pretrain.log_every):
                    divergence.check(checkpoints)
                    row = {"iteration": state.iteration, **state.averages.read()}
                    state.seconds += time.perf_counter() - start
                    row |= {f"{part}_lr": rate for part, rate in rates.items()}
                    row["images_per_second"] = (state.num_images - images_logged) / (
                        state.seconds - seconds_logged
                    )
                    images_logged, seconds_logged = state.num_images, state.seconds
                    state.history.train.append(row)
                    _log_row(log, "train", row)
                    progress.show({"loss": row["loss"]})
                else:
                    state.seconds += time.perf_counter() - start

                if is_due(pretrain.checkpoint_every):
                    save()
        except Stopped:
            save()
            raise KeyboardInterrupt(f"stopped after iteration {state.iteration}") from None


def _gradients_exchanged(model: nn.Module, is_last: bool) -> AbstractContextManager[None]:
    """Processes exchange the gradients of an iteration once, with those of its last part."""
    if isinstance(model, DistributedDataParallel) and not is_last:
        return model.no_sync()
    return nullcontext()


def _resume(state: TrainingState, checkpoints: CheckpointFolder, log: Log) -> None:
    """Continue from the newest checkpoint that the first process can read, if there is one."""
    processes = state.processes
    checkpoint = checkpoints.latest() if processes.is_first else None
    iteration = processes.from_first(checkpoint.iteration if checkpoint else -1)
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
