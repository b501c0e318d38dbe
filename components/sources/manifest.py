"""data/datasets/manifest.json: which datasets the run uses, where they lie, and what they were.

The later stages read the datasets through it alone, so they need not know whether they were drawn
here, downloaded, or lie elsewhere on this disk.

It is cut into parts, each a manifest of its own, so that a stage is stale if what it uses changed. Below
data/datasets, always all of them, whatever data the run has:

- ``captions/``: the captioned datasets as texts, and the indices of one's own data
- ``images/``: the images of all captioned datasets and their objects
- ``voc07/``, ``imagenet_linear/`` and so on: what that benchmark reads

A dataset that is drawn lies in the folder of its name beside the manifest. A part has digests of all that its
stages read, so that no stage needs to depend on these folders.
"""

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from components.core import machine, paths
from components.core.datasets import BENCHMARK_DATA, BENCHMARK_DATASETS
from components.core.errors import InputError
from components.core.files import sha256, write_text
from components.sources.download.unpack import require_unpacked
from components.sources.readers import coco
from components.sources.readers.coco import ObjectLabels, read_object_labels
from components.sources.readers.own.index import read_index
from components.sources.readers.types import CaptionedImage

CHANGED_ADVICE = "run the datasets stage again: `virtex run datasets --force` or `dvc repro -f datasets`"


class DatasetEntry(BaseModel):
    """One dataset.

    Attributes:
        root: folder in the published layout; relative to the repository root when inside it, and
            ``datasets/unpacked/...`` for unpacked archives, wherever those are on this machine.
        annotations: SHA-256 by path below ``root``; an absolute path where a file lies elsewhere.
        images: number of images by split.
        listings: SHA-256 over the names and contents of the images, by split;
            see components.sources.contents.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    root: str
    annotations: dict[str, str]
    images: dict[str, int]
    listings: dict[str, str]


class CaptionedEntry(DatasetEntry):
    """A captioned dataset; ``images`` counts those that have captions.

    Attributes:
        num_captions: by split.
        index: folder with the index of each split, for data of one's own; None for COCO's layout.
    """

    num_captions: dict[str, int]
    index: str | None = None


class LvisEntry(DatasetEntry):
    """LVIS, whose images (below ``images_root``) are COCO's."""

    images_root: str


