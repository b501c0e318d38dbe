"""Results of the chosen checkpoint, measured by `select`, for `voc07` to take and not to compute again.

They carry a digest of all that they depend on, as kept features do (components.benchmarks.shared.features):
what is taken is to the last bit what `voc07` would compute, so that DVC need not know of it.
"""

import hashlib
import importlib.metadata
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from components import params
from components.benchmarks.shared.features import LIBRARIES, backbone_digest, code_digest, images_digest
from components.benchmarks.voc07.svm import ClassResult
from components.core import machine
from components.core.files import write_json
from components.sources.readers.voc import VocSplit

_LIBRARIES = (*LIBRARIES, "numpy", "scikit-learn")


@dataclass(frozen=True, slots=True)
class Measured:
    """Results by class, and the time that features and SVMs took."""

    results: list[ClassResult]
    features_seconds: float
    svm_seconds: float


def measurement_key(backbone: nn.Module, splits: tuple[VocSplit, ...], voc07: params.Voc07) -> str:
    """Return the SHA-256 of backbone, images, labels, settings, code, libraries and kind of device."""
    own = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        own.update(path.read_bytes())
    key = {
        "code": [code_digest(), own.hexdigest()],
        "backbone": backbone_digest(backbone),
        "images": [images_digest(split.image_paths, machine.num_cpus()) for split in splits],
        "labels": [hashlib.sha256(split.labels.tobytes()).hexdigest() for split in splits],
        "classes": splits[0].classes,
        "settings": voc07.model_dump(mode="json"),
        "device": machine.device_name(),
        "libraries": {name: importlib.metadata.version(name) for name in _LIBRARIES},
    }
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()


def write_measured(path: Path, measured: Measured | None, key: str) -> None:
    """Write results; of None an empty file, which fits no backbone."""
    results = [_plain(result) for result in measured.results] if measured else []
    times = (measured.features_seconds, measured.svm_seconds) if measured else ()
    write_json(path, {"key": key if measured else None, "results": results, "seconds": times})


def read_measured(path: Path, key: str) -> Measured | None:
    """Return the results at ``path`` if they are those of ``key``; None if not, or if they cannot be read."""
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
        if written["key"] != key:
            return None
        return Measured([_result(one) for one in written["results"]], *written["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _plain(result: ClassResult) -> dict[str, Any]:
    return asdict(result) | {"recall": result.recall.tolist(), "precision": result.precision.tolist()}


def _result(written: dict[str, Any]) -> ClassResult:
    arrays = {name: np.array(written[name]) for name in ("recall", "precision")}
    return ClassResult(**written | arrays | {"validation_aps": tuple(written["validation_aps"])})
