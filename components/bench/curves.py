"""How costs grow: loading with crop and workers, stores with images, tokenizers with captions, training.

The points of each as a table and as a picture.
"""

import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import psutil
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from components.bench import data, train
from components.bench.drawn import draw_captions, draw_photographs
from components.bench.timing import Times, in_turn
from components.bench.train import build, drawn_batch, our_batch, our_step
from components.core import machine
from components.core.files import writing
from components.core.process import keep_freed_memory
from components.data.build import build_store
from components.data.build_shards import build_head, build_shard
from components.data.record import StoreForm
from components.data.store import CaptionStore
from components.params import Augmentation
from components.sources.readers.own.index import read_index, write_index
from components.sources.readers.types import CaptionedImage
from components.text.tokenizer import train_tokenizer

COLUMNS = 3
PANEL_INCHES = (4.2, 3.0)
SMALL = 96, 128  # pixels, height and width of photographs that many shards are made of
TIMED_STEPS = 2  # of a training, after one that is not


@dataclass(frozen=True, slots=True)
class Line:
    """What was measured: ``values`` at the places ``at``, in the panel's units."""

    name: str
    at: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines over the same thing; ``logarithmic`` names the axes, ``x`` or ``xy``, that grow by a factor."""

    title: str
    along: str
    unit: str
    lines: tuple[Line, ...]
    logarithmic: str = ""


def as_table(panels: Sequence[Panel]) -> str:
    """Return Markdown: a row per line, with all its points."""
    rows = ["| what | along | unit | measured |", "|---|---|---|---|"]
    for panel in panels:
        for line in panel.lines:
            points = "; ".join(f"{at:g}: {value:.3g}" for at, value in zip(line.at, line.values, strict=True))
            name = f"{panel.title}, {line.name}" if line.name else panel.title
            rows.append(f"| {name} | {panel.along} | {panel.unit} | {points} |")
    return "\n".join(rows)


def draw(path: Path, panels: Sequence[Panel]) -> None:
    """Write a PNG with a small chart for each panel."""
    rows = -(-len(panels) // COLUMNS)
    size = (COLUMNS * PANEL_INCHES[0], rows * PANEL_INCHES[1])
    figure = Figure(figsize=size, layout="constrained", dpi=100)
    FigureCanvasAgg(figure)
    for number, panel in enumerate(panels, 1):
        axes = figure.add_subplot(rows, COLUMNS, number)
        for line in panel.lines:
            axes.plot(line.at, line.values, marker="o", markersize=4, label=line.name)
        if "x" in panel.logarithmic:
            places = panel.lines[0].at
            axes.set_xscale("log")
            axes.set_xticks(places, [f"{place:,.0f}" for place in places])
            axes.minorticks_off()
        else:
            axes.set_xlim(0, None)
        if "y" in panel.logarithmic:
            axes.set_yscale("log")
        else:
            legend_room = 1.5 if len(panel.lines) > 2 else 1.1
            axes.set_ylim(0, legend_room * max(value for line in panel.lines for value in line.values))
        axes.set_title(panel.title, fontsize=10)
        axes.set(xlabel=panel.along, ylabel=panel.unit)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
        if any(line.name for line in panel.lines):
            axes.legend(frameon=False, fontsize=8, loc="upper left" if len(panel.lines) > 2 else "best")
    with writing(path) as temporary:
        figure.savefig(temporary, format="png")


PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True, slots=True)
class Size:
    """The places of the curves; what does not change along one is in ``data`` and ``train``."""

    data: data.Size
    crops: tuple[int, ...]  # pixels
    workers: tuple[int, ...]
    stored_images: tuple[int, ...]
    shards: tuple[int, ...]  # 1 is one file without a head
    sharded_images: int
    captions: tuple[int, ...]
    vocab_size: int
    train: train.Size
    batches: tuple[int, ...]
    train_crops: tuple[int, ...]
    hidden_sizes: tuple[int, ...]


FULL = Size(
    data=replace(data.FULL, batches=16),
    crops=(64, 112, 160, 224, 288),
    workers=tuple(number for number in (0, 1, 2, 3, 4, 8, 16, 32) if number <= 2 * machine.num_cpus()),
    stored_images=(250, 500, 1000, 2000, 4000),
    shards=(1, 4, 16, 64),
    sharded_images=20_000,
    captions=(1_000, 10_000, 100_000, 1_000_000),
    vocab_size=10_000,  # section 3.1
    train=replace(train.FULL, batch=8, crop_size=112),
    batches=(2, 4, 8, 16, 32),
    train_crops=(64, 112, 160, 224),
    hidden_sizes=(512, 1024, 2048),
)
QUICK = Size(
    data=data.QUICK,
    crops=(16, 32),
    workers=(0, 1),
    stored_images=(6, 12),
    shards=(1, 2),
    sharded_images=60,
    captions=(200,),
    vocab_size=200,
    train=train.QUICK,
    batches=(2,),
    train_crops=(32,),
    hidden_sizes=(64,),
)


def run(size: Size) -> Iterator[Panel]:
    """Yield panels, one after the other as they are measured."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = draw_photographs(folder, size.data.images, size.data.height, size.data.width)
        yield from loading(folder, images, size)
        yield storing(folder, images, size)
        yield from sharding(folder, size)
        yield tokenizing(folder, size)
        yield remembering(folder, size)
    yield from training(size)


