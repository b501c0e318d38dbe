"""The paper's protocols of classification, and whether a run that follows one has the classes for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from components import params
from components.core.logs import own_logger

_logger = own_logger(__name__)


@dataclass(frozen=True, slots=True)
class ClassificationProtocol:
    """What makes a run one of the paper's (sections 4.1 and 4.3).

    Attributes:
        dataset: for people.
        num_classes: it has.
        settings: values of the stage's section that belong to it.
    """

    dataset: str
    num_classes: int
    settings: Mapping[str, Any]


_IMAGES = {"image_size": 256, "crop_size": 224, "batch_size": 256, "epochs": 100, "momentum": 0.9}
PROTOCOLS = MappingProxyType(
    {
        "imagenet_linear": ClassificationProtocol("ImageNet", 1_000, {**_IMAGES, "learning_rate": 0.3}),
        "inaturalist": ClassificationProtocol(
            "iNaturalist 2018", 8_142, {**_IMAGES, "learning_rate": 0.025, "weight_decay": 1e-4}
        ),
    }
)


def warn_of_other_classes(stage: str, settings: params.Classification, num_classes: int) -> bool:
    """Log a warning where ``settings`` are the paper's and the data are not; returns whether it did."""
    protocol = PROTOCOLS[stage]
    is_papers = all(getattr(settings, name) == value for name, value in protocol.settings.items())
    if not is_papers or num_classes == protocol.num_classes:
        return False
    _logger.warning(
        "%s: the protocol is the paper's, but the data have %d classes and %s has %d: the figures are not "
        "comparable with the paper's; look at download.folders and download.published",
        stage,
        num_classes,
        protocol.dataset,
        protocol.num_classes,
    )
    return True
