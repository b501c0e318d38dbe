import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["components.stages", "components.commands", "pipelines"])
def test_processes_that_import_much_collect_rarely(module):
    code = f"import gc, {module}; assert gc.get_threshold()[0] > 10_000, gc.get_threshold()"
    subprocess.run([sys.executable, "-c", code], check=True)
