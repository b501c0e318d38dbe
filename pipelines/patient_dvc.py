"""``dvc``, looking twenty times a second whether DVC's lock is free.

DVC looks every half second, which adds up where many short stages run side by side.
"""

import sys

import dvc.lock
from dvc.cli import main

dvc.lock.DEFAULT_TIMEOUT = 0.3  # seconds, six looks of a command that does not wait for ever

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
