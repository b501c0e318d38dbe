"""Prefect's own words about a failed stage, which the flow says itself: once, and in the stage's words."""

import contextlib
import logging
from collections.abc import Iterator

_SAID_ALREADY = ("Task run failed with state:", "Finished in state Failed(", "Finished in state NotReady(")


@contextlib.contextmanager
def prefect_says_it_once() -> Iterator[None]:
    """Within it, task runs log nothing of a failure that the flow logs, and nothing of those below it.

    Prefect logs a failure twice more, once with the traceback of no exception ("NoneType: None"), and each
    task below it as an error of its own.
    """
    logger = logging.getLogger("prefect.task_runs")
    logger.addFilter(_is_new)
    try:
        yield
    finally:
        logger.removeFilter(_is_new)


def _is_new(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_SAID_ALREADY)
