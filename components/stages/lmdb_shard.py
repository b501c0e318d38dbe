"""Stage ``lmdb_shard``: the training images of one shard, into an LMDB file of its own."""

import time

from components import params
from components.core import machine, paths
from components.core.process import keep_freed_memory
from components.data.build_shards import build_shard
from components.data.record import StoreForm
from components.data.shards import shard_path
from components.data.store import CaptionStore
from components.entry import run_stage
from components.sources.manifest import read_manifest
from components.sources.progress import shown_bytes
from components.tracking import StageRun

SECTIONS = (params.Lmdb,)


def main(run: StageRun, lmdb: params.Lmdb) -> None:
    """Build the shard of the number ``run.item``, unless it is up to date."""
    assert run.item is not None
    number = int(run.item)
    keep_freed_memory()
    manifest = read_manifest(paths.dataset_part("captions"))
    labels = read_manifest(paths.dataset_part("images")).object_labels_of("train")
    start = time.perf_counter()
    report = build_shard(
        paths.lmdb_path("train"),
        labels.added_to(manifest.captions_of("train")),
        number,
        len(lmdb.shards),
        StoreForm.of(lmdb, labels.categories),
        num_workers=machine.num_cpus(),
        progress=True,
    )
    seconds = time.perf_counter() - start
    skipped_path = run.output_dir / "skipped.csv"
    if report is not None and report.write_skipped(skipped_path):
        run.artifact(skipped_path)
    path = shard_path(paths.lmdb_path("train"), number)
    kept, size = CaptionStore(path).metadata, path.stat().st_size
    print(
        f"{path}: {kept.count:,} images, {kept.captions:,} captions, {shown_bytes(size)}; "
        f"{'up to date' if report is None else 'written'}",
        flush=True,
    )
    run.metrics(
        {
            "images": kept.count,
            "captions": kept.captions,
            "skipped": kept.skipped,
            "image_bytes": kept.image_bytes,
            "file_bytes": size,
            "written": report is not None,
            "seconds": round(seconds, 3),
        }
    )


def _numbers() -> list[str]:
    return [str(number) for number in params.read_section(params.Lmdb).shards]


if __name__ == "__main__":
    run_stage("lmdb_shard", SECTIONS, main, _numbers)
