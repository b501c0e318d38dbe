"""Stage ``datasets``: the data that params.yaml names, on this disk and verified, and their manifest."""

from components import params
from components.core import paths
from components.core.files import write_csv, writing
from components.entry import run_stage
from components.sources.fingerprint import write_named
from components.sources.origins import fill_datasets
from components.sources.readers.own.image_places import LeftOut, forget_fetched
from components.tracking import StageRun

SECTIONS = (params.Download, params.Lmdb, params.CocoSegmentation)


def main(
    run: StageRun, download: params.Download, lmdb: params.Lmdb, segmentation: params.CocoSegmentation
) -> None:
    """Fill data/datasets, whole or not at all, and count what is in it."""
    skip = lmdb.on_unreadable == "skip"
    with writing(paths.DATASETS_DIR) as temporary:
        temporary.mkdir()
        manifest, figures, left_out = fill_datasets(
            download, temporary, skip_unreadable=skip, segmented=segmentation.dataset
        )
    write_named(download, manifest)
    for name in left_out:
        forget_fetched(name)
    _list_left_out(run, left_out)
    run.metrics(figures)
    run.artifact(paths.DATASETS_MANIFEST)


def _list_left_out(run: StageRun, left_out: dict[str, list[LeftOut]]) -> None:
    path = run.output_dir / "left_out.csv"
    path.unlink(missing_ok=True)
    rows = [(name, one.where, one.image, one.reason) for name, ones in left_out.items() for one in ones]
    if rows:
        print(f"{len(rows)} images could not be got and are left out; see {path}", flush=True)
        write_csv(path, ("dataset", "where", "image", "reason"), rows)
        run.artifact(path)


if __name__ == "__main__":
    run_stage("datasets", SECTIONS, main)
