"""What the active parameters ask of a machine."""

from collections.abc import Iterator
from pathlib import Path

from components import machine, params, paths
from components.doctor.finding import Sections
from components.params import Classification
from components.sources.fetch.dataset import disk_needs

Need = tuple[Path, int, str]  # folder, bytes, what
BYTES_A_PIXEL = 0.5  # of an image file: the drawn world's and COCO's, measured
STATES = 3  # of a resume checkpoint: weights, momentum, Lookahead's slow weights; each as large as the model
PREFETCHED = 2  # batches a worker keeps ready, torch's default
_FLOAT = 4  # bytes


def needs_gpu(sections: Sections) -> list[str]:
    """The keys of params.yaml that only a GPU can serve, with their values."""
    pretrain = sections["pretrain"]
    assert isinstance(pretrain, params.Pretrain)
    keys = ["pretrain.sync_batch_norm: true"] if pretrain.sync_batch_norm else []
    keys += ["pretrain.precision: fp16"] if pretrain.precision == "fp16" else []
    probe = sections["imagenet_linear"]
    assert isinstance(probe, params.ImagenetLinear)
    return keys + (["imagenet_linear.precision: fp16"] if probe.precision == "fp16" else [])


def detectron2_sections(sections: Sections) -> list[str]:
    """The detection benchmarks that are to run with detectron2."""
    benchmarks = sections["benchmarks"]
    assert isinstance(benchmarks, params.Benchmarks)
    if not benchmarks.detection_backbones:
        return []
    return [
        name
        for name, section in sections.items()
        if isinstance(section, params.Detection) and section.engine == "detectron2"
    ]


def disk(sections: Sections) -> list[Need]:
    """Bytes that a run of all stages writes, where it has not done so yet; the last ones are estimates.

    Raises:
        InputError: for an unknown backbone.
    """
    download, lmdb = sections["download"], sections["lmdb"]
    assert isinstance(download, params.Download)
    assert isinstance(lmdb, params.Lmdb)
    needs: list[Need] = [need for name in download.published for need in disk_needs(name)]
    if download.source == "drawn_world":
        images, size = _drawn_images(download.drawn_world), download.drawn_world.image_size
        needs.append((paths.DATASETS_DIR, round(images * BYTES_A_PIXEL * size**2), "the drawn world"))
    needs.append((paths.LMDB_DIR, _lmdb_bytes(download, lmdb), "LMDB"))
    pretrain = sections["pretrain"]
    assert isinstance(pretrain, params.Pretrain)
    weights = model_bytes(sections)
    checkpoints = pretrain.keep_checkpoints * STATES * weights
    kept = (
        pretrain.keep_candidates + 1
    ) * weights + 2 * weights  # candidates; select's model and the backbone
    needs.append((paths.SCRATCH_DIR, checkpoints, "resume checkpoints"))
    needs.append((paths.OUTPUTS_DIR, kept, "models"))
    needs.append((Path("mlartifacts"), 2 * weights, "MLflow's models"))
    return [need for need in needs if need[1]]


def model_bytes(sections: Sections) -> int:
    """Size of the model's weights, without making them.

    Raises:
        InputError: for an unknown backbone.
    """
    backbone, head, objective, tokenize = (
        sections[name] for name in ("backbone", "textual_head", "objective", "tokenize")
    )
    assert isinstance(tokenize, params.Tokenize)
    import torch  # here: a torch that does not work is a finding and not the end

    from components.objectives.build import ModelConfig, build_objective

    with torch.device("meta"):
        model = build_objective(
            ModelConfig.model_validate(
                {
                    "backbone": backbone,
                    "textual_head": head,
                    "objective": objective,
                    "vocab_size": tokenize.vocab_size,
                }
            )
        )
    tensors = (*model.parameters(), *model.buffers())  # each once, also where modules share it
    return sum(value.numel() * value.element_size() for value in tensors)


def shared_memory_bytes(sections: Sections) -> int:
    """What the batches that loader workers keep ready take in /dev/shm, in the stage that needs most."""
    pretrain, augmentation = sections["pretrain"], sections["augmentation"]
    assert isinstance(pretrain, params.Pretrain)
    assert isinstance(augmentation, params.Augmentation)
    batches = [(pretrain.batch_size // pretrain.accumulate, augmentation.crop_size)]
    batches += [(s.batch_size, s.crop_size) for s in sections.values() if isinstance(s, Classification)]
    return machine.num_cpus() * PREFETCHED * max(3 * size**2 * images * _FLOAT for images, size in batches)


def folders(sections: Sections) -> Iterator[tuple[str, Path]]:
    """The keys of download.folders that are set, and the folders or files they name."""
    download = sections["download"]
    assert isinstance(download, params.Download)
    if download.source == "drawn_world":
        return
    for key, value in download.folders:
        if isinstance(value, str):
            yield f"download.folders.{key}", Path(value)
        elif isinstance(value, dict):
            for name, folder in value.items():
                yield f"download.folders.{key}.{name}", Path(folder)


def _drawn_images(world: params.DrawnWorld) -> int:
    captioned = world.train_images + world.val_images
    return 2 * (
        captioned + world.voc_trainval_images + world.voc_test_images
    )  # as many in the other datasets


def _lmdb_bytes(download: params.Download, lmdb: params.Lmdb) -> int:
    """Of the images of datasets whose sizes are known; 0 for folders, which nobody has counted yet."""
    if download.source == "drawn_world":
        world = download.drawn_world
        images, own_bytes = world.train_images + world.val_images, BYTES_A_PIXEL * world.image_size**2
    elif "coco" in download.published:
        images, own_bytes = 123_287, BYTES_A_PIXEL * 640 * 480
    else:
        return 0
    if lmdb.short_side is not None:
        own_bytes = min(own_bytes, BYTES_A_PIXEL * lmdb.short_side**2 * 4 / 3)
    return round(images * own_bytes)
