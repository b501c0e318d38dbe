"""The stages' entry points, thin, each named as in dvc.yaml.

dvc.yaml says ``python``: whatever comes first on PATH. With another environment's Python a stage ends
here, with advice, and not somewhere below with an import error.
"""

import importlib.util
import sys

from components.core.process import collect_rarely, end_at_once

collect_rarely()
end_at_once()
_missing = [
    name for name in ("torch", "mlflow", "lmdb", "sentencepiece") if not importlib.util.find_spec(name)
]
if _missing:
    sys.exit(
        f"error: {sys.executable} has no {', '.join(_missing)}: activate this project's environment first "
        "(`source .venv/bin/activate`, after `make setup`), or start the stages with `.venv/bin/virtex run`"
    )
