"""Stage ``classification``: classifiers trained on one backbone, for one of two benchmarks."""

from typing import Any

from components import params
from components.benchmarks.classification.imagenet_linear import probe
from components.benchmarks.classification.inaturalist import finetune
from components.benchmarks.classification.results import PICTURE, TABLES, write_outcome
from components.benchmarks.shared.files import record_nothing
from components.benchmarks.shared.per_image import FILE
from components.benchmarks.shared.protocols import beside_figures
from components.core import paths
from components.core.errors import InputError
from components.core.files import sha256
from components.dataset_titles import title_here
from components.entry import run_stage
from components.models.backbones import load_backbone
from components.sources.manifest import read_manifest
from components.sources.readers.imagenet import read_imagenet
from components.sources.readers.inaturalist import read_inaturalist
from components.tracking import StageRun, used_splits
from components.training.distributed import current

SECTIONS: dict[str, type[params.Section]] = {
    "imagenet_linear": params.ImagenetLinear,
    "inaturalist": params.Inaturalist,
}
PROTOCOLS: dict[str, Any] = {  # title, dataset, its reader, what trains and measures
    "imagenet_linear": ("ImageNet linear", "imagenet", read_imagenet, probe),
    "inaturalist": ("iNaturalist 2018", "inaturalist", read_inaturalist, finetune),
}
CONTEXTS = {"train": "training", "val": "validation"}


def main(run: StageRun, settings: params.Classification) -> None:
    """Measure a backbone, ``run.item`` is ``BENCHMARK-BACKBONE``; empty results if the data are absent."""
    name, backbone = paths.benchmark_of(run.stage, run.item)
    assert backbone is not None
    title, dataset, read, measure = PROTOCOLS[name]
    manifest = read_manifest(paths.dataset_part(name))
    entry = manifest.benchmarks.get(dataset)
    if entry is None:
        if current().is_first:
            record_nothing(run, title, f"this run has no `{dataset}` data", TABLES, PICTURE)
        return
    run.uses(*used_splits(title_here(dataset), entry, CONTEXTS))
    root, path = manifest.root_of(dataset), paths.backbone_path(backbone)
    train, val = read(root, "train"), read(root, "val")
    if train.classes != val.classes:
        raise InputError(f"{root}: train and val list different categories; are they of the same year?")
    inputs = {"backbone": sha256(path), "images": entry.model_dump_json()}
    outcome = measure(*load_backbone(path), train, val, settings, item=backbone, inputs=inputs, log=run.log)
    if outcome is not None:  # only the first of several processes has one
        for file in write_outcome(run.output_dir, outcome):
            run.artifact(file)
        by_image = outcome.by_image()
        by_image.write(run.output_dir / FILE)
        run.artifact(run.output_dir / FILE)
        run.metrics({**outcome.figures(), **beside_figures(name, settings, by_image, outcome.chance())})
        outcome.checkpoints.remove()


if __name__ == "__main__":
    run_stage(
        "classification", SECTIONS, main, tuple(SECTIONS), paths.exported_backbones, in_several_processes=True
    )