def loading(folder: Path, images: Sequence[CaptionedImage], size: Size) -> Iterator[Panel]:
    """Measure images per second: per core, against the crop; on the clock, against the worker processes."""
    tokenizer, stores = data.prepare(folder, images, data.kept_as(size.data))
    count = size.data.batch * size.data.batches
    by_crop, by_workers = [], []
    for name, store in stores.items():
        seconds = []
        for crop in size.crops:
            work = partial(data.read_ours, store, tokenizer, _cropping(crop), size.data)
            seconds.append(_once(work).cpu[0])
        by_crop.append(Line(name, size.crops, tuple(count / spent for spent in seconds)))
        seconds = []
        for workers in size.workers:
            augmentation = _cropping(size.data.crop_size)
            work = partial(data.read_ours, store, tokenizer, augmentation, size.data, workers)
            seconds.append(_once(work).wall[0])
        by_workers.append(Line(name, size.workers, tuple(count / spent for spent in seconds)))
    yield Panel("loading, one worker per core", "crop, pixels", "images/s per core", tuple(by_crop))
    yield Panel("loading", "worker processes", "images/s", tuple(by_workers))


def storing(folder: Path, images: Sequence[CaptionedImage], size: Size) -> Panel:
    """Measure processor seconds of a build against the number of images, the same ones again and again."""
    path, ways = folder / "grown.lmdb", data.kept_as(size.data)

    def build(count: int, way: str) -> Callable[[], object]:
        many = [replace(images[n % len(images)], image_id=f"drawn/{n}") for n in range(count)]
        return partial(build_store, path, many, ways[way], num_workers=machine.num_cpus())

    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), keep_freed_memory) as pool:
        for way in ways:  # so that the process has imported what they need
            pool.submit(build(1, way)).result()
        lines = []
        for way in ways:
            works = [partial(_run_in, pool, build(count, way)) for count in size.stored_images]
            seconds = tuple(_once(work).cpu[0] for work in works)
            lines.append(Line(way, size.stored_images, seconds))
    return Panel("building a store", "images", "processor seconds", tuple(lines))


def sharding(folder: Path, size: Size) -> Iterator[Panel]:
    """Measure a store of small photographs against its shards: building, adding an image, bytes, reading.

    All shards are built one after the other in this process, so that the processor seconds are those of all.
    """
    photographs = draw_photographs(folder, min(200, size.sharded_images), *SMALL)
    images = [
        replace(photographs[n % len(photographs)], image_id=f"drawn/{n}") for n in range(size.sharded_images)
    ]
    more = [*images, replace(photographs[0], image_id="drawn/added")]
    tokenizer, _ = data.prepare(folder, photographs, {})
    reading = replace(size.data, crop_size=SMALL[0])
    built, added, stored, read = [], [], [], []
    for shards in size.shards:
        head = folder / f"in_{shards}.lmdb"
        built.append(_once(partial(build_in_shards, head, images, shards)).cpu[0])
        work = partial(data.read_ours, CaptionStore(head), tokenizer, _cropping(SMALL[0]), reading, 0)
        read.append(1e3 * _once(work).cpu[0] / reading.batches)
        stored.append(sum(path.stat().st_size for path in folder.glob(f"in_{shards}*.lmdb")) / 1e6)
        added.append(_once(partial(build_in_shards, head, more, shards)).cpu[0])
    title = f"{len(images):,} small images in shards"
    lines = (Line("all", size.shards, tuple(built)), Line("again with one more", size.shards, tuple(added)))
    yield Panel(f"{title}, building", "shards", "processor seconds", lines, "x")
    yield Panel(f"{title}, files", "shards", "MB", (Line("", size.shards, tuple(stored)),), "x")
    yield Panel(
        f"{title}, reading",
        "shards",
        f"ms per batch of {reading.batch}",
        (Line("", size.shards, tuple(read)),),
        "x",
    )


def build_in_shards(head: Path, images: Sequence[CaptionedImage], shards: int) -> None:
    """Do what the stages of all shards do; for one, what the stage of one file does."""
    form, workers = StoreForm(), machine.num_cpus()
    if shards == 1:
        build_store(head, images, form, num_workers=workers)
        return
    build_head(head, images, shards, form)
    for number in range(shards):
        build_shard(head, images, number, shards, form, num_workers=workers)


