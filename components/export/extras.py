"""Libraries that only some formats need: the extra ``export``."""

import importlib
from typing import Any

from components.core.errors import InputError


def library(name: str, use: str) -> Any:
    """Import ``name``.

    Raises:
        InputError: if it is not installed; ``use`` says what for.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"{use} needs {name} ({error}); install it with: pip install -c constraints.txt -e '.[export]'"
        ) from error
