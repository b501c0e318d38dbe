"""The manifest cut into parts, each a manifest of its own, so that a stage is stale if what it uses changed.

Below data/datasets, always all of them, whatever data the run has:

- ``captions/``: the captioned datasets as texts, and the indices of one's own data
- ``images/``: the images of all captioned datasets and their objects
- ``voc07/``, ``imagenet_linear/`` and so on: what that benchmark reads

A dataset that is drawn lies in the folder of its name beside the manifest. A part has digests of all that its
stages read, so that no stage needs to depend on these folders.
"""

from pathlib import Path, PurePosixPath

from components.sources.manifest import CaptionedEntry, Manifest, write_manifest

_BENCHMARKS = {
    "voc07": ("voc2007",),
    "imagenet_linear": ("imagenet",),
    "inaturalist": ("inaturalist",),
    "lvis_segmentation": ("lvis",),
    "voc_detection": ("voc2007", "voc2012"),
}


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
    for part, names in _BENCHMARKS.items():
        own = {name: entry for name, entry in manifest.benchmarks.items() if name in names}
        write(bare.model_copy(update={"benchmarks": own}), part)


def _texts(entry: CaptionedEntry) -> CaptionedEntry:
    kept = {name: digest for name, digest in entry.annotations.items() if not _is_of_objects(entry, name)}
    return entry.model_copy(update={"annotations": kept, "listings": {}})


def _images(entry: CaptionedEntry) -> CaptionedEntry:
    kept = {name: digest for name, digest in entry.annotations.items() if _is_of_objects(entry, name)}
    return entry.model_copy(update={"annotations": kept, "num_captions": {}})


def _is_of_objects(entry: CaptionedEntry, name: str) -> bool:
    """Whether an annotation file holds objects and no captions, which COCO's layout tells by its name."""
    return entry.index is None and PurePosixPath(name).name.startswith("instances_")
