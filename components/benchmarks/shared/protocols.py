"""Name and version of each benchmark's protocol: figures of different versions are not compared.

A version rises when the same settings and images would give another figure than before, be it by a default
of a library. What a benchmark does is said where its code is; its settings stand beside its figures.
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from components import params
from components.benchmarks.shared.per_image import PerImage


@dataclass(frozen=True, slots=True)
class Protocol:
    """The protocol of a figure.

    Attributes:
        name: what is run by the paper's settings.
        version: rises when figures do not compare.
        otherwise: what is run instead where a setting or a backbone has it so; None: always the same.
    """

    name: str
    version: int
    otherwise: str | None = None


# By the benchmark's folder; `similarity` is likelihood's of a contrastive model.
PROTOCOLS = MappingProxyType(
    {
        "voc07": Protocol("linear SVMs on frozen features, mAP of VOC2007 test", 1),
        "imagenet_linear": Protocol("linear classifier on the frozen backbone, centre crops", 1),
        "inaturalist": Protocol("whole backbone fine-tuned, centre crops", 1),
        "coco_segmentation": Protocol("Mask R-CNN with FPN, COCO AP", 1),
        "lvis_segmentation": Protocol("Mask R-CNN with FPN, LVIS v1 AP", 1),
        "voc_detection": Protocol(
            "Faster R-CNN C4, AP at eleven recalls of VOC2007",
            1,
            "Faster R-CNN with FPN, AP at eleven recalls of VOC2007",
        ),
        "probes": Protocol(
            "cosine votes of 20 and 200 neighbours at temperature 0.07; ridge from 1, 2, 5 and 10 shots; "
            "attentive pooling by AdamW on centre crops; 1x1 convolution by AdamW on whole images",
            1,
        ),
        "likelihood": Protocol("log probabilities of sentences and captions, both directions", 1),
        "similarity": Protocol("similarity of images with sentences and captions, by two towers", 1),
        "caption": Protocol("beam search, COCO caption scores", 1, "nucleus sampling, COCO caption scores"),
    }
)


def beside_figures(
    benchmark: str,
    settings: params.Section,
    by_image: PerImage,
    chance: dict[str, float],
    *,
    is_otherwise: bool = False,
) -> dict[str, Any]:
    """Return what metrics.json has beside a benchmark's figures.

    Args:
        benchmark: key of `PROTOCOLS`.
        settings: its section of params.yaml.
        by_image: what the bounds of its headline figures come from.
        chance: what guessing reaches, by figure, in the figure's unit.
        is_otherwise: whether the protocol's ``otherwise`` was run, if it has one.
    """
    protocol = PROTOCOLS[benchmark]
    return {
        "intervals": by_image.intervals(),
        "chance": chance,
        "protocol": {
            "name": (is_otherwise and protocol.otherwise) or protocol.name,
            "version": protocol.version,
            "settings": settings.model_dump(mode="json"),
        },
    }
