"""The paper's published figures, and the benchmarks they belong to.

Source of all of them: VirTex: Learning Visual Representations from Textual Annotations,
arXiv 2006.06666v3. A benchmark without a published figure here has None.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

SOURCE = "arXiv 2006.06666v3"


LINEAR, FINE_TUNING, PROBES, CAPTIONING = "linear", "fine_tuning", "probes", "captioning"
GROUPS = MappingProxyType(  # as the paper's tables are
    {
        LINEAR: "Linear classification on the frozen backbone",
        FINE_TUNING: "Fine-tuning of the whole backbone",
        PROBES: "Probes of the frozen backbone (not in the paper)",
        CAPTIONING: "Image captioning",
    }
)


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A row of the report.

    Attributes:
        name: the stage, and the folder of its results below outputs/.
        title: for people.
        short: what it is called before a metric's name; empty where that says enough.
        metric: key in the results' metrics.json, in percent; ``box.AP`` is ``AP`` of its group ``box``.
        metric_title: for people.
        group: key of `GROUPS`.
        is_headline: one of the few that runs are compared by.
    """

    name: str
    title: str
    short: str
    metric: str
    metric_title: str
    group: str
    is_headline: bool = False

    @property
    def key(self) -> str:
        """Names the row: ``voc07.mAP``."""
        return f"{self.name}.{self.metric}"

    @property
    def row_title(self) -> str:
        """Benchmark and metric in a few words."""
        return f"{self.short} {self.metric_title}".strip()

    @property
    def compares_backbones(self) -> bool:
        """Return whether results lie in a folder per backbone (virtex, random) and not in one alone."""
        return self.group != CAPTIONING

    @property
    def is_detection(self) -> bool:
        """Return whether it is measured for `benchmarks.detection_backbones`."""
        return self.name in STAGE_BENCHMARKS["detection"]

    def stage(self, backbone: str) -> str:
        """Return DVC's name of the stage that measures ``backbone``."""
        for stage, benchmarks in STAGE_BENCHMARKS.items():
            if self.name in benchmarks:
                return f"{stage}@{self.name}-{backbone}"
        return f"{self.name}@{backbone}" if self.compares_backbones else self.name


# Stages of several benchmarks each; DVC's names of their items are BENCHMARK-BACKBONE.
STAGE_BENCHMARKS = MappingProxyType(
    {
        "classification": ("imagenet_linear", "inaturalist"),
        "detection": ("coco_segmentation", "lvis_segmentation", "voc_detection"),
    }
)


def _rows(
    name: str, title: str, short: str, group: str, metrics: Mapping[str, str], headlines: str
) -> tuple[Benchmark, ...]:
    """Return the rows of one benchmark: title by metric, and the metrics that are headlines."""
    return tuple(
        Benchmark(name, title, short, metric, metric_title, group, metric in headlines.split())
        for metric, metric_title in metrics.items()
    )


def _kinds(**figures: str) -> dict[str, str]:
    """Return the metrics of boxes and masks."""
    return {f"{kind}.{name}": f"{kind} {name}" for kind, names in figures.items() for name in names.split()}


