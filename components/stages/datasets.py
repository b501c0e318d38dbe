"""Stage ``datasets``: the data that params.yaml names, on this disk and verified, and their manifest."""

import csv
import io
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from components import params
from components.core import machine, paths
from components.core.datasets import BENCHMARK_DATASETS, DATASETS
from components.core.files import write_text, writing
from components.entry import run_stage
from components.sources.download.unpack import require_counts, unpack_dataset
from components.sources.drawn_world import draw_world
from components.sources.fingerprint import write_named
from components.sources.folders import OwnReading, verify_folders
from components.sources.manifest import stored_path
from components.sources.parts import write_parts
from components.sources.readers.own.image_places import LeftOut, forget_fetched
from components.sources.readers.own.sample import OwnSettings
from components.sources.readers.types import DatasetFolders
from components.tracking import StageRun

SECTIONS = (params.Download, params.Lmdb, params.CocoSegmentation)


def draw(download: params.Download, target: Path) -> DatasetFolders:
    """Draw the world below ``target``."""
    world = download.drawn_world
    print(f"drawing {world.train_images} captioned training images and the other datasets", flush=True)
    draw_world(world, target, machine.num_cpus(), progress=sys.stderr.isatty())
    drawn = {"voc2007": target / "voc2007" / "VOCdevkit"}  # each of the others in a folder of its name
    benchmarks = {
        name: drawn.get(name, target / name) for name in BENCHMARK_DATASETS if (target / name).is_dir()
    }
    return DatasetFolders({"coco": target / "coco"}, benchmarks)


def use_folders(download: params.Download, target: Path) -> DatasetFolders:
    """Use the configured folders where they are; nothing is put below ``target``."""

    def stored(roots: Mapping[str, str]) -> dict[str, Path]:
        return {name: stored_path(Path(os.path.expanduser(root))) for name, root in roots.items()}

    return DatasetFolders(stored(download.folders.captions), stored(download.folders.benchmarks))


def use_published(download: params.Download, target: Path) -> DatasetFolders:
    """Unpack the fetched archives where they are not yet unpacked; all else is where the folders say."""
    others = use_folders(download, target)
    captions: dict[str, Path] = {}
    benchmarks = dict(others.benchmarks)
    for name in download.published:
        root = unpack_dataset(name) / DATASETS[name].root
        (captions if DATASETS[name].captioned else benchmarks)[name] = root
    return DatasetFolders({**captions, **others.captions}, benchmarks)


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
            require_counts(
                dataset, (figures["captions"] if DATASETS[dataset].captioned else figures)[dataset]
            )
        moved = manifest.moved(temporary, paths.DATASETS_DIR)
        write_parts(temporary, moved, segmentation.dataset)
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
