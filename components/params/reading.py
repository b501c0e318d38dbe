"""From params.yaml to typed sections, with errors a person can act on."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from components.core import paths
from components.core.datasets import BENCHMARK_DATA
from components.core.errors import InputError
from components.params.benchmarks import (
    PRETRAINED,
    Baseline,
    Benchmarks,
    Caption,
    CocoSegmentation,
    Detection,
    ImagenetLinear,
    Inaturalist,
    LvisSegmentation,
    Probes,
    Voc07,
    VocDetection,
)
from components.params.download import Download
from components.params.sections import (
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
)
from components.params.yaml_files import load_yaml, shown

SectionT = TypeVar("SectionT", bound=Section)
SECTIONS: dict[str, type[Section]] = {
    "download": Download,
    "tokenize": Tokenize,
    "lmdb": Lmdb,
    "stream": Stream,
    "augmentation": Augmentation,
    "backbone": Backbone,
    "textual_head": TextualHead,
    "objective": Objective,
    "subset": Subset,
    "optimizer": Optimizer,
    "schedule": Schedule,
    "pretrain": Pretrain,
    "select": Select,
    "baseline": Baseline,
    "benchmarks": Benchmarks,
    "voc07": Voc07,
    "imagenet_linear": ImagenetLinear,
    "inaturalist": Inaturalist,
    "coco_segmentation": CocoSegmentation,
    "lvis_segmentation": LvisSegmentation,
    "voc_detection": VocDetection,
    "probes": Probes,
    "caption": Caption,
}


def read_section(section: type[SectionT], path: Path = paths.PARAMS) -> SectionT:
    """Read and check one section of the parameters file.

    Raises:
        InputError: names the file, the key, what was expected and the nearest valid key.
    """
    name = section_name(section)
    tree = load_yaml(path)
    if name not in tree:
        raise InputError(f"{path}: the section `{name}` is missing{nearest(name, tree)}")
    return check_section(section, tree[name], path)


def check_params(path: Path = paths.PARAMS) -> dict[str, Section]:
    """Read and check every section, and that there are no others; returns them by name."""
    return check_tree(load_yaml(path), path)


def check_tree(tree: Mapping[str, Any], path: Path) -> dict[str, Section]:
    """Check a whole parameters tree that was read from ``path``."""
    for name in tree:
        if name not in SECTIONS:
            raise InputError(f"{path}: unknown section `{name}`{nearest(name, SECTIONS)}")
    for name in SECTIONS:
        if name not in tree:
            raise InputError(f"{path}: the section `{name}` is missing")
    sections = {name: check_section(section, tree[name], path) for name, section in SECTIONS.items()}
    for check in (
        _check_caption, _check_backbones, _check_timm, _check_selection, _check_accumulation, _check_lengths,
        _check_shards, _check_stream,
    ):  # fmt: skip
        check(sections, path)
    return sections


def _check_caption(sections: Mapping[str, Section], path: Path) -> None:
    """Refuse what the caption stage would refuse after the whole pretraining."""
    download, caption = section_of(sections, Download), section_of(sections, Caption)
    crop_size = section_of(sections, Augmentation).crop_size
    if caption.dataset not in download.captioned_datasets:
        raise InputError(
            f"{path}: `caption.dataset`: {caption.dataset!r} is not a captioned dataset of this run"
            f"{nearest(caption.dataset, download.captioned_datasets)}"
        )
    if caption.image_size is not None and caption.image_size < crop_size:
        raise InputError(
            f"{path}: `caption.image_size`: {caption.image_size} is less than augmentation.crop_size, "
            f"{crop_size}; expected at least as much, or null"
        )


def _check_backbones(sections: Mapping[str, Section], path: Path) -> None:
    """Refuse a backbone that is no baseline's and in no file of `virtex zoo import` beside ``path``."""
    known = [PRETRAINED, *section_of(sections, Baseline).sources]
    asked = section_of(sections, Benchmarks)
    for key, names in (("backbones", asked.backbones), ("detection_backbones", asked.detection_backbones)):
        for name in names:
            if name not in known and not (Path(path).parent / paths.backbone_path(name)).is_file():
                raise InputError(
                    f"{path}: `benchmarks.{key}`: {name!r} is no backbone of this run{nearest(name, known)}; "
                    f"name its source in `baseline.sources`, or make it with `virtex zoo import`"
                )


