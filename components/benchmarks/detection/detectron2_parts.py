"""detectron2 classes of ours, defined when first asked for: detectron2 is optional."""

import functools
import math
from contextlib import ExitStack
from typing import Any

from torch import nn

from components.benchmarks.detection.run_state import Log
from components.errors import InputError
from components.training.progress import Progress


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
    """A ``DefaultTrainer`` that evaluates nothing itself and hands its losses on."""
    from detectron2.engine import DefaultTrainer, hooks
    from detectron2.utils import comm
    from detectron2.utils.events import EventWriter, get_event_storage

    class Trainer(DefaultTrainer):
        """Adds ``rows``, the logged losses, to DefaultTrainer's loop."""

        def __init__(self, cfg: Any, log_every: int, rows: list[dict[str, float]], log: Log) -> None:
            self._log_every, self._rows, self._log = log_every, rows, log
            super().__init__(cfg)

        def build_hooks(self) -> list[Any]:
            kept = [
                hook
                for hook in super().build_hooks()
                if not isinstance(hook, hooks.EvalHook | hooks.PeriodicWriter)
            ]
            shown = Shown(self.cfg.SOLVER.IMS_PER_BATCH)
            return [*kept, shown, hooks.PeriodicWriter(self.build_writers(), period=self._log_every)]

        def build_writers(self) -> list[Any]:
            return [Writer(self._rows, self._log, self.max_iter)]

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

    class Writer(EventWriter):
        def __init__(self, rows: list[dict[str, float]], log: Log, num_iterations: int) -> None:
            self._rows, self._log, self._num_iterations = rows, log, num_iterations

        def write(self) -> None:
            storage = get_event_storage()
            iteration = min(storage.iter + 1, self._num_iterations)
            if self._rows and self._rows[-1]["iteration"] == iteration:
                return  # asked once more when training is over
            latest = {
                name: float(value)
                for name, (value, _) in storage.latest().items()
                if "loss" in name and "/" not in name
            }
            if not all(map(math.isfinite, latest.values())):
                raise InputError(
                    f"the detection loss is not finite at iteration {iteration}; lower learning_rate"
                )
            row = {"loss": latest.pop("total_loss", sum(latest.values())), **latest}
            self._rows.append({"iteration": iteration, **row})
            self._log({f"train/{name}": value for name, value in row.items()}, iteration)

        def close(self) -> None:
            pass

    return Trainer
