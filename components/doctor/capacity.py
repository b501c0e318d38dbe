"""Room: disk, memory, shared memory, file descriptors."""

import os
import resource
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import psutil

from components.doctor import needs
from components.doctor.finding import Finding, Sections, attention, broken, fine
from components.errors import InputError
from components.sources.archives.disk import existing_folder
from components.sources.progress import shown_bytes

GB = 10**9
SPARE_BYTES = 2 * GB  # beside what is counted: environments, caches of tools, pictures
DEMO_BYTES = 3.5 * GB  # the demo's largest use of memory, measured: README.md
MODEL_COPIES = (
    5  # in memory while it trains: weights, gradients, momentum, slow weights, and one for activations
)
MIN_DESCRIPTORS = 1024  # what most systems give
SHARED_MEMORY = Path("/dev/shm")
CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def disk(sections: Sections) -> Iterator[Finding]:
    """One finding a disk."""
    try:
        wanted = needs.disk(sections) if sections else [(Path("outputs"), 0, "unknown")]
    except InputError as error:
        yield broken("disk", "what is needed cannot be told", str(error))
        return
    by_disk: dict[int, list[needs.Need]] = defaultdict(list)
    for folder, num_bytes, what in wanted:
        by_disk[os.stat(existing_folder(folder)).st_dev].append((folder, num_bytes, what))
    for parts in by_disk.values():
        yield _one_disk(parts)


def _one_disk(parts: list[needs.Need]) -> Finding:
    place = existing_folder(parts[0][0])
    free, needed = shutil.disk_usage(place).free, sum(num_bytes for _, num_bytes, _ in parts)
    largest = sorted(parts, key=lambda part: -part[1])[:3]
    shown = ", ".join(f"{what} {shown_bytes(num_bytes)}" for _, num_bytes, what in largest)
    found = f"{shown_bytes(free)} free at {place}; a whole run needs about {shown_bytes(needed)} ({shown})"
    advice = (
        "free some (`dvc gc --workspace` drops what no branch needs), or let `datasets` link to a larger disk"
    )
    if free < needed:
        return broken("disk", found, advice)
    if free < needed + SPARE_BYTES:
        return attention("disk", found, advice)
    return fine("disk", found)


def memory(sections: Sections) -> Iterator[Finding]:
    total, available = _memory_bytes()
    found = f"{shown_bytes(available)} free of {shown_bytes(total)}"
    try:
        needed = DEMO_BYTES + MODEL_COPIES * needs.model_bytes(sections) if sections else DEMO_BYTES
    except InputError:  # said of the disk
        return
    advice = "end other programs, or take a smaller pretrain.batch_size or textual_head.hidden_size"
    if total < needed:
        yield attention("memory", f"{found}; training needs about {shown_bytes(needed)}", advice)
    elif available < needed:
        yield attention("memory", f"{found}; training needs about {shown_bytes(needed)} now", advice)
    else:
        yield fine("memory", found)


def _memory_bytes() -> tuple[float, float]:
    """Of the machine or, where that is less, of the container: all, and what is free."""
    machine = psutil.virtual_memory()
    for path in CGROUP_LIMITS:
        try:
            limit = int(path.read_text(encoding="ascii"))
        except (OSError, ValueError):  # there is none, or it says `max`
            continue
        if limit < machine.total:
            return limit, min(machine.available, limit)
    return machine.total, machine.available


def shared_memory(sections: Sections) -> Iterator[Finding]:
    if not sections:
        return
    needed = needs.shared_memory_bytes(sections)
    try:
        status = os.statvfs(SHARED_MEMORY)
    except OSError as error:
        yield broken("shared memory", str(error), "mount a tmpfs at /dev/shm, or set VIRTEX_NUM_WORKERS=1")
        return
    free = status.f_bavail * status.f_frsize
    found = (
        f"{shown_bytes(free)} free in {SHARED_MEMORY}; batches of loader workers take {shown_bytes(needed)}"
    )
    if free < needed:
        advice = "containers: docker run --shm-size 8g; or fewer workers with VIRTEX_NUM_WORKERS"
        yield broken("shared memory", found, advice)
    else:
        yield fine("shared memory", found)


def file_descriptors(_: Sections) -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = "as many open files as one likes" if soft == resource.RLIM_INFINITY else f"{soft} open files"
    if soft != resource.RLIM_INFINITY and soft < MIN_DESCRIPTORS:
        can = hard == resource.RLIM_INFINITY or hard >= MIN_DESCRIPTORS
        how = f"ulimit -n {MIN_DESCRIPTORS}" if can else "ask for a higher limit (limits.conf, LimitNOFILE)"
        yield attention("open files", f"{found} at most; loader workers and servers may need more", how)
    else:
        yield fine("open files", found)


def folders(sections: Sections) -> Iterator[Finding]:
    """Datasets that lie on this disk already."""
    if not sections:
        return
    named = list(needs.folders(sections))
    absent = [f"{key}: {path}" for key, path in named if not path.exists()]
    if absent:
        yield broken("data folders", f"not there: {', '.join(absent)}", "correct the paths in params.yaml")
    elif named:
        yield fine("data folders", f"all {len(named)} that download.folders names are there")
