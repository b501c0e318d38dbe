"""The data of a run: drawn, unpacked from archives, or used where they lie; then verified and counted."""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from components import params
from components.core import machine, paths
from components.core.datasets import BENCHMARK_DATASETS, DATASETS
from components.sources.download.unpack import require_counts, unpack_dataset
from components.sources.drawn_world import draw_world
from components.sources.folders import Figures, OwnReading, verify_folders
from components.sources.manifest import Manifest, stored_path, write_parts
from components.sources.readers.own.image_places import LeftOut
from components.sources.readers.own.sample import OwnSettings
from components.sources.readers.types import DatasetFolders


def fill_datasets(
    download: params.Download, target: Path, *, skip_unreadable: bool, segmented: str
) -> tuple[Manifest, Figures, dict[str, list[LeftOut]]]:
    """Fill ``target``, which becomes data/datasets, and count what is in it.

    Args:
        skip_unreadable: leave out images of one's own that cannot be got, rather than to refuse.
        segmented: the captioned dataset whose objects become a part of the manifest.

    Returns:
        The manifest as it will be, the counts by dataset and split, and what was left out by dataset.

    Raises:
        InputError: data are missing, broken or inconsistent, or not all of a published dataset is there.
    """
    folders = SOURCES[download.source](download, target)
    own = OwnReading(
        settings=OwnSettings(**download.own_data.model_dump()),
        folder=target / paths.dataset_part("captions").parent.name,
        skip_unreadable=skip_unreadable,
    )
    manifest, figures = verify_folders(folders, download.source, own, download.published)
    for dataset in download.published:
        require_counts(dataset, (figures["captions"] if DATASETS[dataset].captioned else figures)[dataset])
    moved = manifest.moved(target, paths.DATASETS_DIR)
    write_parts(target, moved, segmented)
    return moved, figures, own.left_out


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


# One function for each value of `download.source`: it fills `target`, or nothing, and names the roots of what
# the run uses.
SOURCES: dict[str, Callable[[params.Download, Path], DatasetFolders]] = {
    "drawn_world": draw,
    "published": use_published,
    "folders": use_folders,
}
