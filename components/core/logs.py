"""The project's loggers, which libraries cannot silence.

MLflow calls ``logging.basicConfig(level=ERROR)`` when its PyTorch flavour is imported; Alembic's and other
projects' ``fileConfig`` disables every logger that exists. A warning of ours is printed all the same.
"""

import logging
import sys

from components.core.redaction import redacted

LEVEL = logging.WARNING


class OwnLogger(logging.Logger):
    """Prints warnings to stderr, whatever happens to the root logger and its handlers.

    Libraries may ask for more than `LEVEL`, never for less. Records go to the handlers of others
    (a log file, a test's capture) too, but not to those that print to the terminal: one line is enough.
    """

    def getEffectiveLevel(self) -> int:
        """Return ``LEVEL``, or the lower one that somebody has set."""
        return min(LEVEL, super().getEffectiveLevel())

    def isEnabledFor(self, level: int) -> bool:
        """Decide by the level alone, whatever ``logging.disable`` and ``disabled`` say."""
        return level >= self.getEffectiveLevel()

    def handle(self, record: logging.LogRecord) -> None:
        """Print it and pass it on."""
        if not self.filter(record):
            return
        record.msg, record.args = redacted(record.getMessage()), None
        if record.levelno >= LEVEL:
            _print(record)
        logger: logging.Logger | None = self
        while logger:
            for handler in logger.handlers:
                if not _is_terminal(handler) and record.levelno >= handler.level:
                    handler.handle(record)
            logger = logger.parent


def own_logger(name: str) -> logging.Logger:
    """Return the logger of one of our modules, by its ``__name__``."""
    before = logging.getLoggerClass()
    logging.setLoggerClass(OwnLogger)
    try:
        return logging.getLogger(name)
    finally:
        logging.setLoggerClass(before)


def _print(record: logging.LogRecord) -> None:
    try:
        print(_FORMATTER.format(record), file=sys.stderr, flush=True)
    except (OSError, ValueError):  # stderr is closed: nobody is there to read it
        return


def _is_terminal(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and handler.stream in (
        sys.stderr,
        sys.stdout,
        sys.__stderr__,
        sys.__stdout__,
    )


_FORMATTER = logging.Formatter("%(message)s")
