"""Room for what the active parameters ask: disk, memory, shared memory, file descriptors."""

import glob
import os
import resource
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from components import params
from components.core import machine, paths
from components.core.datasets import DATASETS, GB
from components.core.errors import InputError
from components.core.memory import machine_memory
from components.doctor import Finding, Sections, attention, broken, fine, fine_unless
from components.params import section_of
from components.sources.download import dataset
from components.sources.download.archives_on_disk import existing_folder
from components.sources.fingerprint import source_paths
from components.sources.progress import shown_bytes

Need = tuple[Path, float, str]  # folder, bytes, what
BYTES_PER_PIXEL = 0.5  # of an image file: the drawn world's and COCO's, measured
PREFETCHED = 2  # batches a worker keeps ready, torch's default
FLOAT_BYTES = 4
SPARE_BYTES = 2 * GB  # beside what is counted: environments, caches of tools, pictures
DEMO_BYTES = 3.5 * GB  # the demo's largest use of memory, measured: README.md
MODEL_COPIES = 3  # in training: weights, gradients, and one for activations; the optimizer's come to them
MIN_DESCRIPTORS = 1024  # what most systems give
SHARED_MEMORY = Path("/dev/shm")


def disk(sections: Sections) -> Iterator[Finding]:
    """Yield one finding per disk."""
    try:
        wanted = disk_needs(sections) if sections else [(Path("outputs"), 0, "unknown")]
    except InputError as error:
        yield broken("disk", "what is needed cannot be told", str(error))
        return
    by_disk: dict[int, list[Need]] = defaultdict(list)
    for folder, num_bytes, what in wanted:
        by_disk[os.stat(existing_folder(folder)).st_dev].append((folder, num_bytes, what))
    for parts in by_disk.values():
        yield _one_disk(parts)


def _one_disk(parts: list[Need]) -> Finding:
    place = existing_folder(parts[0][0])
    free, needed = shutil.disk_usage(place).free, sum(num_bytes for _, num_bytes, _ in parts)
    largest = sorted(parts, key=lambda part: -part[1])[:3]
    shown = ", ".join(f"{what} {shown_bytes(num_bytes)}" for _, num_bytes, what in largest)
    found = f"{shown_bytes(free)} free at {place}; a whole run needs about {shown_bytes(needed)} ({shown})"
    advice = (
        "free some (`dvc gc --workspace` drops what no branch needs), or let `datasets` link to a larger disk"
    )
    is_tight = free < needed + SPARE_BYTES
    return fine_unless("disk", found, advice, is_broken=free < needed, is_doubtful=is_tight)


def memory(sections: Sections) -> Iterator[Finding]:
    total, available = machine_memory()
    found = f"{shown_bytes(available)} free of {shown_bytes(total)}"
    try:
        needed = DEMO_BYTES
        if sections:
            copies = MODEL_COPIES + section_of(sections, params.Optimizer).num_states
            needed += copies * weight_bytes(sections)
    except InputError:  # said of the disk
        return
    if total < needed or available < needed:
        found += f"; training needs about {shown_bytes(needed)}" + (" now" if total >= needed else "")
    advice = "end other programs, or take a smaller pretrain.batch_size or textual_head.hidden_size"
    yield fine_unless("memory", found, advice, is_doubtful=min(total, available) < needed)


def shared_memory(sections: Sections) -> Iterator[Finding]:
    if not sections:
        return
    needed = shared_memory_bytes(sections)
    try:
        status = os.statvfs(SHARED_MEMORY)
    except OSError as error:
        yield broken("shared memory", str(error), "mount a tmpfs at /dev/shm, or set VIRTEX_NUM_WORKERS=1")
        return
    free = status.f_bavail * status.f_frsize
    found = f"{shown_bytes(free)} free in {SHARED_MEMORY}; batches of loader workers take"
    advice = "containers: docker run --shm-size 8g; or fewer workers with VIRTEX_NUM_WORKERS"
    yield fine_unless("shared memory", f"{found} {shown_bytes(needed)}", advice, is_broken=free < needed)


def file_descriptors(_: Sections) -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= MIN_DESCRIPTORS:
        found = "no limit on open files" if soft == resource.RLIM_INFINITY else f"{soft} open files"
        yield fine("open files", found)
        return
    can = hard == resource.RLIM_INFINITY or hard >= MIN_DESCRIPTORS
    advice = f"ulimit -n {MIN_DESCRIPTORS}" if can else "ask for a higher limit (limits.conf, LimitNOFILE)"
    yield attention("open files", f"{soft} at most; loader workers and servers may need more", advice)


