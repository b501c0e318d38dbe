"""The training loop, on one device."""

import time
from collections.abc import Callable

import torch
from torch.nn.utils import clip_grad_norm_

from components import params
from components.objectives.interface import Objective
from components.training.batches import TrainBatches, ValBatches, to_device
from components.training.checkpoints import CheckpointFolder
from components.training.divergence import DivergenceCheck
from components.training.history import Row
from components.training.optimizer import learning_rates
from components.training.precision import autocast, check_precision
from components.training.progress import Progress
from components.training.random_state import unchanged_random_state
from components.training.state import TrainingState
from components.training.stopping import Stopped, StopRequest
from components.training.validation import validate

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
) -> TrainingState:
    """Train ``objective`` in place, from the newest checkpoint if there is one.

    A run that was stopped and started again gives, on a CPU, the same weights bit by bit as one
    that was not, provided that ``train_batches`` gives the same batches wherever it starts. Neither
    logging nor validation nor checkpoints influence the weights. The device is waited for only
    when something is logged, validated or saved, and by the gradient scaler of fp16.

    Args:
        objective: a freshly built model with its loss.
        optimizer: learning rates and so on.
        schedule: number of iterations and learning rates over them.
        pretrain: precision, memory layout and how often to do what; neither seed nor batch size.
        train_batches: gives the iterator of the batches that follow a number of iterations.
        val_batches: gives the batches of the validation set.
        checkpoints: where to continue from and to save to.
        device: where to train.
        log: receives ``train/...`` and ``val/...`` figures and the iterations done by then; after
            a restart, those from before it too.

    Returns:
        The state after the last iteration; its ``history`` holds all that was logged.

    Raises:
        KeyboardInterrupt: after SIGINT or SIGTERM, once the iteration in progress is done and a
            checkpoint of it is written.
        InputError: if the loss or a gradient is not finite, or the device lacks the precision.
    """
    check_precision(device, pretrain.precision)
    memory_format = torch.channels_last if pretrain.channels_last else torch.contiguous_format
    objective.to(device).to(memory_format=memory_format).train()
    state = TrainingState(objective, optimizer, schedule, pretrain.precision, device)
    _resume(state, checkpoints, log)
    divergence = DivergenceCheck(device, gradients_too=pretrain.precision != "fp16")
    images_logged, seconds_logged = state.num_images, state.seconds

    def is_due(every: int) -> bool:
        return state.iteration > 0 and (
            state.iteration % every == 0 or state.iteration == schedule.iterations
        )

    def save() -> None:
        divergence.check(checkpoints)
        checkpoints.save(state.iteration, state.state_dict())

    with StopRequest() as stop, Progress(schedule.iterations, state.iteration) as progress:
        try:
            batches = stop.watch(train_batches(state.iteration))
            while True:
                if is_due(pretrain.validate_every) and not state.history.is_validated(state.iteration):
                    divergence.check(checkpoints)
                    losses = validate(
                        objective, stop.watch(val_batches()), device, pretrain.precision, memory_format
                    )
                    state.history.val.append({"iteration": state.iteration, **losses})
                    _log_row(log, "val", state.history.val[-1])
                if state.iteration == schedule.iterations:
                    return state

                start = time.perf_counter()
                with unchanged_random_state():
                    batch = to_device(next(batches), device, memory_format)
                with autocast(device, pretrain.precision):
                    output = objective(batch)
                state.optimizer.zero_grad()
                state.scaler.scale(output.loss).backward()
                state.scaler.unscale_(state.optimizer)
                grad_norm = clip_grad_norm_(objective.parameters(), optimizer.clip_grad_norm)
                state.scaler.step(state.optimizer)
                state.scaler.update()
                rates = learning_rates(state.optimizer)
                state.schedule.step()

                state.iteration += 1
                state.num_images += len(batch["image"])
                state.averages.add({"loss": output.loss, **output.parts, "grad_norm": grad_norm})
                divergence.observe(state.iteration, output.loss, grad_norm)
                progress.advance(len(batch["image"]))

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


def _resume(state: TrainingState, checkpoints: CheckpointFolder, log: Log) -> None:
    checkpoint = checkpoints.latest()
    if checkpoint is None:
        return
    state.load_state_dict(checkpoint.state)
    for row in state.history.train:
        _log_row(log, "train", row)
    for row in state.history.val:
        _log_row(log, "val", row)
    print(f"continuing after iteration {state.iteration}, from {checkpoint.path}", flush=True)


def _log_row(log: Log, kind: str, row: Row) -> None:
    figures = {f"{kind}/{name}": value for name, value in row.items() if name != "iteration"}
    log(figures, int(row["iteration"]))
