"""Stage ``datasets``: the data that params.yaml names, on this disk and verified, and their manifest."""

import numpy as np
from PIL import Image

from components import params
from components.core import paths
from components.core.files import write_csv, writing
from components.core.pictures import draw_texts, spread, write_picture
from components.entry import run_stage
from components.sources.fingerprint import write_named
from components.sources.manifest import read_manifest
from components.sources.origins import fill_datasets
from components.sources.readers.own.image_places import LeftOut, forget_fetched
from components.tracking import StageRun

SCENES, SHOWN_SCENES = "scenes.png", 12
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
    (run.output_dir / SCENES).unlink(missing_ok=True)
    if download.source == "drawn_world":
        _show_scenes(run)


def _show_scenes(run: StageRun) -> None:
    """Draw some of the captioned scenes with their captions: the first picture that a run has to show."""
    captioned = read_manifest(paths.dataset_part("captions")).captions_of("val")
    chosen = [captioned[index] for index in spread(len(captioned), SHOWN_SCENES)]
    pixels = [np.asarray(Image.open(one.path).convert("RGB")) for one in chosen]
    write_picture(run.output_dir / SCENES, draw_texts(pixels, [one.captions[0] for one in chosen]))
    run.artifact(run.output_dir / SCENES)
    print(f"some scenes with captions: {run.output_dir / SCENES}", flush=True)


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
