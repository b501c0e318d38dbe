"""Stage ``likelihood``: what the captioner knows, asked by how likely it thinks given texts are."""

from components import params
from components.benchmarks.captioning.protocol import build_captioner, images_of_dataset
from components.benchmarks.probes.captioner import FIGURES, retrieval, zero_shot
from components.benchmarks.probes.result import Probed, record
from components.captioning.captioner import Captioner
from components.core import machine, paths
from components.data.store import CaptionStore
from components.dataset_titles import title_here
from components.entry import run_stage
from components.objectives.captioning import CaptioningObjective
from components.objectives.saved import load_captioner
from components.sources.manifest import read_manifest
from components.sources.readers.voc import read_voc07
from components.tracking import StageRun, used_splits

SECTIONS = (params.Probes, params.Caption)


def main(run: StageRun, probes: params.Probes, caption: params.Caption) -> None:
    """Measure those probes of ``probes.which`` that need a captioner; none if the model is not one."""
    objective, config = load_captioner(paths.CAPTIONER, machine.device_name())
    which = [name for name in ("zero_shot", "retrieval") if name in probes.which]
    probed: list[Probed] = []
    reason = "`probes.which` names none that need a captioner"
    if which and not isinstance(objective, CaptioningObjective):
        reason = f"the objective {config.objective.name} writes no captions"
    elif which:
        assert isinstance(objective, CaptioningObjective)
        captioner = build_captioner(
            paths.CAPTIONER, objective, caption, paths.TOKENIZER_MODEL, machine.device_name()
        )
        probed = _measure(run, captioner, probes, caption)
        reason = "this run has no `voc2007` data"
    record(run, "probes of the captioner", probed, "likelihood", probes, FIGURES, reason)


def _measure(
    run: StageRun, captioner: Captioner, probes: params.Probes, caption: params.Caption
) -> list[Probed]:
    probed = []
    manifest = read_manifest(paths.dataset_part("voc07"))
    if "zero_shot" in probes.which and "voc2007" in manifest.benchmarks:
        run.uses(*used_splits(title_here("voc2007"), manifest.benchmarks["voc2007"], {"test": "test"}))
        test = read_voc07(manifest.root_of("voc2007"), "test")
        probed.append(zero_shot(captioner, test, probes.prompt, caption.batch_size))
    if "retrieval" in probes.which:
        store = CaptionStore(paths.lmdb_path("val"))
        indices = images_of_dataset(store, caption.dataset, probes.retrieval_images)
        probed.append(retrieval(captioner, store, indices, caption.batch_size))
    return probed


if __name__ == "__main__":
    run_stage("likelihood", SECTIONS, main)
