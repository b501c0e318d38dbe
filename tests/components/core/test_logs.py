"""Warnings of ours are seen, whatever libraries do to logging."""

import ast
import logging
import logging.config
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from components.core.logs import own_logger

REPOSITORY = Path(__file__).resolve().parents[3]
# As `alembic init` writes it, and as its env.py reads it.
ALEMBIC = """
[loggers]
keys = root,alembic
[handlers]
keys = console
[formatters]
keys = generic
[logger_root]
level = ERROR
handlers = console
qualname =
[logger_alembic]
level = INFO
handlers =
qualname = alembic
[handler_console]
class = NullHandler
args = ()
level = NOTSET
formatter = generic
[formatter_generic]
format = %(levelname)s %(message)s
"""


def alembic(folder: Path) -> None:
    (folder / "alembic.ini").write_text(ALEMBIC)
    logging.config.fileConfig(folder / "alembic.ini")  # disables all existing loggers


def dict_config(_: Path) -> None:
    logging.config.dictConfig({"version": 1, "root": {"level": "CRITICAL", "handlers": []}})


def basic_config(_: Path) -> None:
    logging.basicConfig(level=logging.ERROR, force=True)  # as mlflow.pytorch does at its import


def disabled(_: Path) -> None:
    logging.disable(logging.CRITICAL)


def shut_down(_: Path) -> None:
    logging.shutdown()


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """The root logger and who is switched off, as other tests know them."""
    root, manager = logging.root, logging.root.manager
    level, handlers, off = root.level, list(root.handlers), manager.disable
    before = {one: one.disabled for one in manager.loggerDict.values() if isinstance(one, logging.Logger)}
    yield
    root.setLevel(level)
    root.handlers[:] = handlers
    logging.disable(off)
    for logger, was_disabled in before.items():
        logger.disabled = was_disabled


@pytest.mark.parametrize("library", [alembic, dict_config, basic_config, disabled, shut_down])
def test_a_warning_is_printed_once_whatever_a_library_did(
    library: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = own_logger("components.tests.before")
    library(tmp_path)
    logger.warning("the model %s is not logged", "a")
    own_logger("components.tests.after").warning("nor is b")
    logger.info("nobody asked for this")
    assert capsys.readouterr().err == "the model a is not logged\nnor is b\n"


def test_other_handlers_get_the_record_too(caplog: pytest.LogCaptureFixture) -> None:
    own_logger("components.tests.before").warning("seen")
    assert [record.message for record in caplog.records] == ["seen"]


def test_after_mlflow_s_pytorch_flavour() -> None:
    script = (
        "import contextlib, logging\n"
        "with contextlib.suppress(ImportError): import mlflow.pytorch._lightning_autolog\n"
        "from components.core.logs import own_logger\n"
        "assert logging.root.level == logging.ERROR\n"
        "own_logger('components.a').warning('still here')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1:] == ["still here"]


def test_every_module_of_ours_has_such_a_logger() -> None:
    for path in [*REPOSITORY.glob("components/**/*.py"), *REPOSITORY.glob("pipelines/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "logging.getLogger":
                assert ast.unparse(node) != "logging.getLogger(__name__)", f"{path}: use own_logger"