def tokenizing(folder: Path, size: Size) -> Panel:
    """Measure processor seconds of training a vocabulary against the number of captions."""
    seconds = []
    for count in size.captions:
        captions = list(draw_captions(count))
        pieces = min(size.vocab_size, 2 * count)  # few captions do not allow more
        seconds.append(_once(partial(train_tokenizer, captions, pieces, folder / "grown.model")).cpu[0])
    line = Line("", size.captions, tuple(seconds))
    return Panel("training a tokenizer", "captions", "processor seconds", (line,), logarithmic="xy")


def remembering(folder: Path, size: Size) -> Panel:
    """Measure memory against the number of captions, in processes whose peak nothing else has raised."""
    lines = []
    for name, work in (("index written", _index), ("index read", _read), ("tokenizer trained", _tokenize)):
        peaks = []
        for count in size.captions:
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                peaks.append(pool.submit(_growth, work, folder, count, size.vocab_size).result() / 2**20)
        lines.append(Line(name, size.captions, tuple(peaks)))
    return Panel("captions, memory at the peak", "captions", "MiB", tuple(lines), logarithmic="xy")


def _growth(work: Callable[[Path, int, int], object], folder: Path, count: int, vocab_size: int) -> int:
    before = psutil.Process().memory_info().rss
    kept = work(folder, count, vocab_size)
    grown = max(0, _peak_memory() - before)
    del kept
    return grown


def _index(folder: Path, count: int, _vocab_size: int) -> None:
    captions = draw_captions(count)
    fives = iter(lambda: tuple(islice(captions, 5)), ())
    images = (
        CaptionedImage(f"drawn/{n}", "drawn", folder / f"{n}.jpg", five) for n, five in enumerate(fives)
    )
    write_index(folder / str(count), "train", folder, images)


def _read(folder: Path, count: int, _vocab_size: int) -> object:
    return read_index(folder / str(count), "train", folder, "drawn")


def _tokenize(folder: Path, count: int, vocab_size: int) -> None:
    train_tokenizer(draw_captions(count), min(vocab_size, 2 * count), folder / "grown.model")


def training(size: Size) -> Iterator[Panel]:
    """Measure images per second on the clock, and memory, against batch, crop and width of the head."""
    for along, field, places in (
        ("batch, images", "batch", size.batches),
        ("crop, pixels", "crop_size", size.train_crops),
        ("width of the head", "hidden_size", size.hidden_sizes),
    ):
        rates, memory = [], []
        for precision in PRECISIONS:
            sizes = [replace(size.train, **{field: place}) for place in places]  # type: ignore[arg-type]
            costs = [step_cost(one, precision) for one in sizes]
            rates.append(Line(precision, places, tuple(cost.images_per_second for cost in costs)))
            memory.append(Line(precision, places, tuple(cost.peak_bytes / 2**30 for cost in costs)))
        yield Panel("training", along, "images/s", tuple(rates))
        yield Panel("training, memory at the peak", along, "GiB", tuple(memory))


def _cropping(side: int) -> Augmentation:
    return data.AUGMENTATION.model_copy(update={"crop_size": side})


def _run_in(pool: Executor, work: Callable[[], object]) -> None:
    pool.submit(work).result()


def _once(work: Callable[[], object]) -> Times:
    return in_turn([work], rounds=1, warm_up=0)[0]


@dataclass(frozen=True, slots=True)
class StepCost:
    """Images per second on the clock; bytes at the peak, beyond what the process has before the model."""

    images_per_second: float
    peak_bytes: int


def step_cost(size: train.Size, precision: str) -> StepCost:
    """Measure in a process of its own, whose peak no earlier measurement has raised."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_measure, size, precision, torch.get_num_threads()).result()


def _measure(size: train.Size, precision: str, num_threads: int) -> StepCost:
    torch.set_num_threads(num_threads)
    device = torch.device(machine.device_name())
    before = psutil.Process().memory_info().rss
    step = our_step(build(size, device), device, precision)
    batch = our_batch(drawn_batch(size, device))
    step(batch).item()
    start = time.perf_counter()
    for _ in range(TIMED_STEPS):
        loss = step(batch)
    loss.item()  # waits for a GPU
    seconds = time.perf_counter() - start
    on_gpu = device.type == "cuda"
    peak = torch.cuda.max_memory_allocated(device) if on_gpu else _peak_memory() - before
    return StepCost(TIMED_STEPS * size.batch / seconds, peak)


def _peak_memory() -> int:
    """Return the largest resident size of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says on Linux may be the parent's
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
