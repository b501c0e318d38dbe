"""params.yaml, the whole configuration, as typed and checked sections."""

from components.params.base import CHECKSUM_MARK, Section, paper_heads
from components.params.classification import Classification, ImagenetLinear, Inaturalist
from components.params.detection import (
    CocoSegmentation,
    Detection,
    LvisSegmentation,
    Segmentation,
    VocDetection,
)
from components.params.download import Download, DrawnWorld, Folders
from components.params.overlaying import Change, overlay
from components.params.presets import list_presets, matching_presets, read_preset
from components.params.reading import check_params, read_section
from components.params.sections import (
    PRETRAINED,
    SECTIONS,
    Augmentation,
    Backbone,
    Baseline,
    Benchmarks,
    Caption,
    Lmdb,
    Objective,
    Optimizer,
    Pretrain,
    Schedule,
    Select,
    Subset,
    TextualHead,
    Tokenize,
    Voc07,
)

__all__ = [
    "CHECKSUM_MARK",
    "PRETRAINED",
    "SECTIONS",
    "Augmentation",
    "Backbone",
    "Baseline",
    "Benchmarks",
    "Caption",
    "Change",
    "Classification",
    "CocoSegmentation",
    "Detection",
    "Download",
    "DrawnWorld",
    "Folders",
    "ImagenetLinear",
    "Inaturalist",
    "Lmdb",
    "LvisSegmentation",
    "Objective",
    "Optimizer",
    "Pretrain",
    "Schedule",
    "Section",
    "Segmentation",
    "Select",
    "Subset",
    "TextualHead",
    "Tokenize",
    "Voc07",
    "VocDetection",
    "check_params",
    "list_presets",
    "matching_presets",
    "overlay",
    "paper_heads",
    "read_preset",
    "read_section",
]
