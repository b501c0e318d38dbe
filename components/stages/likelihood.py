"""Stage ``likelihood``: what the captioner knows, asked by how likely it thinks given texts are.

A contrastive model is asked how alike it finds texts and images.
"""

from components import params
from components.benchmarks.captioning.protocol import build_model, images_of_dataset
from components.benchmarks.probes import examples
from components.benchmarks.probes.captioner import FIGURES, retrieval, zero_shot
from components.benchmarks.probes.result import Probed, record
from components.captioning.captioner import Model
from components.core import machine, paths
from components.data.store import CaptionStore
from components.dataset_titles import title_here
from components.entry import run_stage
from components.objectives.captioning import CaptioningObjective
from components.objectives.contrastive import ContrastiveObjective
from components.objectives.saved import load_captioner
from components.sources.manifest import read_manifest
from components.sources.readers.voc import read_voc07
from components.tracking import StageRun, used_splits

SECTIONS = (params.Probes, params.Caption)


def main(run: StageRun, probes: params.Probes, caption: params.Caption) -> None:
    """Measure those probes of ``probes.which`` that need a model of captions; none if it is not one."""
    objective, config = load_captioner(paths.CAPTIONER, machine.device_name())
    which = [name for name in ("zero_shot", "retrieval") if name in probes.which]
    measured: list[tuple[Probed, examples.Examples]] = []
    contrasts = isinstance(objective, ContrastiveObjective)
    reason = "`probes.which` names none that need a captioner"
    if which and not isinstance(objective, CaptioningObjective | ContrastiveObjective):
        reason = (
            f"the objective {config.objective.name} neither writes captions nor compares them with images"
        )
    elif which:
        assert isinstance(objective, CaptioningObjective | ContrastiveObjective)
        model = build_model(
            Model, paths.CAPTIONER, objective, caption, paths.TOKENIZER_MODEL, machine.device_name()
        )
        measured = _measure(run, model, probes, caption)
        reason = "this run has no `voc2007` data"
    protocol = "similarity" if contrasts else "likelihood"
    expected = [figure for figure in FIGURES if not (contrasts and figure == "zero_shot.mAP_mean")]
    picture = run.output_dir / examples.FILE
    examples.draw(picture, [some for _, some in measured], reason)
    run.artifact(picture)
    probed = [found for found, _ in measured]
    record(run, "probes of the captioner", probed, protocol, probes, expected, reason)


def _measure(
    run: StageRun, model: Model, probes: params.Probes, caption: params.Caption
) -> list[tuple[Probed, examples.Examples]]:
    measured = []
    manifest = read_manifest(paths.dataset_part("voc07"))
    if "zero_shot" in probes.which and "voc2007" in manifest.benchmarks:
        run.uses(*used_splits(title_here("voc2007"), manifest.benchmarks["voc2007"], {"test": "test"}))
        test = read_voc07(manifest.root_of("voc2007"), "test")
        measured.append(zero_shot(model, test, probes.prompt, caption.batch_size))
    if "retrieval" in probes.which:
        store = CaptionStore(paths.lmdb_path("val"))
        indices = images_of_dataset(store, caption.dataset, probes.retrieval_images)
        measured.append(retrieval(model, store, indices, caption.batch_size))
    return measured


if __name__ == "__main__":
    run_stage("likelihood", SECTIONS, main)