def _check_timm(sections: Mapping[str, Section], path: Path) -> None:
    """Refuse of a network of timm what only torchvision's ResNets have, and the other way round."""
    backbone = section_of(sections, Backbone)
    if backbone.drop_path and not is_timm(backbone.name):
        raise InputError(
            f"{path}: `backbone.drop_path`: {backbone.drop_path}, but {backbone.name} is no network of timm "
            "and has no stochastic depth; expected 0"
        )
    if not is_timm(backbone.name) or not detects_with_backbone(sections):
        return
    for name, detection in sections.items():
        allowed: dict[str, tuple[object, ...]] = {"engine": ("torchvision",), "freeze_at": (0, 5)}
        for key, values in allowed.items() if isinstance(detection, Detection) else ():
            if (found := getattr(detection, key)) not in values:
                raise InputError(
                    f"{path}: `{name}.{key}`: {found} is for torchvision's ResNets, and backbone.name is "
                    f"{backbone.name}; expected {' or '.join(map(str, values))} (or set "
                    "`benchmarks.detection_backbones` to [])"
                )


def detects_with_backbone(sections: Mapping[str, Section]) -> bool:
    """Return whether detectors are to be trained from a backbone of the kind that this run pretrains."""
    sources = section_of(sections, Baseline).sources
    detected = section_of(sections, Benchmarks).detection_backbones
    return any(name == PRETRAINED or sources.get(name) == "random" for name in detected)


def _check_selection(sections: Mapping[str, Section], path: Path) -> None:
    """Refuse before pretraining what the stage after it would."""
    download = section_of(sections, Download)
    if section_of(sections, Select).by == "voc07" and not download.has_voc2007:
        raise InputError(
            f"{path}: `select.by`: voc07 needs the images of VOC07, which this run lacks; name them under "
            f"`download.{download.source}`, or choose checkpoints by val_loss or last"
        )


def _check_accumulation(sections: Mapping[str, Section], path: Path) -> None:
    """Refuse parts of an iteration where the loss compares all its images."""
    name, accumulate = section_of(sections, Objective).name, section_of(sections, Pretrain).accumulate
    if name.startswith("contrastive") and accumulate > 1:
        raise InputError(
            f"{path}: `pretrain.accumulate`: {accumulate}, but objective.name {name} compares all images "
            "of an iteration with each other; expected 1"
        )


def _check_shards(sections: Mapping[str, Section], path: Path) -> None:
    """Refuse groups into which the shards do not divide."""
    groups, shards = section_of(sections, Pretrain).shard_groups, section_of(sections, Lmdb).shards
    if groups > 1 and (not shards or len(shards) % groups):
        raise InputError(
            f"{path}: `pretrain.shard_groups`: {groups}, but lmdb.shards lists {len(shards) or 'none'}; "
            f"expected 1, or a multiple of {groups} shards"
        )


def _check_lengths(sections: Mapping[str, Section], path: Path) -> None:
    """Refuse lengths that some caption would exceed, or that exceed what the head has positions for."""
    lengths = section_of(sections, Pretrain).caption_lengths
    longest = section_of(sections, TextualHead).max_caption_length
    if lengths is not None and lengths[-1] != longest:
        raise InputError(
            f"{path}: `pretrain.caption_lengths`: the last is {lengths[-1]}; expected "
            f"textual_head.max_caption_length, {longest}, or null for the key"
        )


