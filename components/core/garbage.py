"""Less garbage collection in processes that import much and live shortly.

Python looks through the objects that there are again and again while modules are imported, and twice at the
end. Of the processor time of a process that imports torch and MLflow that was a third.
"""

import atexit
import gc

_NEW_OBJECTS = 50_000  # between two collections of the youngest; Python's own is 700


def collect_rarely() -> None:
    """For this process, from now on."""
    gc.set_threshold(_NEW_OBJECTS, 10, 10)
    atexit.register(gc.freeze)  # nothing to look through while the interpreter ends
