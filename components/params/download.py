"""The section ``download``: which data a run uses, and where they come from."""

import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from components.core.datasets import BENCHMARK_DATASETS, DATASETS
from components.params.sections import NonNegative, Positive, Section, each_once


class DrawnWorld(Section):
    """Numbers of images of each drawn dataset; 0 leaves a dataset out where that makes sense."""

    seed: NonNegative
    image_size: Annotated[int, Field(ge=32, le=1024)]
    train_images: Positive
    val_images: Positive
    voc_trainval_images: NonNegative
    voc_test_images: NonNegative
    imagenet_train_images: NonNegative
    imagenet_val_images: NonNegative
    inaturalist_train_images: NonNegative
    inaturalist_val_images: NonNegative


MirrorUrls = list[Annotated[str, Field(pattern=r"^https?://[^/\s]+")]]


class OwnData(Section):
    """How captions of one's own are read."""

    image_column: Annotated[str, Field(min_length=1)]
    caption_column: Annotated[str, Field(min_length=1)]
    split_column: Annotated[str, Field(min_length=1)]
    val_fraction: Annotated[float, Field(gt=0.0, lt=1.0)]
    seed: NonNegative
    url_connections: Annotated[int, Field(ge=1, le=256)]


def _require_known(keys: Iterable[str], valid: Iterable[str]) -> None:
    """Refuse keys that are not valid ones; whoever reports it adds the nearest."""
    valid = list(valid)
    for key in keys:
        if key not in valid:
            raise PydanticCustomError("unknown_key", "unknown key {key}", {"key": key, "valid": valid})


def is_on_server(place: str) -> bool:
    """Return whether captions of one's own are in tars on a server."""
    return place.startswith(("http://", "https://", "s3://"))


def _without_secrets(place: str) -> str:
    """Refuse URLs of tars that hold a password or a key, which would be stored and logged."""
    if is_on_server(place) and not all(map(is_on_server, place.split())):
        raise ValueError("between URLs of tars stand spaces; expected each to begin with https:// or s3://")
    if is_on_server(place) and any(sign in place for sign in "@?#"):
        raise ValueError(
            "URLs of tars hold neither user, query nor fragment: passwords and keys belong into the "
            "environment (VIRTEX_DOWNLOAD_TOKEN, AWS_ACCESS_KEY_ID)"
        )
    return place


def _known_dataset(name: str) -> str:
    """Require the name of a dataset that can be fetched."""
    if name not in DATASETS:
        raise PydanticCustomError("unknown_name", "no such dataset", {"valid": list(DATASETS)})
    return name


def _with_benchmarks(schema: dict[str, Any]) -> None:
    """Add the keys of benchmarks' datasets to the JSON schema, which knows the captioned ones alone."""
    folder = {"anyOf": [{"type": "string"}, {"type": "null"}]}
    schema["properties"] |= dict.fromkeys(BENCHMARK_DATASETS, folder)


class Folders(Section):
    """Datasets that already lie on this disk; see params.yaml for the expected layouts.

    Besides the captioned ones a key for each dataset of a benchmark, as
    ``components.core.datasets.BENCHMARK_DATASETS`` names them.
    """

    model_config = ConfigDict(extra="allow", json_schema_extra=_with_benchmarks)

    captions: dict[str, Annotated[str, AfterValidator(_without_secrets)]]
    __pydantic_extra__: dict[str, str | None]

    @field_validator("captions")
    @classmethod
    def _plain_names(cls, folders: dict[str, str]) -> dict[str, str]:
        for name in folders:
            if not re.fullmatch(r"[a-z0-9_]+", name):
                raise ValueError(f"dataset name {name!r}: use lower-case letters, digits and _ only")
        return folders

    @model_validator(mode="after")
    def _known_names(self) -> "Folders":
        _require_known(self.__pydantic_extra__, BENCHMARK_DATASETS)
        return self

    @property
    def benchmarks(self) -> dict[str, str]:
        """Folders of the benchmarks' datasets that are named."""
        return {name: path for name, path in self.__pydantic_extra__.items() if path is not None}


class Download(Section):
    """Which data the run uses."""

    source: Literal["drawn_world", "published", "folders"]
    drawn_world: DrawnWorld
    published: list[Annotated[str, AfterValidator(_known_dataset)]]
    connections: Annotated[int, Field(ge=1, le=32)]
    mirrors: dict[str, MirrorUrls]  # by dataset, tried before the official places
    folders: Folders
    own_data: OwnData

    @property
    def captioned_datasets(self) -> list[str]:
        """Names of the datasets to pretrain on."""
        if self.source == "drawn_world":
            return ["coco"]
        published = (name for name in self.published if DATASETS[name].captioned)
        return [*published, *self.folders.captions]

    @property
    def has_voc2007(self) -> bool:
        """Return whether the run has the images of VOC07."""
        if self.source == "drawn_world":
            return self.drawn_world.voc_trainval_images > 0 and self.drawn_world.voc_test_images > 0
        return self.has("voc2007")

    def has(self, dataset: str) -> bool:
        """Return whether the run has the images of a benchmark, by the name of its dataset."""
        if self.source != "drawn_world":
            return dataset in self.published or dataset in self.folders.benchmarks
        world = self.drawn_world
        drawn = {
            "voc2007": world.voc_trainval_images + world.voc_test_images,
            "imagenet": world.imagenet_train_images + world.imagenet_val_images,
            "inaturalist": world.inaturalist_train_images + world.inaturalist_val_images,
            "lvis": world.train_images,
        }
        return drawn.get(dataset, 0) > 0

    _different = field_validator("published")(each_once)

    @field_validator("mirrors")
    @classmethod
    def _known_mirrors(cls, mirrors: dict[str, MirrorUrls]) -> dict[str, MirrorUrls]:
        _require_known(mirrors, DATASETS)
        return mirrors

    @model_validator(mode="after")
    def _has_captions(self) -> "Download":
        if not self.captioned_datasets:
            known = " or ".join(name for name, dataset in DATASETS.items() if dataset.captioned)
            more = f" or `published` list {known}" if self.source == "published" else ""
            raise ValueError(
                f"source is `{self.source}`: folders.captions must name at least one dataset{more}"
            )
        return self

    @model_validator(mode="after")
    def _fetches_what_it_uses(self) -> "Download":
        if self.source != "published" and self.published:
            raise ValueError(
                f"source is `{self.source}`: published must be [], or it would be fetched for nothing"
            )
        if self.source == "published" and not self.published:
            raise ValueError("source is `published`: published must name at least one dataset")
        for name in self.published:
            if name in self.folders.captions or name in self.folders.benchmarks:
                raise ValueError(f"{name} is both in published and in folders; take it out of one of them")
        return self
