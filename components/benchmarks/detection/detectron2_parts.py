"""detectron2 classes of ours, defined when first asked for: detectron2 is optional."""

import functools
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from components.benchmarks.detection.run_state import LossRows
from components.training.metrics import Progress


@functools.cache
def register_heads() -> None:
    """Give detectron2 the C4 head with a normalisation after res5 (MoCo, arXiv 1911.05722, appendix A)."""
    from detectron2.layers import get_norm
    from detectron2.modeling import ROI_HEADS_REGISTRY
    from detectron2.modeling.backbone.resnet import BasicBlock, ResNet
    from detectron2.modeling.roi_heads import Res5ROIHeads

    class Res5ROIHeadsExtraNorm(Res5ROIHeads):
        """Named as in the paper's configurations; also takes the basic blocks of ResNet-18 and 34."""

        @classmethod
        def _build_res5_block(cls, cfg: Any) -> tuple[nn.Sequential, int]:
            resnets = cfg.MODEL.RESNETS
            if resnets.DEPTH < 50:
                count = {18: 2, 34: 3}[resnets.DEPTH]
                out_channels = 8 * resnets.RES2_OUT_CHANNELS
                blocks = ResNet.make_stage(
                    BasicBlock,
                    count,
                    stride_per_block=[2] + [1] * (count - 1),
                    in_channels=out_channels // 2,
                    out_channels=out_channels,
                    norm=resnets.NORM,
                )
                res5 = nn.Sequential(*blocks)
            else:
                res5, out_channels = super()._build_res5_block(cfg)
            res5.add_module("norm", get_norm(resnets.NORM, out_channels))
            return res5, out_channels

    ROI_HEADS_REGISTRY.register(Res5ROIHeadsExtraNorm)


@functools.cache
def trainer_class() -> Any:
    """A ``DefaultTrainer`` that evaluates nothing itself and records its losses."""
    from detectron2.engine import DefaultTrainer, hooks
    from detectron2.utils import comm
    from detectron2.utils.events import get_event_storage

    class Trainer(DefaultTrainer):
        """Adds logged losses to DefaultTrainer's loop and to its checkpoints."""

        def __init__(self, cfg: Any, log_every: int, losses: LossRows) -> None:
            self._recording = Recording(losses, log_every)
            super().__init__(cfg)

        def build_hooks(self) -> list[Any]:
            kept = [
                hook
                for hook in super().build_hooks()
                if not isinstance(hook, hooks.EvalHook | hooks.PeriodicWriter)
            ]
            recording = [self._recording] if comm.is_main_process() else []  # where losses are gathered
            # First, so that a checkpoint has the loss of its own iteration.
            return [*recording, *kept, Shown(self.cfg.SOLVER.IMS_PER_BATCH)]

    class Recording(hooks.HookBase):
        """Losses; the trainer puts this hook's state into its checkpoints."""

        def __init__(self, losses: LossRows, log_every: int) -> None:
            self._losses, self._log_every = losses, log_every

        def state_dict(self) -> dict[str, Any]:
            return self._losses.state_dict()

        def load_state_dict(self, state: Mapping[str, Any]) -> None:
            self._losses.load_state_dict(state)

        def after_step(self) -> None:
            self._losses.add(loss_parts(get_event_storage().latest()))
            done = self.trainer.iter + 1
            if done % self._log_every == 0 or done == self.trainer.max_iter:
                self._losses.close(done)

    class Shown(hooks.HookBase):
        """How far training is, as the torchvision engine shows it."""

        def __init__(self, images_per_iteration: int) -> None:
            self._images_per_iteration = images_per_iteration
            self._open = ExitStack()

        def before_train(self) -> None:
            progress = Progress(
                self.trainer.max_iter, self.trainer.start_iter, is_shown=comm.is_main_process()
            )
            self._progress = self._open.enter_context(progress)

        def after_step(self) -> None:
            self._progress.advance(self._images_per_iteration)

        def after_train(self) -> None:
            self._open.close()

    return Trainer


def loss_parts(latest: Mapping[str, tuple[float, int]]) -> dict[str, Tensor]:
    """The parts of an iteration's loss among all that detectron2 stores of it, by name with its iteration."""
    losses = {name: torch.tensor(value) for name, (value, _) in latest.items() if name.startswith("loss")}
    return losses or {"total_loss": torch.tensor(latest["total_loss"][0])}
