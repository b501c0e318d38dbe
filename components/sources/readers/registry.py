"""READERS: how each benchmark's dataset is read and verified, by its name in components.core.datasets."""

from collections.abc import Callable
from pathlib import Path

from components.sources.readers.imagenet import verify_imagenet
from components.sources.readers.inaturalist import verify_inaturalist
from components.sources.readers.lvis import verify_lvis
from components.sources.readers.types import DatasetFolders, Verified
from components.sources.readers.voc import verify_voc2007, verify_voc2012

Reader = Callable[[Path, DatasetFolders], Verified]

READERS: dict[str, Reader] = {
    "voc2007": verify_voc2007,
    "voc2012": verify_voc2012,
    "imagenet": verify_imagenet,
    "inaturalist": verify_inaturalist,
    "lvis": verify_lvis,
}