class Manifest(BaseModel):
    """All datasets of a run.

    Attributes:
        source: a value of ``download.source``.
        captions: to pretrain on, by name.
        benchmarks: those of ``BENCHMARK_DATASETS`` that the run has.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal["virtex-datasets"] = "virtex-datasets"
    version: Literal[1] = 1
    source: str
    captions: dict[str, CaptionedEntry]
    benchmarks: dict[str, DatasetEntry | LvisEntry] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _gathered(cls, fields: Any) -> Any:
        if not isinstance(fields, dict) or "benchmarks" in fields:
            return fields
        own = {key: value for key, value in fields.items() if key not in BENCHMARK_DATASETS}
        named = {name: fields[name] for name in BENCHMARK_DATASETS if fields.get(name) is not None}
        return {**own, "benchmarks": named}

    @model_serializer(mode="wrap")
    def _spread(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Give each a key of its own in the file, which is null where the run lacks it."""
        fields = dump(self)
        named = fields.pop("benchmarks")
        return fields | {name: named.get(name) for name in BENCHMARK_DATASETS}

    def captions_of(self, split: str, dataset: str | None = None) -> list[CaptionedImage]:
        """Return the captioned images of all datasets, one after the other, or of one.

        Raises:
            InputError: no such dataset, its annotations changed since the datasets stage, or
                :func:`components.sources.readers.coco.read_captions` finds a fault.
        """
        images: list[CaptionedImage] = []
        for name in self.captions if dataset is None else [dataset]:
            entry = self._captioned(name)
            root = resolved_path(entry.root)
            if entry.index is None:
                self._require_unchanged(entry, root, [coco.annotation_path(root, "captions", split)])
                images.extend(coco.read_captions(root, split, name))
            else:
                self._require_unchanged(entry, root, [root / source for source in entry.annotations])
                images.extend(read_index(Path(entry.index), split, root, name))
        return images

    def object_labels_of(self, split: str) -> ObjectLabels:
        """Return labels of the images of all captioned datasets with an ``instances`` file; others have none.

        Raises:
            InputError: such a file changed, came or went since the datasets stage, or is broken.
        """
        labelled: dict[str, Path] = {}
        for name, entry in self.captions.items():
            if entry.index is not None:
                continue
            root = resolved_path(entry.root)
            path = coco.annotation_path(root, "instances", split)
            if path.exists() or path.relative_to(root).as_posix() in entry.annotations:
                self._require_unchanged(entry, root, [path])
                labelled[name] = root
        return read_object_labels(labelled, split)

    def root_of(self, dataset: str) -> Path:
        """Return the root of a dataset that benchmarks use, its annotations unchanged.

        Raises:
            InputError: this run has no such dataset, or it changed since the datasets stage.
        """
        entry = self.benchmarks.get(dataset)
        if entry is None:
            section = f"download.{self.source}"
            raise InputError(f"this run has no `{dataset}` data; ask for it in params.yaml under {section}")
        root = resolved_path(entry.root)
        self._require_unchanged(entry, root, [root / name for name in entry.annotations])
        return root

    def captioned_root(self, dataset: str) -> Path:
        """Return the root of a captioned dataset, for what lies beside its captions.

        Raises:
            InputError: this run has no such dataset.
        """
        return resolved_path(self._captioned(dataset).root)

    def _captioned(self, dataset: str) -> CaptionedEntry:
        if dataset not in self.captions:
            known = ", ".join(self.captions)
            raise InputError(f"there is no captioned dataset `{dataset}` in this run; there is: {known}")
        return self.captions[dataset]

    @property
    def lvis_images_root(self) -> Path:
        """Folder of COCO's images that LVIS annotates; ask `root_of` first."""
        entry = self.benchmarks["lvis"]
        assert isinstance(entry, LvisEntry)
        return resolved_path(entry.images_root)

    @property
    def voc_roots(self) -> dict[int, Path]:
        """By year, the folder that contains ``VOC<year>/``, of those that the run has."""
        return {
            int(name.removeprefix("voc")): self.root_of(name)
            for name in self.benchmarks
            if name.startswith("voc")
        }

    def moved(self, before: Path, after: Path) -> "Manifest":
        """Return the same datasets after the folder ``before`` became ``after``."""
        old, new = stored_path(before), stored_path(after)
        fields = self.model_dump()
        named = [fields[name] for name in BENCHMARK_DATASETS if fields[name]]
        for entry in [*fields["captions"].values(), *named]:
            for key in {"root", "images_root", "index"} & entry.keys():
                if entry[key] and Path(entry[key]).is_relative_to(old):
                    entry[key] = (new / Path(entry[key]).relative_to(old)).as_posix()
        return Manifest.model_validate(fields)

    @staticmethod
    def _require_unchanged(entry: DatasetEntry, root: Path, annotation_paths: Iterable[Path]) -> None:
        for path in annotation_paths:
            if not path.is_file():
                raise InputError(
                    f"{path}: was there when the datasets stage ran, and is gone; {CHANGED_ADVICE}"
                )
            if sha256(path) != entry.annotations.get(source_name(path, root)):
                raise InputError(f"{path}: changed since the datasets stage ran; {CHANGED_ADVICE}")


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write it, atomically; the same datasets give the same bytes."""
    write_text(path, manifest.model_dump_json(indent=2) + "\n")


def read_manifest(path: Path) -> Manifest:
    """Read and check the manifest; its datasets are checked when they are asked for.

    Raises:
        InputError: missing, broken, or of another version.
    """
    if not path.is_file():
        raise InputError(f"{path}: no datasets yet; run the datasets stage first")
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "the file"
        raise InputError(f"{path}: {where}: {fault['msg']}; {CHANGED_ADVICE}") from None


def stored_path(path: Path) -> Path:
    """Return ``path`` relative to the repository root (the working directory) inside it, else absolute."""
    absolute = Path(os.path.abspath(path))
    unpacked = Path(os.path.abspath(machine.unpacked_dir()))
    if absolute.is_relative_to(unpacked):
        return paths.UNPACKED_DIR / absolute.relative_to(unpacked)
    return absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute


def resolved_path(stored: str) -> Path:
    """Return the path that :func:`stored_path` wrote; archives are unpacked again if that is where it leads.

    Raises:
        InputError: they cannot be.
    """
    path = Path(stored)
    if not path.is_relative_to(paths.UNPACKED_DIR):
        return path
    name, *below = path.relative_to(paths.UNPACKED_DIR).parts
    return require_unpacked(name).joinpath(*below)


def source_name(path: Path, root: Path) -> str:
    """Return the key of a file in ``DatasetEntry.annotations``."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else stored_path(path).as_posix()


def write_parts(folder: Path, manifest: Manifest, segmented: str = "coco") -> None:
    """Write the manifest to ``folder``, and its parts to the folders there.

    Args:
        folder: data/datasets, or what becomes it.
        manifest: of all datasets.
        segmented: the captioned dataset of ``coco_segmentation``, whether the run has it or not.
    """

    def write(part: Manifest, *names: str) -> None:
        path = folder.joinpath(*names) / "manifest.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_manifest(path, part)

    bare = Manifest(source=manifest.source, captions={})
    images = {name: _images(entry) for name, entry in manifest.captions.items()}
    texts = {name: _texts(entry) for name, entry in manifest.captions.items()}
    write(manifest)
    write(bare.model_copy(update={"captions": texts}), "captions")
    write(bare.model_copy(update={"captions": images}), "images")
    segmented_images = {name: entry for name, entry in images.items() if name == segmented}
    write(bare.model_copy(update={"captions": segmented_images}), "coco_segmentation")
    for part, names in BENCHMARK_DATA.items():
        own = {name: entry for name, entry in manifest.benchmarks.items() if name in names}
        write(bare.model_copy(update={"benchmarks": own}), part)


def _texts(entry: CaptionedEntry) -> CaptionedEntry:
    kept = {name: digest for name, digest in entry.annotations.items() if not _is_of_objects(entry, name)}
    return entry.model_copy(update={"annotations": kept, "listings": {}})


def _images(entry: CaptionedEntry) -> CaptionedEntry:
    kept = {name: digest for name, digest in entry.annotations.items() if _is_of_objects(entry, name)}
    return entry.model_copy(update={"annotations": kept, "num_captions": {}})


def _is_of_objects(entry: CaptionedEntry, name: str) -> bool:
    """Tell whether an annotation file holds objects and no captions, by its name in COCO's layout."""
    return entry.index is None and PurePosixPath(name).name.startswith("instances_")