def _check_stream(sections: Mapping[str, Section], path: Path) -> None:
    """Refuse other forms of images that stay in their tars."""
    lmdb = section_of(sections, Lmdb)
    if section_of(sections, Stream).train and (lmdb.decoded or lmdb.short_side is not None or lmdb.shards):
        raise InputError(
            f"{path}: `stream.train`: true leaves training images as they are in their tars; expected "
            "lmdb.decoded: false, lmdb.short_side: null and lmdb.shards: [], or false for the key"
        )


def check_section(section: type[SectionT], values: Any, path: Path) -> SectionT:
    """Validate one section's values; all faults are reported at once."""
    name = section_name(section)
    if not isinstance(values, Mapping):
        raise InputError(f"{path}: `{name}` must be a section of keys, found {shown(values)}")
    try:
        return section.model_validate(plain(values))
    except ValidationError as error:
        faults = "\n".join(f"  {_fault(section, name, detail)}" for detail in error.errors())
        raise InputError(f"{path}: {error.error_count()} fault(s) in section `{name}`:\n{faults}") from None


def section_of(sections: Mapping[str, Section], kind: type[SectionT]) -> SectionT:
    """Return the only section of a kind."""
    return next(section for section in sections.values() if isinstance(section, kind))


def reasons_not_run(sections: Mapping[str, Section]) -> dict[str, str]:
    """Return why benchmarks cannot be measured, since the run lacks their data, by stage and in its words.

    Args:
        sections: all of params.yaml, by name, as ``check_params`` gives them.
    """
    download = section_of(sections, Download)
    segmentation, detection = section_of(sections, CocoSegmentation), section_of(sections, VocDetection)
    reasons = {
        stage: f"this run has no `{datasets[0]}` data"
        for stage, datasets in BENCHMARK_DATA.items()
        if stage != "voc_detection" and not download.has(datasets[0])
    }
    if segmentation.dataset not in download.captioned_datasets:
        reasons["coco_segmentation"] = f"this run has no captioned dataset `{segmentation.dataset}`"
    for name in (*detection.train_sets, *detection.test_sets):
        year = name.partition("/")[0]
        if not download.has(f"voc{year}"):
            reasons["voc_detection"] = f"this run has no VOC{year}, which the set {name} needs"
            break
    return reasons


def section_name(section: type[Section]) -> str:
    """Return the key a section has in params.yaml."""
    return next(name for name, candidate in SECTIONS.items() if candidate is section)


def nearest(name: str, valid: Any) -> str:
    """Return a hint such as `` (did you mean `voc07`?)`` or the list of what is valid."""
    valid = [str(candidate) for candidate in valid]
    matches = difflib.get_close_matches(str(name), valid, n=1, cutoff=0.5)
    return f" (did you mean `{matches[0]}`?)" if matches else f" (valid: {', '.join(valid)})"


def plain(value: Any) -> Any:
    """Return plain dicts, lists and scalars from whatever containers a YAML reader made."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def _fault(section: type[Section], name: str, detail: Any) -> str:
    location = [str(part) for part in detail["loc"]]
    key = ".".join([name, *location])
    if detail["type"] == "extra_forbidden":
        return f"unknown key `{key}`{nearest(location[-1], _fields(section, location[:-1]))}"
    if detail["type"] == "missing":
        return f"`{key}` is missing"
    if detail["type"] == "unknown_key":
        unknown, valid = detail["ctx"]["key"], detail["ctx"]["valid"]
        return f"unknown key `{key}.{unknown}`{nearest(unknown, valid)}"
    if detail["type"] == "unknown_name":
        hint = nearest(detail["input"], detail["ctx"]["valid"])
        return f"`{key}`: {detail['msg']}, found {shown(detail['input'])}{hint}"
    message = detail["msg"].removeprefix("Value error, ")
    given = "" if isinstance(detail["input"], dict) else f", found {shown(detail['input'])}"
    return f"`{key}`: {message[0].lower()}{message[1:]}{given}"


def _fields(section: type[BaseModel], location: list[str]) -> list[str]:
    for part in location:
        annotation = section.model_fields[part].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        section = annotation
    return list(section.model_fields)
