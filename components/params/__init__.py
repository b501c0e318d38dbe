"""params.yaml, the whole configuration, as typed and checked sections."""

from components.params.benchmarks import (
    PRETRAINED,
    Baseline,
    Benchmarks,
    Caption,
    Classification,
    CocoSegmentation,
    Detection,
    ImagenetLinear,
    Inaturalist,
    LvisSegmentation,
    Probes,
    Segmentation,
    Voc07,
    VocDetection,
)
from components.params.download import Download, DrawnWorld, Folders, is_on_server
from components.params.presets import Change, list_presets, matching_presets, overlay, read_preset
from components.params.reading import (
    SECTIONS,
    check_params,
    detects_with_backbone,
    read_section,
    reasons_not_run,
    section_of,
)
from components.params.sections import (
    CHECKSUM_MARK,
    TIMM,
    Augmentation,
    Backbone,
    Lmdb,
    Objective,
    Optimizer,
    Pretrain,
    Schedule,
    Section,
    Select,
    Stream,
    Subset,
    TextualHead,
    Tokenize,
    is_timm,
    paper_heads,
)
