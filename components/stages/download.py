"""Stage 1, ``download``: put the data that params.yaml names on disk, verify it, write its manifest."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from components import machine, params, paths
from components.atomic import writing
from components.entry import run_stage
from components.sources.drawn_world import draw_world
from components.sources.folders import DatasetFolders, verify_folders
from components.sources.manifest import stored_path, write_manifest
from components.tracking import StageRun

SECTIONS = (params.Download,)


def draw(download: params.Download, target: Path) -> DatasetFolders:
    """Draw the world below ``target``."""
    world = download.drawn_world
    print(f"drawing {world.train_images} captioned training images and the other datasets", flush=True)
    draw_world(world, target, machine.num_cpus(), progress=sys.stderr.isatty())
    return DatasetFolders(
        captions={"coco": target / "coco"},
        voc2007=target / "VOCdevkit" if world.voc_trainval_images + world.voc_test_images else None,
        imagenet=target / "imagenet" if world.imagenet_train_images + world.imagenet_val_images else None,
        inaturalist=target / "inaturalist"
        if world.inaturalist_train_images + world.inaturalist_val_images
        else None,
        lvis=target / "lvis",
    )


def use_folders(download: params.Download, target: Path) -> DatasetFolders:
    """Use the configured folders where they are; nothing is put below ``target``."""
    folders = download.folders

    def path(root: str) -> Path:
        return stored_path(Path(os.path.expanduser(root)))

    def path_or_none(root: str | None) -> Path | None:
        return None if root is None else path(root)

    return DatasetFolders(
        captions={name: path(root) for name, root in folders.captions.items()},
        voc2007=path_or_none(folders.voc2007),
        imagenet=path_or_none(folders.imagenet),
        inaturalist=path_or_none(folders.inaturalist),
        lvis=path_or_none(folders.lvis),
    )


# One function a value of `download.source`: it fills `target`, or nothing, and names the roots of what
# the run uses. Sources that fetch over the network (ordered mirrors, checksums, resume) join here.
SOURCES: dict[str, Callable[[params.Download, Path], DatasetFolders]] = {
    "drawn_world": draw,
    "folders": use_folders,
}


def main(run: StageRun, download: params.Download) -> None:
    """Fill data/datasets, whole or not at all, and count what is in it."""
    with writing(paths.DATASETS_DIR) as temporary:
        temporary.mkdir()
        folders = SOURCES[download.source](download, temporary)
        manifest, figures = verify_folders(folders, download.source)
        write_manifest(
            temporary / paths.DATASETS_MANIFEST.name, manifest.moved(temporary, paths.DATASETS_DIR)
        )
    run.metrics(figures)
    run.artifact(paths.DATASETS_MANIFEST)


if __name__ == "__main__":
    run_stage("download", SECTIONS, main)
