"""All that is to be measured on a GPU, in ten minutes: training end to end, decoding, and the tests for GPUs.

Each part runs in a process of its own, and its figures are written at once: what is cut short goes on where
it was. Rates stand beside the practical ceiling, which is computed (components.params.expected_time).
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from components.bench import decode, loop, train
from components.bench.timing import as_json, hardware
from components.core.errors import InputError
from components.core.files import read_json, write_json
from components.params.expected_time import CEILING, ImageCost

LIMIT_SECONDS = 600.0
TESTS = "pytest -m gpu"
VARIANTS = ("bf16", *(f"bf16, {how}" for how in train.COMPILE if how))
# By part: the hidden size and the variant of ours; the plain recipe is measured beside each. The most telling
# come first, as time may run out.
TRAINING = {f"H{size} {variant}": (size, variant) for variant in VARIANTS for size in (1024, 2048)}
PARTS = (*TRAINING, "decode", TESTS)
ITERATIONS = 60  # of a training part, timed; as many to look whether the GPU is idle

Measure = Callable[[str, bool, float], dict[str, Any]]


def run(
    path: Path, quick: bool, seconds: float = LIMIT_SECONDS, measure: Measure | None = None
) -> dict[str, Any]:
    """Measure the parts that ``path`` lacks, and write it after each; returns all there is by then.

    Parts of another machine, GPU, commit or size count for nothing.

    Args:
        path: of the JSON.
        quick: tiny sizes, which run anywhere and say nothing.
        seconds: after which no more is measured; the part in hand is then ended.
        measure: measures one part within some seconds; in a process of its own by default.

    Raises:
        InputError: without a GPU, unless ``quick``.
    """
    if not quick and not torch.cuda.is_available():
        raise InputError(
            "virtex bench gpu: torch finds no GPU here; run it where there is one (`virtex doctor` says what "
            "torch sees), or try its parts in tiny sizes with --quick"
        )
    machine = hardware()
    content = _begun(path, quick, machine)
    end = time.monotonic() + seconds
    is_first = True
    for part in PARTS:
        left = end - time.monotonic()
        if part in content["parts"] or left <= 0:
            continue
        print(f"{part} ...", flush=True)
        try:
            content["parts"][part] = (measure or _in_process)(part, quick, left)
        except subprocess.TimeoutExpired:
            print(f"{part}: not done in the {seconds:.0f} s; start again to go on", flush=True)
            if not is_first:
                break
            # It had all the time there is: trying again would keep the others from their turn for ever.
            content["parts"][part] = {"error": f"not done in {seconds:.0f} s"}
        write_json(path, content)
        is_first = False
    return content


def _begun(path: Path, quick: bool, machine: Mapping[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {"bench": "gpu", "quick": quick, "machine": dict(machine), "parts": {}}
    if not path.is_file():
        return content
    before = read_json(path)
    same = all(
        before.get("machine", {}).get(key) == machine[key]
        for key in ("gpu", "processor", "commit", "versions")
    )
    if same and before.get("quick") == quick:
        content["parts"] = before["parts"]
        print(f"going on: {', '.join(before['parts']) or 'nothing'} measured before, {path}", flush=True)
    return content


def _in_process(part: str, quick: bool, seconds: float) -> dict[str, Any]:
    """Measure a part in a new process; what goes wrong there becomes its ``error``."""
    if part == TESTS:
        return _tests(quick, seconds)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "part.json")
        command = [sys.executable, "-m", "components.bench.gpu", part, str(int(quick)), str(path)]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=seconds, check=False)
        if done.returncode:
            return {"error": (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]}
        return dict(read_json(path))


def _tests(quick: bool, seconds: float) -> dict[str, Any]:
    if not Path("tests").is_dir():
        return {"error": "there is no folder tests here"}
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", *(["--collect-only"] if quick else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=seconds, check=False)
    last = (done.stdout.strip().splitlines() or [""])[-1]
    return {"passed": done.returncode == 0, "summary": last.strip("= ")}


def measured(part: str, quick: bool) -> dict[str, Any]:
    """Measure one of PARTS, but the tests, in this process."""
    if part == "decode":
        rows = decode.run(decode.QUICK if quick else decode.FULL, 1)
    else:
        hidden_size, variant = TRAINING[part]
        base = loop.QUICK if quick else replace(loop.FULL, iterations=ITERATIONS)
        step = replace(base.step, variants=(variant,))
        if not quick:
            step = replace(step, hidden_size=hidden_size)
        rows = loop.run(replace(base, step=step), 1)
    result = as_json(part, quick, {}, rows)["comparisons"][0]
    if torch.cuda.is_available():
        result["gpu_memory_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return dict(result)


def as_table(content: Mapping[str, Any]) -> str:
    """Return Markdown: a row per part that was measured, and what is missing."""
    lines = [
        "| part | images/s | plain recipe | ratio | of the ceiling (computed) | waiting | GPU idle "
        "| loader alone | memory |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {' | '.join(_cells(part, content['parts'][part]))} |"
        for part in PARTS
        if part in content["parts"]
    ]
    missing = [part for part in PARTS if part not in content["parts"]]
    return "\n".join([*lines, *([f"\nNot measured yet: {', '.join(missing)}"] if missing else [])])


def _cells(part: str, found: Mapping[str, Any]) -> Iterator[str]:
    yield part
    if "our_rate" not in found:
        yield found.get("error") or found["summary"]
        yield from ["-"] * 7
        return
    rate, figures = found["our_rate"]["median"], found["figures"]
    yield f"{rate:,.4g}"
    yield f"{found['baseline_rate']['median']:,.4g}"
    yield f"{found['ratio']['median']:.3g}x"
    ceiling = practical_ceiling(TRAINING[part][0]) if part in TRAINING else None
    yield f"{rate / ceiling:.0%} of {ceiling:,.0f}" if ceiling else "-"
    yield figures.get("waiting for batches", "-")
    yield figures.get("GPU idle", "-")
    yield figures.get("the loader alone", "-")
    yield f"{found['gpu_memory_gib']} GiB" if "gpu_memory_gib" in found else "-"


def practical_ceiling(hidden_size: int) -> float:
    """Return images per second on an H200: ResNet-50, 224 px, one layer, bicaptioning."""
    head = {1024: 7.8, 2048: 25.8}[hidden_size]  # GFLOP of an image, forward and backward
    return CEILING.rate(ImageCost(1.0, head))


if __name__ == "__main__":
    name, is_quick, output = sys.argv[1:]
    Path(output).write_text(json.dumps(measured(name, bool(int(is_quick)))), encoding="utf-8")
