"""The paper's published figures, and the benchmarks they belong to.

Source of all of them: VirTex: Learning Visual Representations from Textual Annotations,
arXiv 2006.06666v3. A benchmark without a published figure here has None.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

SOURCE = "arXiv 2006.06666v3"


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A row of the report.

    Attributes:
        name: the stage, and the folder of its results below outputs/.
        title: for people.
        metric: key in the results' metrics.json, in percent.
        metric_title: for people.
        compares_backbones: results lie in a folder a backbone (virtex, random) and not in one alone.
    """

    name: str
    title: str
    metric: str
    metric_title: str
    compares_backbones: bool = True

    @property
    def key(self) -> str:
        """Names the row: ``voc07.mAP``."""
        return f"{self.name}.{self.metric}"


BENCHMARKS = (
    Benchmark("voc07", "VOC07 linear SVMs", "mAP", "mAP"),
    Benchmark("caption", "Captioning", "CIDEr-D", "CIDEr-D", compares_backbones=False),
    Benchmark("caption", "Captioning", "SPICE", "SPICE", compares_backbones=False),
    Benchmark("imagenet_linear", "ImageNet linear", "top1", "top-1"),
    Benchmark("imagenet_linear", "ImageNet linear", "best_top1", "top-1, best LR"),
    Benchmark("inaturalist", "iNaturalist 2018", "top1", "top-1"),
    Benchmark("coco_segmentation", "COCO detection", "box_AP", "box AP"),
    Benchmark("coco_segmentation", "COCO segmentation", "mask_AP", "mask AP"),
    Benchmark("lvis_segmentation", "LVIS segmentation", "mask_AP", "mask AP"),
    Benchmark("voc_detection", "VOC detection", "AP", "AP"),
)


@dataclass(frozen=True, slots=True)
class Setup:
    """What decides whether two runs may be compared.

    Attributes:
        captions: captioned datasets.
        captioned_images: images to pretrain on; None where unknown.
        captions_per_image: the most that are used of each image, or "all".
        backbone: torchvision name.
        objective: pretraining task.
        hidden_size: of the textual head.
        num_layers: of the textual head.
        iterations: optimizer steps.
        batch_size: images.
        voc07_test_images: that the benchmark is scored on; None where unknown.
    """

    captions: str
    captioned_images: int | None
    captions_per_image: int | str
    backbone: str
    objective: str
    hidden_size: int
    num_layers: int
    iterations: int
    batch_size: int
    voc07_test_images: int | None


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """One pretrained model of the paper with its figures, by `Benchmark.key`, in percent."""

    name: str
    setup: Setup
    figures: MappingProxyType[str, float]


# What a reader must know about a figure, by `Benchmark.key`.
REMARKS = MappingProxyType(
    {
        "caption.CIDEr-D": "The paper's captioning figures are its ResNet-101 model's, on COCO val2017.",
        "imagenet_linear.best_top1": "Best LR is the best learning rate of several; the paper uses one.",
    }
)
CAPTIONED_IMAGES = 118_287  # of COCO train2017: all
LABELLED_IMAGES = 117_266  # of COCO train2017 that show an object of its 80 categories; others are dropped
TRANSFORMER_OBJECTIVES = frozenset(("bicaptioning", "captioning", "masked_lm"))


def _model(
    objective: str,
    voc07: float,
    imagenet_linear: float,
    *,
    hidden_size: int = 2048,
    num_layers: int = 1,
    backbone: str = "resnet50",
    more: Mapping[str, float] = MappingProxyType({}),
) -> PublishedModel:
    head = f", L{num_layers} H{hidden_size}" if objective in TRANSFORMER_OBJECTIVES else ""
    return PublishedModel(
        f"{objective}, {backbone}{head}",
        Setup(
            "COCO Captions",
            LABELLED_IMAGES if objective == "multilabel_classification" else CAPTIONED_IMAGES,
            "all",
            backbone,
            objective,
            hidden_size,
            num_layers,
            iterations=500_000,
            batch_size=256,
            voc07_test_images=4_952,
        ),
        MappingProxyType({"voc07.mAP": voc07, "imagenet_linear.top1": imagenet_linear, **more}),
    )


BEST_MODEL = _model(
    "bicaptioning",
    88.7,
    53.8,
    more={
        "coco_segmentation.box_AP": 40.9,
        "coco_segmentation.mask_AP": 36.9,
    },
)
MODELS = (
    BEST_MODEL,
    _model("captioning", 88.6, 50.8),
    _model("token_classification", 88.8, 48.6),
    _model("multilabel_classification", 86.2, 46.2),
    _model("masked_lm", 86.4, 46.7),
    _model("bicaptioning", 88.4, 51.8, hidden_size=512),
    _model("bicaptioning", 88.3, 52.3, hidden_size=768),
    _model("bicaptioning", 88.3, 53.2, hidden_size=1024),
    _model("bicaptioning", 88.8, 53.8, hidden_size=1024, num_layers=2),
    _model("bicaptioning", 88.7, 53.9, hidden_size=1024, num_layers=3),
    _model("bicaptioning", 88.7, 53.9, hidden_size=1024, num_layers=4),
    _model("bicaptioning", 88.5, 52.9, hidden_size=1024, backbone="wide_resnet50_2"),
    _model(
        "bicaptioning",
        88.7,
        52.1,
        hidden_size=1024,
        backbone="resnet101",
        more={"caption.CIDEr-D": 94.0, "caption.SPICE": 18.5},
    ),
)

CAPTIONING_MODEL = next(model for model in MODELS if "caption.CIDEr-D" in model.figures)


def paper_figure(model: PublishedModel, key: str) -> float | None:
    """What the paper has for ``model``; of the captions of its task, what it has for the one it reports.

    `REMARKS` says so to the reader.
    """
    if key.startswith("caption.") and model.setup.objective == CAPTIONING_MODEL.setup.objective:
        model = CAPTIONING_MODEL
    return model.figures.get(key)


def published_model(setup: Setup) -> PublishedModel:
    """The published model of the same architecture and task, or else the best one of the task."""
    same_task = (model for model in MODELS if model.setup.objective == setup.objective)
    return same_model(setup) or next(same_task)


def same_model(setup: Setup) -> PublishedModel | None:
    """The published model of the same architecture and task, if there is one."""

    def architecture(of: Setup) -> tuple[object, ...]:
        head = (of.hidden_size, of.num_layers) if of.objective in TRANSFORMER_OBJECTIVES else ()
        return (of.objective, of.backbone, *head)

    return next((model for model in MODELS if architecture(model.setup) == architecture(setup)), None)
