"""Stage ``voc07``: linear SVMs on the frozen features of one backbone."""

from components import params
from components.benchmarks.shared.files import record_nothing
from components.benchmarks.shared.per_image import FILE
from components.benchmarks.shared.protocols import beside_figures
from components.benchmarks.shared.resampled_precision import prevalence
from components.benchmarks.voc07.protocol import Voc07Benchmark
from components.benchmarks.voc07.results import PICTURE, TABLES, read_measured, write_files
from components.core import paths
from components.dataset_titles import title_here
from components.entry import run_stage
from components.models.backbones import load_backbone
from components.sources.manifest import read_manifest
from components.tracking import StageRun, used_splits

CONTEXTS = {"trainval": "training", "test": "test"}  # of VOC2007's splits
SECTIONS = (params.Voc07,)


def main(run: StageRun, voc07: params.Voc07) -> None:
    """Benchmark the backbone ``run.item``; empty results if this run has no VOC2007."""
    assert run.item is not None
    entry = read_manifest(paths.dataset_part("voc07")).benchmarks.get("voc2007")
    if entry is None:
        record_nothing(run, "VOC07", "this run has no `voc2007` data", TABLES, PICTURE)
        return
    benchmark = Voc07Benchmark(voc07)
    run.uses(*used_splits(title_here("voc2007"), entry, CONTEXTS))
    backbone, metadata = load_backbone(paths.backbone_path(run.item))
    measured = None
    if run.item == params.PRETRAINED:
        measured = read_measured(paths.CHOSEN_VOC07, benchmark.key(backbone))
    if measured:
        print("VOC07 has been measured by the stage select: its results are taken", flush=True)
    measured = measured or benchmark.measure(backbone)
    title = f"VOC07 linear SVMs on {metadata['architecture']}, {run.item}"
    for path in write_files(run.output_dir, measured, title):
        run.artifact(path)
    by_image = measured.by_image(benchmark.test)
    by_image.write(run.output_dir / FILE)
    run.artifact(run.output_dir / FILE)
    figures = measured.figures()
    figures |= beside_figures("voc07", voc07, by_image, {"mAP": prevalence(benchmark.test.labels)})
    splits = {"trainval": benchmark.trainval, "test": benchmark.test}
    run.metrics(figures | {f"num_{name}": len(split.image_paths) for name, split in splits.items()})
    print(f"VOC07 mAP of {run.item}: {figures['mAP']:.2f} %", flush=True)


if __name__ == "__main__":
    run_stage("voc07", SECTIONS, main, paths.exported_backbones)