def folders(sections: Sections) -> Iterator[Finding]:
    """Look for the datasets that lie on this disk already: folders, files, or what a pattern matches."""
    named = source_paths(section_of(sections, params.Download)) if sections else {}
    absent = [
        f"download.folders.{key}: {path}"
        for key, path in named.items()
        if not path.exists() and not glob.glob(str(path))
    ]
    found = f"not there: {', '.join(absent)}" if absent else f"all {len(named)} of download.folders are there"
    if named:
        yield fine_unless("data folders", found, "correct the paths in params.yaml", is_broken=bool(absent))


def disk_needs(sections: Sections) -> list[Need]:
    """Return the bytes that a run of all stages has yet to write; the last ones are estimates.

    Raises:
        InputError: for an unknown backbone.
    """
    download, lmdb = section_of(sections, params.Download), section_of(sections, params.Lmdb)
    needs: list[Need] = [need for name in download.published for need in dataset.disk_needs(name)]
    if download.source == "drawn_world":
        images, size = _drawn_images(download.drawn_world), download.drawn_world.image_size
        needs.append((paths.DATASETS_DIR, round(images * BYTES_PER_PIXEL * size**2), "the drawn world"))
    needs.append((paths.LMDB_DIR, _lmdb_bytes(download, lmdb), "LMDB"))
    pretrain = section_of(sections, params.Pretrain)
    weights = weight_bytes(sections)
    states = 1 + section_of(sections, params.Optimizer).num_states
    checkpoints = pretrain.keep_checkpoints * states * weights
    best = 1 + 2 * pretrain.measure_candidates
    kept = (pretrain.keep_candidates + best + 2) * weights  # and select's model, the backbone
    needs.append((paths.SCRATCH_DIR, checkpoints, "resume checkpoints"))
    needs.append((paths.OUTPUTS_DIR, kept, "models"))
    needs.append((Path("mlartifacts"), 2 * weights, "MLflow's models"))
    return [need for need in needs if need[1]]


def weight_bytes(sections: Sections) -> float:
    """Return the size of the model's weights, without making them.

    Raises:
        InputError: for an unknown backbone.
    """
    # here: a torch that does not work is a finding and not the end
    from components.objectives.build import ModelConfig, model_bytes

    parts = ("backbone", "textual_head", "objective")
    config: dict[str, object] = {name: sections[name] for name in parts}
    config["vocab_size"] = section_of(sections, params.Tokenize).vocab_size
    return model_bytes(ModelConfig.model_validate(config))


def shared_memory_bytes(sections: Sections) -> int:
    """Return the bytes in /dev/shm of the batches that loader workers keep ready, in the stage with most."""
    pretrain = section_of(sections, params.Pretrain)
    crop_size = section_of(sections, params.Augmentation).crop_size
    batches = [(pretrain.batch_size // pretrain.accumulate, crop_size)]
    batches += [
        (s.batch_size, s.crop_size) for s in sections.values() if isinstance(s, params.Classification)
    ]
    return (
        machine.num_cpus() * PREFETCHED * max(3 * size**2 * images * FLOAT_BYTES for images, size in batches)
    )


def _drawn_images(world: params.DrawnWorld) -> int:
    captioned = world.train_images + world.val_images
    return 2 * (captioned + world.voc_trainval_images + world.voc_test_images)  # other datasets have as many


def _lmdb_bytes(download: params.Download, lmdb: params.Lmdb) -> int:
    """Return the bytes of the images of datasets whose sizes are known; 0 for folders, not counted yet."""
    if download.source == "drawn_world":
        world = download.drawn_world
        images, own_bytes = world.train_images + world.val_images, BYTES_PER_PIXEL * world.image_size**2
    else:
        captioned = [DATASETS[name] for name in download.published if DATASETS[name].captioned]
        images = sum(split["images"] for known in captioned for split in known.counts.values())
        own_bytes = BYTES_PER_PIXEL * 640 * 480  # COCO's size; Flickr8k's are smaller
    if lmdb.short_side is not None:
        own_bytes = min(own_bytes, BYTES_PER_PIXEL * lmdb.short_side**2 * 4 / 3)
    return round(images * own_bytes)
