"""Inputs that people reported, and cousins of them, on each way in: the same outcome on all three."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import three_ways_inputs as inputs
from ruamel.yaml import YAML
from workspaces import REPOSITORY, Workspace

from components.data.image import decode
from components.data.store import CaptionStore
from components.params import overlay

pytestmark = pytest.mark.slow

PATIENCE = 1200  # seconds
WAYS = ("dvc repro", "virtex run", "virtex serve")
# What stages say of the data, and of errors; Prefect and the command say those again, in their own words.
TOLD = re.compile(r"(\S+: took .*|\S*: ?objects: .*|\w+: error: .*|Traceback .*)")
SAID_AGAIN = ("Finished in state", "virtex: error: ")
SMALL = {
    "download": {"source": "folders"},
    "select": {"by": "val_loss"},
}


@dataclass(frozen=True)
class Outcome:
    """What a way came to.

    Attributes:
        is_good: whether the run succeeded.
        told: what it said of the data, and the errors; each once.
        data: digests in dvc.lock of all that lies below data/, by path.
        figures: of the datasets; none after a failure, for which `virtex run` puts earlier ones back.
    """

    is_good: bool
    told: frozenset[str]
    data: dict[str, str]
    figures: dict[str, Any]


class Way:
    """A workspace of its own that is always asked in the same way.

    Attributes:
        name: one of ``WAYS``.
        workspace: where it works.
    """

    def __init__(self, name: str, workspace: Workspace) -> None:
        self.name = name
        self.workspace = workspace

    def ask(self, targets: tuple[str, ...]) -> tuple[bool, str]:
        """Whether it succeeded, and what was printed, with the preset ``ways``."""
        if self.name == "virtex run":
            process = self.workspace.start(*targets, "--preset", "ways", "--no-report")
            output, _ = process.communicate(timeout=PATIENCE)
            return process.returncode == 0, output
        overlay("ways", (), self.workspace.root / "params.yaml", self.workspace.root / "presets")
        done = self.workspace.dvc("repro", *targets)
        return done.returncode == 0, done.stdout + done.stderr

    def outcome(self, preset: dict[str, Any], targets: tuple[str, ...]) -> Outcome:
        root = self.workspace.root
        (root / "presets" / "ways.yaml").write_text(json.dumps(preset))
        is_good, output = self.ask(targets)
        locked = YAML(typ="safe").load(root / "dvc.lock") if (root / "dvc.lock").exists() else {}
        outs = [out for stage in locked.get("stages", {}).values() for out in stage["outs"]]
        lines = [line for line in output.splitlines() if not any(again in line for again in SAID_AGAIN)]
        return Outcome(
            is_good,
            frozenset(match[0].strip() for line in lines if (match := TOLD.search(line))),
            {out["path"]: out["md5"] for out in outs if out["path"].startswith("data/")},
            json.loads((root / "outputs/datasets/metrics.json").read_text()) if is_good else {},
        )


class ServedWay(Way):
    """With `virtex serve` at work in it."""

    def __init__(self, workspace: Workspace, log: Path) -> None:
        super().__init__("virtex serve", workspace)
        self._log = log
        with log.open("w") as file:
            command = ["-m", "pipelines.cli", "serve", "--name", "workspace"]
            self._process = subprocess.Popen(
                [sys.executable, *command],
                cwd=workspace.root,
                env=workspace.environment | {"PREFECT_RUNNER_POLL_FREQUENCY": "1"},
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_until(lambda: "Waiting for runs of the deployment virtex/workspace" in log.read_text())

    def ask(self, targets: tuple[str, ...]) -> tuple[bool, str]:
        before = self._log.stat().st_size
        parameters = ["--param", 'preset="ways"', "--param", f"targets={json.dumps(targets)}"]
        asked = self.workspace.start_module(
            "prefect", "deployment", "run", "virtex/workspace", *parameters, "--watch"
        )
        output, _ = asked.communicate(timeout=PATIENCE)
        assert "Created flow run" in output, output
        wait_until(lambda: (self.workspace.root / ".virtex" / "run.lock").read_text() == "")
        with self._log.open() as file:
            file.seek(before)
            return asked.returncode == 0, file.read()

    def end(self) -> None:
        for process in [*psutil.Process(self._process.pid).children(recursive=True), self._process]:
            process.kill()
        self._process.wait()


def wait_until(is_so: Callable[[], object]) -> None:
    limit = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < limit
        time.sleep(0.2)


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory, prefect_harness: Any) -> Iterator[list[Way]]:
    """A copy of the project for each way, side by side, and one Prefect server."""
    base = tmp_path_factory.mktemp("ways")
    with prefect_harness() as address:
        found: list[Way] = []
        for name in WAYS:
            root = base / name.replace(" ", "-")
            for folder in ("components", "pipelines", "presets"):
                hidden = shutil.ignore_patterns("__pycache__")
                shutil.copytree(REPOSITORY / folder, root / folder, ignore=hidden)
            for file in ("params.yaml", "dvc.yaml", ".dvcignore", ".gitignore"):
                shutil.copy(REPOSITORY / file, root)
            (root / "datasets" / "archives").mkdir(parents=True)
            (root / "presets" / "ways.yaml").write_text("{}")
            subprocess.run(["git", "init", "-q", "."], cwd=root, check=True)
            workspace = Workspace(root, address, PYTHONPATH=str(root))
            workspace.dvc("init", "-q")
            served = name == "virtex serve"
            found.append(ServedWay(workspace, base / "serve.log") if served else Way(name, workspace))
        try:
            yield found
        finally:
            found[-1].end()


@pytest.fixture(scope="module")
def own(ways: list[Way]) -> Path:
    """A folder beside the workspaces: ``../own`` for each."""
    folder = ways[0].workspace.root.parent / "own"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def reports(own: Path) -> Path:
    """Copies of the reports, there."""
    folder = Path(os.environ.get("VIRTEX_SHARED", REPOSITORY.parent / "shared")) / "reports"
    if not folder.is_dir():
        pytest.skip(f"no reports at {folder}")
    shutil.copytree(folder, own, dirs_exist_ok=True)
    names = sorted(path.name for path in (own / inputs.IMAGES).iterdir() if path.name != "README")
    rows = [f"{name},a picture of {number}" for number, name in enumerate(names)]
    (own / inputs.IMAGES / "captions.csv").write_text("\n".join(["image,caption", *rows]))
    return own


def on_each_way(ways: list[Way], captions: dict[str, str], *targets: str, **others: Any) -> Outcome:
    """The one outcome of all."""
    folders = {"captions": {name: f"../own/{place}" for name, place in captions.items()}, **others}
    preset = SMALL | {
        "download": {"source": "folders", "folders": folders},
        "caption": {"dataset": next(iter(captions))},
    }
    outcomes = {way.name: way.outcome(preset, targets) for way in ways}
    first = outcomes[WAYS[0]]
    for name, outcome in outcomes.items():
        assert outcome == first, f"{name} differs from {WAYS[0]}"
    assert not any("Traceback" in line for line in first.told)
    return first


def test_what_can_be_read(ways: list[Way], reports: Path) -> None:
    places = {name: place for name, (place, _) in inputs.REPORTS.items()}
    places |= {name: make(reports / name) for name, (make, _) in inputs.COUSINS.items()}
    places |= dict.fromkeys((inputs.BMP, inputs.IMAGES), "captions.csv")
    captions = {name: f"{name}/{place}" for name, place in places.items()}
    others = {"voc2007": f"../own/{inputs.VOC}", "imagenet": f"../own/{inputs.IMAGENET}"}
    outcome = on_each_way(ways, captions, "lmdb", **others)
    told = "\n".join(sorted(outcome.told))
    assert outcome.is_good, told
    expected = {name: line for name, (_, line) in (inputs.REPORTS | inputs.COUSINS).items()}
    missing = [name for name, line in expected.items() if not re.search(f"^{name}: {line}", told, re.M)]
    missing += [line for line in inputs.TOLD_OF_OBJECTS if not re.search(line, told)]
    assert missing == [], told
    pixels = stored_pixels(ways[0])
    assert pixels["images/exif6.jpg"].shape == (64, 48, 3)
    assert 5 < pixels["images/float01.tif"].mean() < 250
    assert 5 < pixels["images/gray_maxval1023.pgm"].mean() < 250
    assert pixels["images/thin_1x5000.png"].shape == (5000, 1, 3)

    for name in "abcd":
        path = reports / inputs.BMP / f"{name}.bmp"
        status = path.stat()
        inputs.whitened(path)
        assert path.stat().st_size == status.st_size
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    again = on_each_way(ways, captions, "lmdb", **others)
    assert again.data["data/lmdb/train.lmdb"] != outcome.data["data/lmdb/train.lmdb"]
    for way in ways:
        replaced = {key: found for key, found in stored_pixels(way).items() if key.startswith(inputs.BMP)}
        assert len(replaced) == 4
        assert all((found == 255).all() for found in replaced.values())


def stored_pixels(way: Way) -> dict[str, Any]:
    """The images that training sees, by id."""
    stores = [
        CaptionStore(way.workspace.root / "data" / "lmdb" / f"{split}.lmdb") for split in ("train", "val")
    ]
    return {record.image_id: decode(record.image) for store in stores for record in store}


@pytest.mark.parametrize("name", [*inputs.REFUSED, *inputs.REFUSED_COUSINS])
def test_what_is_refused(ways: list[Way], own: Path, request: pytest.FixtureRequest, name: str) -> None:
    if name in inputs.REFUSED:
        request.getfixturevalue("reports")
        place, message = inputs.REFUSED[name]
    else:
        make, message = inputs.REFUSED_COUSINS[name]
        place = make(own / name)
    outcome = on_each_way(ways, {"mine": f"{name}/{place}"}, "datasets")
    assert not outcome.is_good
    said = f"datasets: error: download.folders.captions.mine: .*{message}"
    assert any(re.match(said, line) for line in outcome.told), "\n".join(outcome.told)
