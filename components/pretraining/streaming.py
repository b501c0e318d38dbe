"""Pretraining on images in tars of servers: their order, and what fetching costs."""

from dataclasses import dataclass
from typing import Any

from components import params
from components.data.dataset import TrainDataset
from components.data.tar_images import image_in_tar
from components.data.tar_visits import tar_visits
from components.sources.download.tar_cache import Fetched, TarCache, machine_cache
from components.sources.readers.types import RemoteTar


@dataclass(frozen=True, slots=True)
class Streamed:
    """The tars of a run, and what had been fetched into this machine's folder when it began."""

    tars: list[RemoteTar]
    cache: TarCache
    before: Fetched

    def fetched_bytes(self) -> int:
        """Return what was fetched on this machine since the stage started."""
        return self.cache.fetched().bytes - self.before.bytes

    def figures(self) -> dict[str, Any]:
        """Return and say how much was fetched since the stage started on this machine, and how often."""
        size = sum(tar.size for tar in self.tars)
        found = {
            "tars": len(self.tars),
            "tars_bytes": size,
            "fetched_tars": self.cache.fetched().tars - self.before.tars,
            "fetched_bytes": self.fetched_bytes(),
        }
        print(
            f"fetched {found['fetched_tars']} tars, {found['fetched_bytes'] / 1e9:.3f} GB, of a dataset of "
            f"{len(self.tars)} tars, {size / 1e9:.3f} GB, since this stage started",
            flush=True,
        )
        return found


def tars_of(dataset: TrainDataset, stream: params.Stream) -> Streamed | None:
    """Have a dataset read images in tars; return those on servers, which have an order of their own.

    Raises:
        InputError: the folder for tars is too small.
    """
    if not stream.train:
        return None
    dataset.read_image = image_in_tar
    cache = machine_cache()
    visits = tar_visits(
        dataset.store, dataset.selection.indices, stream.mixed_tars, dataset.visits.seed, cache
    )
    if visits is None:
        return None
    dataset.visits = visits
    return Streamed(list(visits.tars), cache, cache.fetched())
