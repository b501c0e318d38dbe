"""Stage ``lmdb``: one split's captioned images, with their object labels, into one LMDB file."""

import time

from components import params
from components.core import machine, paths
from components.core.files import write_csv
from components.core.process import keep_freed_memory
from components.data.build import build_store
from components.entry import run_stage
from components.sources.manifest import read_manifest
from components.tracking import StageRun

SECTIONS = (params.Lmdb,)
ITEMS = ("train", "val")


def main(run: StageRun, lmdb: params.Lmdb) -> None:
    """Build the store of the split ``run.item``."""
    assert run.item in ITEMS
    keep_freed_memory()
    manifest = read_manifest(paths.dataset_part("captions"))
    labels = read_manifest(paths.dataset_part("images")).object_labels_of(run.item)
    start = time.perf_counter()
    report = build_store(
        paths.lmdb_path(run.item),
        labels.added_to(manifest.captions_of(run.item)),
        short_side=lmdb.short_side,
        jpeg_quality=lmdb.jpeg_quality,
        decoded=lmdb.decoded,
        on_unreadable=lmdb.on_unreadable,
        num_workers=machine.num_cpus(),
        categories=labels.categories,
        progress=True,
    )
    seconds = time.perf_counter() - start
    skipped_path = run.output_dir / "skipped.csv"
    skipped_path.unlink(missing_ok=True)
    if report.skipped:
        rows = ((image.image_id, image.dataset, image.path, image.reason) for image in report.skipped)
        write_csv(skipped_path, ("image_id", "dataset", "path", "reason"), rows)
        run.artifact(skipped_path)
    run.metrics(
        {
            "images": report.count,
            "captions": report.num_captions,
            "labelled": report.num_labelled,
            "categories": len(labels.categories),
            "resized": report.num_resized,
            "skipped": len(report.skipped),
            "image_bytes": report.image_bytes,
            "file_bytes": report.file_bytes,
            "seconds": round(seconds, 3),
            "images_per_second": round(report.count / seconds, 1),
        }
    )


if __name__ == "__main__":
    run_stage("lmdb", SECTIONS, main, ITEMS)
