"""Stage ``caption``: captions of the validation images, their scores, a page, a picture."""

from dataclasses import asdict

from components import params
from components.benchmarks.captioning.protocol import build_model, images_of_dataset, measure
from components.benchmarks.captioning.results import picture_of_some, record, record_nothing, tell
from components.benchmarks.shared.protocols import beside_figures
from components.captioning.captioner import Captioner
from components.core import machine, paths
from components.data.image import decode
from components.data.store import CaptionStore, identify
from components.dataset_titles import title_here
from components.entry import run_stage
from components.objectives.captioning import CaptioningObjective
from components.objectives.saved import load_captioner
from components.report.html import CaptionedPicture, captions_page, example_groups
from components.tracking import StageRun, UsedDataset

SECTIONS = (params.Caption,)


def main(run: StageRun, caption: params.Caption) -> None:
    """Caption and score the images of ``caption.dataset`` in the validation store."""
    objective, config = load_captioner(paths.CAPTIONER, machine.device_name())
    if not isinstance(objective, CaptioningObjective):
        reason = f"the objective {config.objective.name} writes no captions"
        record_nothing(run, reason, captions_page(f"No captions: {reason}", {}, "", [], {}))
        return
    store = CaptionStore(paths.lmdb_path("val"))
    indices = images_of_dataset(store, caption.dataset, caption.max_images)
    data = title_here(caption.dataset)
    images = {"images": len(indices)}
    run.uses(UsedDataset(f"{data} val", identify(store).digest, "validation", store.path.as_posix(), images))
    captioner = build_model(
        Captioner, paths.CAPTIONER, objective, caption, paths.TOKENIZER_MODEL, machine.device_name()
    )
    measured = measure(captioner, store, indices, caption, machine.num_cpus())
    captions, ciders = measured.captions, [entry.cider for entry in measured.captions]

    def picture_of(index: int) -> CaptionedPicture:
        return CaptionedPicture(pixels=decode(store.get(indices[index]).image), **asdict(captions[index]))

    page = captions_page(
        f"Captions of {data}, by {config.objective.name} on {config.backbone.name}",
        measured.headlines,
        measured.diversity,
        ciders,
        example_groups(ciders, caption.gallery_images, picture_of),
    )
    by_image = measured.by_image()
    record(run, captions, by_image, page, picture_of_some(store, indices, captions))
    about = beside_figures("caption", caption, by_image, chance={}, is_otherwise=caption.nucleus is not None)
    run.metrics({**measured.figures(), **about, "dataset": caption.dataset})
    tell(measured, data)


if __name__ == "__main__":
    run_stage("caption", SECTIONS, main)
