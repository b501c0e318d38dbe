"""Memory that was freed stays with the process, for work that needs as much again at once.

glibc gives large blocks back to the system as soon as they are free, and the system hands them out page by
page, filled with zeros: where every image takes a new block, that is a good part of the time.
"""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # options of mallopt, see <malloc.h>
_KEPT_BYTES = 256 * 2**20
_LARGEST_BLOCK = 32 * 2**20  # glibc takes no more


def keep_freed_memory() -> None:
    """For this process, from now on: up to 256 MiB. Without effect where there is no glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK)
