"""The steps of the Dockerfile, without a container engine: in a fresh root file system of Debian's packages.

Needs root, debootstrap, Debian's and PyPI's packages, 8 GB of disk and half an hour. ``VIRTEX_ROOT_FS``
names a folder for the root file system, which is then kept and gone on with.
"""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKERFILE = REPOSITORY / "deploy" / "Dockerfile"
TINY = "tests/browser/tiny.yaml"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")  # this machine's, by which it reaches the packages
# As in a container: its own processes, 64 MB of shared memory. What pip unpacks is in memory.
ENTER = """
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
mount -t tmpfs -o size=64m shm "$1/dev/shm"
mount -t tmpfs -o size=5g tmp "$1/tmp"
exec chroot "$1" /bin/sh -c "$2"
"""


def instructions() -> list[tuple[str, str]]:
    """Name and argument of each, with continued lines joined."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    text = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


class Image:
    """A root file system in which instructions of a Dockerfile are carried out."""

    def __init__(self, root: Path, context: Path) -> None:
        self.root = root
        self.context = context
        self.folder = "/"
        bundle = {"SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE"} & set(os.environ)
        registry = {k: v for k, v in os.environ.items() if re.match(r"PIP_(DEFAULT_TIMEOUT|INDEX|EXTRA)", k)}
        self.variables = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            **registry,
            **dict.fromkeys(bundle, f"/etc/ssl/{CERTIFICATES.name}"),
        }
        if CERTIFICATES.is_file():
            shutil.copy(CERTIFICATES, root / "etc/ssl")
        for name in ("resolv.conf", "hosts"):
            shutil.copy(Path("/etc", name), root / "etc" / name)

    def run(self, command: str) -> str:
        print(f"+ {command}", flush=True)
        given = f"cd {shlex.quote(self.folder)} && {command}"
        inside = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "/bin/sh", "-ec", ENTER, "enter"]
        process = subprocess.run(
            [*inside, self.root, given],
            env=self.variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        print(process.stdout, flush=True)
        assert process.returncode == 0, command
        return process.stdout

    def copy(self, names: list[str], target: str) -> None:
        folder = self.root / self.folder.strip("/") / target
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            source = self.context / name
            if source.is_dir():
                shutil.copytree(source, folder, symlinks=True, dirs_exist_ok=True)
            else:
                shutil.copy(source, folder)

    def carry_out(self, name: str, argument: str) -> None:
        if name == "RUN":
            self.run(argument)
        elif name == "WORKDIR":
            self.folder = argument
            (self.root / argument.strip("/")).mkdir(exist_ok=True)
        elif name == "COPY":
            *names, target = argument.split()
            self.copy(names, target)
        elif name == "ENV":
            self.variables |= dict([argument.split("=", 1)])
        else:
            raise AssertionError(f"{name}: this test does not know how that is carried out")


@pytest.fixture
def root(tmp_path):
    """What FROM brings: Debian with this Python; here it is Debian's own."""
    given = os.environ.get("VIRTEX_ROOT_FS")
    folder = Path(given or tmp_path / "root")
    if not (folder / "bin/sh").exists():
        packages = "--include=python3,python3-venv,ca-certificates"
        command = ["debootstrap", "--variant=minbase", packages, "bookworm", folder]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    yield folder
    if not given:
        shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("debootstrap"), reason="needs root and Debian's package debootstrap"
)
def test_the_steps_lead_to_a_demo_that_runs(root, tmp_path):
    context = tmp_path / "context"  # what is committed: .dockerignore names nothing of it
    subprocess.run(["git", "clone", "-q", "--no-local", REPOSITORY, context], check=True)
    (base, python), *steps, (last, command) = instructions()
    assert (base, python, last) == ("FROM", "python:3.11-slim", "CMD")
    image = Image(root, context)
    image.run("python3 --version | grep 'Python 3\\.11\\.'")
    for step in steps:
        image.carry_out(*step)
    # The demo at a tiny size, by the command of the image.
    shutil.copy(context / TINY, image.root / "virtex/presets/demo.yaml")
    words = re.findall(r'"([^"]+)"', command)
    said = image.run(shlex.join(words))
    assert "Report: outputs/report/report.html" in said
    assert (image.root / "virtex/outputs/report/report.html").is_file()
    image.run(".venv/bin/virtex status --check")
