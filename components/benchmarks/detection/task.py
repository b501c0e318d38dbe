"""The three tasks."""

from components.benchmarks.detection.data import COCO_SEGMENTATION as COCO_SEGMENTATION
from components.benchmarks.detection.data import LVIS_SEGMENTATION as LVIS_SEGMENTATION
from components.benchmarks.detection.data import VOC_DETECTION as VOC_DETECTION
