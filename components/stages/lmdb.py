"""Stage ``lmdb``: one split's captioned images, with their object labels, into one LMDB file.

Or, of training images in shards, what joins those (components.data.shards); see stage ``lmdb_shard``.
"""

import time

from components import params
from components.core import machine, paths
from components.core.process import keep_freed_memory
from components.data.build import build_store
from components.data.build_shards import build_head
from components.data.record import StoreForm
from components.entry import run_stage
from components.sources.manifest import read_manifest
from components.tracking import StageRun

SECTIONS = (params.Lmdb, params.Stream)
ITEMS = ("train", "val")


def main(run: StageRun, lmdb: params.Lmdb, stream: params.Stream) -> None:
    """Build the store of the split ``run.item``."""
    assert run.item in ITEMS
    keep_freed_memory()
    manifest = read_manifest(paths.dataset_part("captions"))
    labels = read_manifest(paths.dataset_part("images")).object_labels_of(run.item)
    images = labels.added_to(manifest.captions_of(run.item))
    path = paths.lmdb_path(run.item)
    is_train = run.item == "train"
    form = StoreForm.of(lmdb, labels.categories, in_tars=stream.train and is_train)
    start = time.perf_counter()
    if is_train and lmdb.shards:
        build_head(path, images, len(lmdb.shards), form)
        figures: dict[str, float] = {
            "images": len(images),  # those that turn out to be unreadable included
            "captions": sum(len(image.captions) for image in images),
            "labelled": sum(bool(image.labels) for image in images),
            "shards": len(lmdb.shards),
            "file_bytes": path.stat().st_size,
        }
    else:
        report = build_store(path, images, form, num_workers=machine.num_cpus(), progress=True)
        figures = report.figures(time.perf_counter() - start)
        skipped_path = run.output_dir / "skipped.csv"
        if report.write_skipped(skipped_path):
            run.artifact(skipped_path)
    run.metrics({**figures, "categories": len(labels.categories)})


if __name__ == "__main__":
    run_stage("lmdb", SECTIONS, main, ITEMS)
