"""What each dataset of a run is, for people: drawn shapes and own data never pass for published data."""

from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from components.core import paths
from components.core.datasets import BENCHMARK_DATA, DATASETS
from components.core.files import read_json_object

DRAWN = "drawn_world"  # value of download.source
TESTED_ON = {  # the dataset that each benchmark measures on
    **{benchmark: datasets[0] for benchmark, datasets in BENCHMARK_DATA.items()},
    "coco_segmentation": "coco",
    "caption": "coco",
}


def dataset_title(name: str, manifest: Mapping[str, Any]) -> str:
    """Return ``ImageNet``, ``drawn world (ImageNet layout)``, or of data of one's own their name and layout.

    Args:
        name: of the dataset in ``manifest``, captioned ones among them.
        manifest: of the datasets stage; empty where there is none, and then the name has to do.
    """
    layout = DATASETS.get(name)
    if manifest.get("source") == DRAWN:
        return f"drawn world ({layout.title} layout)" if layout else f"drawn world ({name})"
    captioned = name in manifest.get("captions", ())
    entry = manifest["captions"][name] if captioned else manifest.get(name)
    if layout is None or not entry:
        return name if captioned or layout is None else layout.title
    if entry.get("images", {}).get(layout.telling_split) == layout.telling_images:
        return layout.title
    return name if captioned else f"{PurePath(entry['root']).name} ({layout.title} layout)"


def read_titles(folder: Path = paths.DATASETS_DIR) -> Mapping[str, Any]:
    """Return the manifest as far as titles need it: of all, else what its parts say; empty without one.

    Stages that only name their data need no dependency on it: other data are other inputs of theirs too.
    """
    name = paths.DATASETS_MANIFEST.name
    if whole := read_json_object(folder / name):
        return whole
    found: dict[str, Any] = {}
    for part in sorted(folder.glob(f"**/{name}")):
        found |= {key: value for key, value in read_json_object(part).items() if value}
    return found


def title_here(name: str) -> str:
    """Return the title of a dataset of the run in the working directory."""
    return dataset_title(name, read_titles())


def layout_note(benchmark: str, manifest: Mapping[str, Any]) -> str:
    """Say what a benchmark's data are, after a comma, where its own name says something else; else empty."""
    name = TESTED_ON.get(benchmark)
    if name is None or not manifest:
        return ""
    title = dataset_title(name, manifest)
    return "" if title == DATASETS[name].title or title == name else f", {title}"
