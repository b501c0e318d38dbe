"""What tells the three detection benchmarks apart."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from components.benchmarks.detection.coco_scores import coco_scores, lvis_scores
from components.benchmarks.detection.data import DetectionSplit
from components.benchmarks.detection.detections import Detections
from components.benchmarks.detection.voc_scores import voc_scores

Scores = Callable[[DetectionSplit, Sequence[Detections]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class DetectionTask:
    """One benchmark.

    Attributes:
        name: of its stage.
        detector: ``mask_rcnn_fpn`` or ``faster_rcnn_c4``.
        scores: figures in percent, by ``box`` and, with masks, ``mask``.
        headline: which kind the benchmark is known by.
    """

    name: str
    detector: Literal["mask_rcnn_fpn", "faster_rcnn_c4"]
    scores: Scores
    headline: Literal["box", "mask"]

    @property
    def with_masks(self) -> bool:
        """Whether objects are segmented too."""
        return self.detector == "mask_rcnn_fpn"


@dataclass(frozen=True, slots=True)
class BackboneWeights:
    """A backbone to start from: torchvision's name of the ResNet, and its weights without ``fc``."""

    architecture: str
    tensors: Mapping[str, Tensor]


COCO_SEGMENTATION = DetectionTask("coco_segmentation", "mask_rcnn_fpn", coco_scores, "mask")
LVIS_SEGMENTATION = DetectionTask("lvis_segmentation", "mask_rcnn_fpn", lvis_scores, "mask")
VOC_DETECTION = DetectionTask("voc_detection", "faster_rcnn_c4", voc_scores, "box")
