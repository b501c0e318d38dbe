"""Stage ``datasets``: the data that params.yaml names, on this disk and verified, and their manifest."""

import csv
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

from components import params
from components.core import machine, paths
from components.core.files import write_text, writing
from components.entry import run_stage
from components.sources.download.archives.counts import require_counts
from components.sources.download.archives.published import PUBLISHED
from components.sources.download.archives.unpacked import unpack_dataset
from components.sources.drawn_world import draw_world
from components.sources.fingerprint import write_named
from components.sources.folders import DatasetFolders, OwnReading, verify_folders
from components.sources.manifest import stored_path
from components.sources.parts import write_parts
from components.sources.readers.own.fetched import LeftOut, forget_fetched
from components.sources.readers.own.sample import OwnSettings
from components.tracking import StageRun

SECTIONS = (params.Download, params.Lmdb, params.CocoSegmentation)


def draw(download: params.Download, target: Path) -> DatasetFolders:
    """Draw the world below ``target``."""
    world = download.drawn_world
    print(f"drawing {world.train_images} captioned training images and the other datasets", flush=True)
    draw_world(world, target, machine.num_cpus(), progress=sys.stderr.isatty())
    return DatasetFolders(
        captions={"coco": target / "coco"},
        voc2007=target / "voc2007" / "VOCdevkit"
        if world.voc_trainval_images + world.voc_test_images
        else None,
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
        voc2012=path_or_none(folders.voc2012),
        imagenet=path_or_none(folders.imagenet),
        inaturalist=path_or_none(folders.inaturalist),
        lvis=path_or_none(folders.lvis),
    )


def use_published(download: params.Download, target: Path) -> DatasetFolders:
    """Unpack the fetched archives where they are not yet unpacked; all else is where the folders say."""
    others = use_folders(download, target)
    roots = {name: unpack_dataset(name) / PUBLISHED[name].root for name in download.published}
    coco = {"coco": roots["coco"]} if "coco" in roots else {}
    return DatasetFolders(
        captions={**coco, **others.captions},
        voc2007=roots.get("voc2007", others.voc2007),
        voc2012=roots.get("voc2012", others.voc2012),
        imagenet=roots.get("imagenet", others.imagenet),
        inaturalist=roots.get("inaturalist", others.inaturalist),
        lvis=roots.get("lvis", others.lvis),
    )


# One function a value of `download.source`: it fills `target`, or nothing, and names the roots of what
# the run uses.
SOURCES: dict[str, Callable[[params.Download, Path], DatasetFolders]] = {
    "drawn_world": draw,
    "published": use_published,
    "folders": use_folders,
}


def main(
    run: StageRun, download: params.Download, lmdb: params.Lmdb, segmentation: params.CocoSegmentation
) -> None:
    """Fill data/datasets, whole or not at all, and count what is in it."""
    with writing(paths.DATASETS_DIR) as temporary:
        temporary.mkdir()
        folders = SOURCES[download.source](download, temporary)
        own = OwnReading(
            settings=OwnSettings(**download.own_data.model_dump()),
            folder=temporary / paths.dataset_part("captions").parent.name,
            skip_unreadable=lmdb.on_unreadable == "skip",
        )
        manifest, figures = verify_folders(folders, download.source, own, download.published)
        for dataset in download.published:
            require_counts(dataset, figures["captions"][dataset] if dataset == "coco" else figures[dataset])
        moved = manifest.moved(temporary, paths.DATASETS_DIR)
        write_parts(temporary, moved, [segmentation.dataset])
    write_named(download, moved)
    for name in own.left_out:
        forget_fetched(name)
    _list_left_out(run, own.left_out)
    run.metrics(figures)
    run.artifact(paths.DATASETS_MANIFEST)


def _list_left_out(run: StageRun, left_out: dict[str, list[LeftOut]]) -> None:
    path = run.output_dir / "left_out.csv"
    path.unlink(missing_ok=True)
    rows = [(name, one.where, one.image, one.reason) for name, ones in left_out.items() for one in ones]
    if not rows:
        return
    print(f"{len(rows)} images could not be got and are left out; see {path}", flush=True)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("dataset", "where", "image", "reason"))
    table.writerows(rows)
    write_text(path, text.getvalue())
    run.artifact(path)


if __name__ == "__main__":
    run_stage("datasets", SECTIONS, main)