_AP = "AP AP50 AP75"
_CAPTION_METRICS = ("CIDEr-D", "SPICE", "METEOR", "ROUGE-L", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4")
BENCHMARKS = (
    *_rows("voc07", "VOC07 linear SVMs", "VOC07", LINEAR, {"mAP": "mAP"}, "mAP"),
    *_rows(
        "imagenet_linear",
        "ImageNet linear",
        "ImageNet",
        LINEAR,
        {"top1": "top-1", "top5": "top-5", "best_top1": "top-1, best LR"},
        "top1 best_top1",
    ),
    *_rows(
        "coco_segmentation",
        "COCO detection and segmentation",
        "COCO",
        FINE_TUNING,
        _kinds(box=_AP, mask=_AP),
        "box.AP mask.AP",
    ),
    *_rows(
        "lvis_segmentation",
        "LVIS segmentation",
        "LVIS",
        FINE_TUNING,
        _kinds(mask=f"{_AP} APr APc APf", box="AP"),
        "mask.AP",
    ),
    *_rows("voc_detection", "VOC detection", "VOC", FINE_TUNING, _kinds(box=_AP), "box.AP"),
    *_rows(
        "inaturalist",
        "iNaturalist 2018",
        "iNaturalist",
        FINE_TUNING,
        {"top1": "top-1", "top5": "top-5"},
        "top1",
    ),
    *_rows(
        "probes",
        "Probes",
        "",
        PROBES,
        {
            "knn.voc07_mAP_20": "kNN 20, VOC07 mAP",
            "knn.voc07_mAP_200": "kNN 200, VOC07 mAP",
            "knn.imagenet_top1_20": "kNN 20, ImageNet top-1",
            "knn.imagenet_top1_200": "kNN 200, ImageNet top-1",
            **{
                f"few_shot.imagenet_top1_{count}": f"{count} shot{'s' * (count > 1)}, ImageNet top-1"
                for count in (1, 2, 5, 10)
            },
            "attentive.voc07_mAP": "attentive, VOC07 mAP",
            "segmentation.voc2012_mIoU": "segmentation, VOC2012 mIoU",
        },
        "knn.voc07_mAP_20",
    ),
    *_rows(
        "caption",
        "Captioning",
        "",
        CAPTIONING,
        dict(zip(_CAPTION_METRICS, _CAPTION_METRICS, strict=True)),
        "CIDEr-D SPICE",
    ),
    *_rows(
        "likelihood",
        "Likelihood of given texts",
        "",
        CAPTIONING,
        {
            "zero_shot.mAP": "zero-shot VOC07 mAP",
            "zero_shot.mAP_mean": "zero-shot by token mean",
            **{
                f"retrieval.{way}_R{depth}": f"{title} at {depth}"
                for way, title in (("to_text", "caption of an image"), ("to_image", "image of a caption"))
                for depth in (1, 5, 10)
            },
        },
        "",
    ),
)
BACKBONE_BENCHMARKS = tuple(dict.fromkeys(row.name for row in BENCHMARKS if row.compares_backbones))


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


# Of the paper's data, by the benchmark that counts them.
CLASSES = MappingProxyType({"imagenet_linear": 1_000, "inaturalist": 8_142})

# What a reader must know about a figure, by `Benchmark.key`.
REMARKS = MappingProxyType(
    {
        "caption.CIDEr-D": "The paper's captioning figures are its ResNet-101 model's, on COCO val2017.",
        "imagenet_linear.best_top1": "Best LR is the best learning rate of several; the paper uses one.",
        "lvis_segmentation.mask.AP": "LVIS APr, APc and APf are over rare, common and frequent categories.",
    }
)
CAPTIONED_IMAGES = 118_287  # of COCO train2017: all
LABELLED_IMAGES = 117_266  # of COCO train2017 that show an object of its 80 categories; others are dropped
TRANSFORMER_OBJECTIVES = frozenset(
    (
        "bicaptioning",
        "captioning",
        "masked_lm",
        "parallel_captioning",
        "parallel_bicaptioning",
        "contrastive",
        "contrastive_classification",
    )
)


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
        "coco_segmentation.box.AP": 40.9,
        "coco_segmentation.box.AP50": 61.7,
        "coco_segmentation.box.AP75": 44.8,
        "coco_segmentation.mask.AP": 36.9,
        "coco_segmentation.mask.AP50": 58.4,
        "coco_segmentation.mask.AP75": 39.7,
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

# The ImageNet-supervised backbone that pretraining is held against, by architecture: top-1 and top-5 of
# torchvision's IMAGENET1K_V1 weights, as torchvision publishes them.
IMAGENET_FIGURES = MappingProxyType(
    {
        name: MappingProxyType({"imagenet_linear.top1": top1, "imagenet_linear.top5": top5})
        for name, top1, top5 in (
            ("resnet18", 69.8, 89.1),
            ("resnet50", 76.1, 92.9),
            ("resnet101", 77.4, 93.5),
            ("wide_resnet50_2", 78.5, 94.1),
        )
    }
)
IMAGENET_REMARK = (
    "IN-sup is the ImageNet-supervised backbone of the paper's architecture: torchvision's published "
    "accuracy, of a network trained end to end and not of a linear probe. Its figures on the other "
    "benchmarks are not on record here; the baseline `imagenet` measures them."
)

CAPTIONING_MODEL = next(model for model in MODELS if "caption.CIDEr-D" in model.figures)


def paper_figure(model: PublishedModel, key: str) -> tuple[float, PublishedModel] | None:
    """Return what the paper has, and the model whose figure that is.

    Of the captions of ``model``'s task it has that of one model alone: whoever shows it beside another
    has to say so.
    """
    if key.startswith("caption.") and model.setup.objective == CAPTIONING_MODEL.setup.objective:
        model = CAPTIONING_MODEL
    figure = model.figures.get(key)
    return None if figure is None else (figure, model)


def imagenet_figure(model: PublishedModel, key: str) -> float | None:
    """Return the published figure of the ImageNet-supervised backbone of ``model``'s architecture."""
    figures = IMAGENET_FIGURES.get(model.setup.backbone)
    return figures.get(key) if figures else None


def published_model(setup: Setup) -> PublishedModel:
    """Return the published model of the same architecture and task, or the best of the task, or of all."""
    same_task = (model for model in MODELS if model.setup.objective == setup.objective)
    return same_model(setup) or next(same_task, BEST_MODEL)


def same_model(setup: Setup) -> PublishedModel | None:
    """Return the published model of the same architecture and task, if there is one."""

    def architecture(of: Setup) -> tuple[object, ...]:
        head = (of.hidden_size, of.num_layers) if of.objective in TRANSFORMER_OBJECTIVES else ()
        return (of.objective, of.backbone, *head)

    return next((model for model in MODELS if architecture(model.setup) == architecture(setup)), None)
