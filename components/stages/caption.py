"""Stage ``caption``: beam-search captions of the validation images, their scores, a page, a picture."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image

from components import params
from components.benchmarks.captioning.benchmark import WrittenCaption, caption_images, images_of_dataset
from components.benchmarks.captioning.metrics import CaptionScores, score_captions
from components.captioning.captioner import Captioner
from components.captioning.samples import CAPTIONED_IMAGES, draw_texts, spread
from components.core import machine, paths
from components.core.errors import InputError
from components.core.files import write_json, write_text, writing
from components.data.image import Pixels, decode
from components.data.store import CaptionStore
from components.data.transforms import EvalTransform
from components.dataset_titles import title_here
from components.entry import run_stage
from components.objectives.build import ModelConfig
from components.objectives.captioning import CaptioningObjective
from components.objectives.saved import load_captioner, load_preprocessing
from components.report.captions_page import CaptionedPicture, captions_page, choose_examples
from components.text.tokenizer import CaptionTokenizer
from components.tracking import StageRun

SECTIONS = (params.Caption,)
HEADLINES = ("CIDEr-D", "SPICE", "METEOR", "BLEU-4", "ROUGE-L")


@dataclass(frozen=True, slots=True)
class ScoredCaption:
    """One entry of captions.json; ``cider`` is CIDEr-D in percent."""

    image_id: str
    caption: str
    log_probability: float
    references: tuple[str, ...]
    cider: float


def main(run: StageRun, caption: params.Caption) -> None:
    """Caption and score the images of ``caption.dataset`` in the validation store."""
    objective, config = load_captioner(paths.CAPTIONER, machine.device_name())
    if not isinstance(objective, CaptioningObjective):
        _write_nothing(run, config)
        return
    store = CaptionStore(paths.lmdb_path("val"))
    indices = images_of_dataset(store, caption.dataset, caption.max_images)
    written = caption_images(
        _captioner(objective, caption),
        store,
        indices,
        beam_size=caption.beam_size,
        batch_size=caption.batch_size,
        num_workers=machine.num_cpus(),
    )
    references = {record.image_id: record.captions for record in map(store.get, indices)}
    scores = score_captions(references, {entry.image_id: entry.caption for entry in written})
    captions = _scored(written, references, scores)
    data = title_here(caption.dataset)
    title = f"Captions of {data}, by {config.objective.name} on {config.backbone.name}"
    headlines = {name: scores.corpus[name] for name in HEADLINES if name in scores.corpus}
    page = captions_page(
        title,
        headlines,
        [entry.cider for entry in captions],
        _examples(store, indices, captions, caption.gallery_images),
    )
    _write(run, captions, page, _picture(store, indices, captions))
    lengths = [len(entry.caption.split()) for entry in captions]
    run.metrics(
        {
            **scores.corpus,
            "images": len(captions),
            "dataset": caption.dataset,
            "distinct_captions": len({entry.caption for entry in captions}),
            "mean_words": sum(lengths) / len(lengths),
            "mean_log_probability": sum(entry.log_probability for entry in captions) / len(captions),
            **({"not_run": scores.not_run} if scores.not_run else {}),
        }
    )
    figures = ", ".join(f"{name} {value:.1f}" for name, value in headlines.items())
    print(f"{len(captions)} images of {data}: {figures}", flush=True)
    for name, reason in scores.not_run.items():
        print(f"Without {name}: {reason}", flush=True)


def _captioner(objective: CaptioningObjective, caption: params.Caption) -> Captioner:
    """Build a captioner with its own file's tokenizer, which must be this run's, and crop size."""
    preprocessing = load_preprocessing(paths.CAPTIONER)
    if preprocessing is None or preprocessing.tokenizer_model != paths.TOKENIZER_MODEL.read_bytes():
        raise InputError(
            f"{paths.CAPTIONER} was trained with another tokenizer than {paths.TOKENIZER_MODEL}; "
            "run the pretrain stage again"
        )
    tokenizer = CaptionTokenizer(paths.CAPTIONER, preprocessing.tokenizer_model)
    crop_size = preprocessing.crop_size
    transform = EvalTransform(caption.image_size or crop_size, crop_size, caption.antialias)
    return Captioner(objective, tokenizer, transform, machine.device_name())


def _scored(
    written: Sequence[WrittenCaption], references: dict[str, tuple[str, ...]], scores: CaptionScores
) -> list[ScoredCaption]:
    return [
        ScoredCaption(
            entry.image_id,
            entry.caption,
            entry.log_probability,
            references[entry.image_id],
            scores.images[entry.image_id]["CIDEr-D"],
        )
        for entry in written
    ]


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


def _picture(store: CaptionStore, indices: Sequence[int], captions: Sequence[ScoredCaption]) -> Pixels:
    """Draw the same images in each run, whatever their scores, so that DVC's plots compare two runs."""
    chosen = spread(len(captions), CAPTIONED_IMAGES)
    texts = [f"{captions[index].caption}\n({captions[index].references[0]})" for index in chosen]
    return draw_texts([decode(store.get(indices[index]).image) for index in chosen], texts)


def _write_nothing(run: StageRun, config: ModelConfig) -> None:
    """Write empty results: a model of another objective writes no captions, and the run continues."""
    reason = f"the objective {config.objective.name} writes no captions"
    blank = np.full((1, 1, 3), 255, np.uint8)
    _write(run, [], captions_page(f"No captions: {reason}", {}, [], {}), draw_texts([blank], [reason]))
    run.metrics({"images": 0, "not_run": reason})
    print(f"Nothing to score: {reason}", flush=True)


def _write(run: StageRun, captions: Sequence[ScoredCaption], page: str, picture: Pixels) -> None:
    entries: list[dict[str, Any]] = [asdict(entry) for entry in captions]
    write_json(run.output_dir / "captions.json", entries)
    write_text(run.output_dir / "index.html", page)
    with writing(run.output_dir / "captions.png") as temporary:
        Image.fromarray(picture).save(temporary, format="png")
    for name in ("captions.json", "index.html", "captions.png"):
        run.artifact(run.output_dir / name)


if __name__ == "__main__":
    run_stage("caption", SECTIONS, main)
