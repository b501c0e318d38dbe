"""The entry of the three stages."""

from components.benchmarks.detection.benchmark import run_recorded as run_recorded
