"""Stage ``caption``: beam-search captions of the validation images, their scores, a page, a picture."""

from collections.abc import Sequence
from dataclasses import asdict

from components import params
from components.benchmarks.captioning.protocol import (
    FEW_CAPTIONS,
    ScoredCaption,
    build_captioner,
    images_of_dataset,
    measure,
)
from components.benchmarks.captioning.results import picture_of_some, record, record_nothing
from components.benchmarks.shared.protocols import beside_figures
from components.core import machine, paths
from components.data.image import decode
from components.data.store import CaptionStore, identify
from components.dataset_titles import title_here
from components.entry import run_stage
from components.objectives.captioning import CaptioningObjective
from components.objectives.saved import load_captioner
from components.report.html import CaptionedPicture, captions_page, choose_examples
from components.tracking import StageRun, UsedDataset

SECTIONS = (params.Caption,)


def main(run: StageRun, caption: params.Caption) -> None:
    """Caption and score the images of ``caption.dataset`` in the validation store."""
    objective, config = load_captioner(paths.CAPTIONER, machine.device_name())
    if not isinstance(objective, CaptioningObjective):
        reason = f"the objective {config.objective.name} writes no captions"
        record_nothing(run, reason, captions_page(f"No captions: {reason}", {}, [], {}))
        return
    store = CaptionStore(paths.lmdb_path("val"))
    indices = images_of_dataset(store, caption.dataset, caption.max_images)
    data = title_here(caption.dataset)
    run.uses(_used(store, f"{data} val", len(indices)))
    captioner = build_captioner(
        paths.CAPTIONER, objective, caption, paths.TOKENIZER_MODEL, machine.device_name()
    )
    measured = measure(captioner, store, indices, caption, machine.num_cpus())
    captions, headlines = measured.captions, measured.headlines
    page = captions_page(
        f"Captions of {data}, by {config.objective.name} on {config.backbone.name}",
        headlines,
        [entry.cider for entry in captions],
        _examples(store, indices, captions, caption.gallery_images),
    )
    by_image = measured.by_image()
    record(run, captions, by_image, page, picture_of_some(store, indices, captions))
    about = beside_figures("caption", caption, by_image, chance={})
    run.metrics({**measured.figures(), **about, "dataset": caption.dataset})
    figures = ", ".join(f"{name} {value:.1f}" for name, value in headlines.items())
    print(f"{len(captions)} images of {data}: {figures}", flush=True)
    text, share = measured.most_frequent
    if share > FEW_CAPTIONS:
        print(f"Warning: {share:.0f} % of the images get the same caption, {text!r}", flush=True)
    for name, reason in measured.scores.not_run.items():
        print(f"Without {name}: {reason}", flush=True)


def _used(store: CaptionStore, name: str, num_images: int) -> UsedDataset:
    """Describe the store to MLflow as pretraining does, which validates on it."""
    digest = identify(store).digest
    return UsedDataset(name, digest, "validation", store.path.as_posix(), {"images": num_images})


def _examples(
    store: CaptionStore, indices: Sequence[int], captions: Sequence[ScoredCaption], num_examples: int
) -> dict[str, list[CaptionedPicture]]:
    ranking = choose_examples([entry.cider for entry in captions], num_examples)

    def pictures(chosen: Sequence[int]) -> list[CaptionedPicture]:
        return [
            CaptionedPicture(pixels=decode(store.get(indices[index]).image), **asdict(captions[index]))
            for index in chosen
        ]

    return {
        "Best: the highest scores": pictures(ranking.best),
        "Typical: around the median": pictures(ranking.typical),
        "Worst: the lowest scores": pictures(ranking.worst),
    }


if __name__ == "__main__":
    run_stage("caption", SECTIONS, main)
