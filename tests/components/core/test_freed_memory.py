import subprocess
import sys

import pytest

CODE = """
import resource, sys
if sys.argv[1] == "keep":
    from components.core.freed_memory import keep_freed_memory
    keep_freed_memory()

def take_and_free():
    return [bytes(2**20) for _ in range(16)] and None

for _ in range(3):
    take_and_free()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    take_and_free()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_memory_that_was_freed_is_not_asked_for_again() -> None:
    def faults(way: str) -> int:
        done = subprocess.run([sys.executable, "-c", CODE, way], check=True, capture_output=True, text=True)
        return int(done.stdout)

    assert faults("keep") < faults("leave") / 10
