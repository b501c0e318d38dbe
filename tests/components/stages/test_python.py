"""A stage under a Python that is not the project's."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]


def test_the_wrong_python_is_told_to_activate_the_environment() -> None:
    without_packages = [sys.executable, "-S", "-E", "-m", "components.stages.report"]
    done = subprocess.run(without_packages, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 1
    assert "source .venv/bin/activate" in done.stderr
    assert "Traceback" not in done.stderr
