"""The parts that do the work; `pipelines` only orders them."""

import os

from components.core.process import bypass_proxies_for_loopback

# Read when torch's OpenMP runtime loads. Spinning threads can collapse when anything else wants a core.
# ResNet-18, 48 px, batch 32, forward and backward on 2 cores, both sides in turn, images/s: with two busy
# neighbours 10, 62, 52 spinning and 104, 77, 101 passive; alone 180, 217, 237 and 199, 193, 181.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
bypass_proxies_for_loopback()
