"""Which images and captions a store holds, told from a part of it."""

import hashlib
from dataclasses import dataclass

from components.data.store import CaptionStore

RECORDS = 256  # that are looked at, spread over the store


@dataclass(frozen=True, slots=True)
class Identity:
    """Digest of a store's metadata, size, and of some hundred records; the datasets that those are of."""

    digest: str
    datasets: tuple[str, ...]


def identify(store: CaptionStore) -> Identity:
    """Look at `RECORDS` of its records, or all."""
    digest = hashlib.sha256(f"{store.metadata} {store.index} {store.path.stat().st_size}".encode())
    datasets: set[str] = set()
    for index in range(0, len(store), max(1, len(store) // RECORDS)):
        record = store.get(index)
        digest.update(repr((record.image_id, record.captions)).encode() + record.image)
        datasets.add(record.dataset)
    return Identity(digest.hexdigest(), tuple(sorted(datasets)))
