"""The captioning benchmark (paper, section 4.4): the pretrained model captions images and is scored.

Nothing is trained. Images: the validation images of one dataset, shorter side to 256 pixels, centre crop of
224 in the paper; the section `caption` and the captioner's file say which here. Decoding: beam search with
5 beams, up to the longest caption of pretraining (30 tokens), no token twice in a row; or, where
`caption.nucleus` says so, nucleus sampling with a fixed seed. Captions and references are split into words by
the Penn Treebank tokenizer, in lower case, without punctuation.

Measured: CIDEr-D and SPICE, the paper's figures, and METEOR, ROUGE-L and BLEU, all times 100; see
components.benchmarks.captioning.metrics. Beside them stands how many different captions there are: a model
that writes the same sentence for every image has a score too.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.data import Subset
from tqdm import tqdm

from components import params
from components.benchmarks.captioning.metrics import score_captions
from components.benchmarks.captioning.results import Measured, ScoredCaption, WrittenCaption
from components.captioning.captioner import Caption, Captioner, Model
from components.core.errors import InputError
from components.core.memory import batch_bytes, require_memory
from components.data.batch import collate_images
from components.data.dataset import ImageDataset
from components.data.loader import in_order_loader
from components.data.store import CaptionStore
from components.data.transforms import EvalTransform
from components.objectives.captioning import CaptioningObjective
from components.objectives.contrastive import ContrastiveObjective
from components.objectives.saved import load_preprocessing
from components.text.tokenizer import CaptionTokenizer

ModelT = TypeVar("ModelT", bound=Model)
Decode = Callable[[Tensor], list[list[Caption]]]  # images to the captions of each


def measure(
    captioner: Captioner,
    store: CaptionStore,
    indices: Sequence[int],
    caption: params.Caption,
    num_workers: int,
) -> Measured:
    """Caption the records ``indices`` and score the captions against those that people wrote.

    Args:
        captioner: the model, see `build_model`.
        store: where images and references are.
        indices: of the records, see `images_of_dataset`.
        caption: the section of params.yaml.
        num_workers: processes that decode images; 0 decodes in this one.

    Raises:
        InputError: if an image cannot be decoded, the beam is too wide for the vocabulary, or captions cannot
            be scored on this machine.
    """
    batch, size = min(caption.batch_size, len(indices)), captioner.transform.crop_size
    keys = f"a batch (caption.batch_size {batch}, images of {size} pixels)"
    require_memory(str(captioner.device), {keys: batch_bytes(batch, size)})
    written = caption_images(
        captioner,
        store,
        indices,
        decode=decoder(captioner, caption),
        batch_size=caption.batch_size,
        num_workers=num_workers,
    )
    references = {record.image_id: record.captions for record in map(store.get, indices)}
    scores = score_captions(references, {entry.image_id: entry.caption for entry in written})
    captions = [
        ScoredCaption(
            **asdict(entry),
            references=references[entry.image_id],
            cider=scores.images[entry.image_id]["CIDEr-D"],
        )
        for entry in written
    ]
    return Measured(captions, scores)


def build_model(
    kind: type[ModelT],
    path: Path,
    objective: CaptioningObjective | ContrastiveObjective,
    caption: params.Caption,
    tokenizer_path: Path,
    device: str,
) -> ModelT:
    """Build a model with its own file's crop size and tokenizer, which must be this run's.

    Args:
        kind: what to build: a captioner, or any model of images and captions.
        path: the model's file.
        objective: the model in it.
        caption: the section of params.yaml.
        tokenizer_path: of this run's tokenizer.
        device: to compute on.

    Raises:
        InputError: the file has another tokenizer.
    """
    preprocessing = load_preprocessing(path)
    if preprocessing is None or preprocessing.tokenizer_model != tokenizer_path.read_bytes():
        raise InputError(
            f"{path} was trained with another tokenizer than {tokenizer_path}; run the pretrain stage again"
        )
    tokenizer = CaptionTokenizer(path, preprocessing.tokenizer_model)
    crop_size = preprocessing.crop_size
    transform = EvalTransform(caption.image_size or crop_size, crop_size, caption.antialias)
    return kind(objective, tokenizer, transform, device)


def images_of_dataset(store: CaptionStore, dataset: str, max_images: int | None = None) -> list[int]:
    """Return the indices of the first ``max_images`` records of ``dataset``, or of all.

    Raises:
        InputError: if the store has no image of the dataset; names those it has.
    """
    indices: list[int] = []
    seen: set[str] = set()
    for index, record in enumerate(store):
        seen.add(record.dataset)
        if record.dataset == dataset:
            indices.append(index)
            if len(indices) == max_images:
                break
    if not indices:
        raise InputError(
            f"caption.dataset: {store.path} has no images of {dataset!r}; "
            f"expected one of {', '.join(sorted(seen)) or 'none, it is empty'}"
        )
    return indices


def decoder(captioner: Captioner, caption: params.Caption) -> Decode:
    """Return what captions a batch: beam search, or nucleus sampling with a fixed seed."""
    if caption.nucleus is None:
        return partial(captioner.search, beam_size=caption.beam_size)
    generator = torch.Generator(captioner.device).manual_seed(0)
    return partial(captioner.sample, nucleus=caption.nucleus, num_captions=1, generator=generator)


def caption_images(
    captioner: Captioner,
    store: CaptionStore,
    indices: Sequence[int],
    *,
    decode: Decode,
    batch_size: int,
    num_workers: int,
) -> list[WrittenCaption]:
    """Write captions of the records ``indices``, in that order, with a progress bar.

    Args:
        captioner: the model.
        store: where the images are.
        indices: of the records.
        decode: as `decoder` returns it.
        batch_size: images at once.
        num_workers: processes that decode images; 0 decodes in this one.

    Raises:
        InputError: if an image cannot be decoded or the beam is too wide for the vocabulary.
    """
    dataset = Subset(ImageDataset(store, captioner.transform), indices)
    loader = in_order_loader(dataset, collate_images, batch_size=batch_size, num_workers=num_workers)
    captions: list[WrittenCaption] = []
    with tqdm(total=len(indices), desc="captions", unit="image") as bar:
        for batch in loader:
            found = decode(batch["image"])
            captions += [
                WrittenCaption(image_id, best.text, best.log_probability)
                for image_id, (best,) in zip(batch["image_id"], found, strict=True)
            ]
            bar.update(len(found))
    return captions
