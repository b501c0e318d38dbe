"""hubconf.py with nothing but torch and torchvision, and weights from a local server."""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torchvision
from torch import nn

from components.export.formats import export_torchvision
from components.export.zoo.catalogue import ZOO

REPOSITORY = Path(__file__).resolve().parent.parent
# Hides every installed package but torch, torchvision and what these require, and our own.
BLOCKER = """
import re, sys
from importlib.metadata import distribution, packages_distributions, PackageNotFoundError

def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()

needed, waiting = set(), ["torch", "torchvision"]
while waiting:
    name = canonical(waiting.pop())
    if name in needed:
        continue
    try:
        requires = distribution(name).requires or []
    except PackageNotFoundError:
        continue
    needed.add(name)
    waiting += [re.match(r"[A-Za-z0-9._-]+", r)[0] for r in requires if "extra ==" not in r]
blocked = {
    module for module, owners in packages_distributions().items()
    if not any(canonical(owner) in needed for owner in owners)
} | {"components", "pipelines"}

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in blocked else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
"""


@pytest.fixture
def hubconf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("VIRTEX_WEIGHTS_URL", raising=False)
    spec = importlib.util.spec_from_file_location("hubconf", REPOSITORY / "hubconf.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_authors_checkpoint(path: Path, cnn: nn.Module) -> str:
    """A whole model in the authors' layout around ``cnn``; gives the file's SHA-256."""
    trunk = {f"visual.cnn.{name}": t for name, t in cnn.state_dict().items() if not name.startswith("fc.")}
    torch.save({"model": {"textual.output.bias": torch.zeros(3), **trunk}, "iteration": 500000}, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_torch_hub_needs_torch_and_torchvision_only(file_server, tmp_path: Path) -> None:
    torch.manual_seed(0)
    cnn = torchvision.models.resnet50().eval()
    checksum = write_authors_checkpoint(file_server.folder / "bicaptioning_R_50_L1_H2048.pth", cnn)
    code = BLOCKER + textwrap.dedent(f"""
        import json, torch
        try:
            import pydantic
        except ModuleNotFoundError:
            pass
        else:
            raise SystemExit("nothing is hidden")
        options = {{"source": "local", "pretrained": True, "progress": False}}
        model = torch.hub.load({str(REPOSITORY)!r}, "resnet50", **options)
        images = torch.linspace(-2, 2, 2 * 3 * 64 * 64).reshape(2, 3, 64, 64)
        with torch.no_grad():
            print(json.dumps(model.eval()(images).tolist()))
    """)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {
        "TORCH_HOME": str(tmp_path / "torch"),
        "VIRTEX_WEIGHTS_URL": f"{file_server.url}/{{name}}.pth#sha256={checksum}",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    cnn.fc = nn.Identity()
    with torch.no_grad():
        expected = cnn(torch.linspace(-2, 2, 2 * 3 * 64 * 64).reshape(2, 3, 64, 64))
    torch.testing.assert_close(torch.tensor(json.loads(done.stdout)), expected, rtol=1e-4, atol=1e-5)
    assert file_server.requests == ["/bicaptioning_R_50_L1_H2048.pth"]


def test_addresses_are_those_of_the_zoo(hubconf: ModuleType) -> None:
    assert {name: ZOO[name].url for name in hubconf.PUBLISHED} == hubconf.PUBLISHED
    architectures = [ZOO[name].published.setup.backbone for name in hubconf.PUBLISHED]
    architectures += ["resnet18", "resnet34"]  # of one's own
    # What torch.hub.list and torch.hub.help show.
    names = [name for name, value in vars(hubconf).items() if callable(value) and name[0] != "_"]
    assert sorted(names) == sorted(architectures)
    for name in names:
        assert "mAP" in getattr(hubconf, name).__doc__


@pytest.fixture
def small(hubconf: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """``resnet50`` builds a ResNet-18 here, for the sake of time."""
    get_model = torchvision.models.get_model
    monkeypatch.setattr("torchvision.models.get_model", lambda _, **options: get_model("resnet18", **options))
    return hubconf


def test_weights_by_path_and_from_the_cache(small: ModuleType, file_server) -> None:
    cnn = torchvision.models.resnet18()
    path = file_server.folder / "x.pth"
    torch.save(cnn.state_dict(), path)
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    url = f"{file_server.url}/x.pth?dl=1"
    for weights in (str(path), f"{path}#sha256={checksum}", url, f"{url}#sha256={checksum.upper()}"):
        model = small.resnet50(weights=weights, progress=False)
        assert torch.equal(model.layer4[0].conv1.weight, cnn.layer4[0].conv1.weight)
        assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 512)
    assert file_server.requests == ["/x.pth?dl=1"]
    assert not torch.equal(small.resnet50().conv1.weight, cnn.conv1.weight)


@pytest.mark.parametrize("architecture", ["resnet18", "resnet34"])
def test_small_networks_take_weights_of_ones_own(
    hubconf: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, architecture: str
) -> None:
    """As `virtex export --format torchvision` writes them."""
    cnn = torchvision.models.get_model(architecture).eval()
    export_torchvision(cnn, {"architecture": architecture}, tmp_path / "virtex_torchvision.pth")
    build = getattr(hubconf, architecture)
    for model in (
        build(weights=str(tmp_path / "virtex_torchvision.pth")),
        torch.hub.load(
            str(REPOSITORY), architecture, source="local", weights=str(tmp_path / "virtex_torchvision.pth")
        ),
    ):
        assert torch.equal(model.layer4[1].conv2.weight, cnn.layer4[1].conv2.weight)
        assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 512)
    with pytest.raises(ValueError, match=f"{architecture}: the authors have published no weights"):
        build(pretrained=True)
    monkeypatch.setenv("VIRTEX_WEIGHTS_URL", str(tmp_path / "{name}.pth"))
    with pytest.raises(FileNotFoundError, match=rf"{architecture}\.pth: no such file"):
        build(pretrained=True)


def test_a_wrong_checksum_is_refused_and_leaves_nothing(
    small: ModuleType, file_server, tmp_path: Path
) -> None:
    torch.save(torchvision.models.resnet18().state_dict(), file_server.folder / "x.pth")
    wrong = f"#sha256={'0' * 64}"
    with pytest.raises(RuntimeError, match=r"x\.pth: cannot be fetched \(invalid hash value"):
        small.resnet50(weights=f"{file_server.url}/x.pth{wrong}", progress=False)
    assert not list((tmp_path / "torch" / "hub" / "virtex").iterdir())
    with pytest.raises(RuntimeError, match="its SHA-256 is not 000"):
        small.resnet50(weights=f"{file_server.folder}/x.pth{wrong}")
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        small.resnet50(weights=f"{file_server.folder}/x.pth#sha256=12")


def test_what_cannot_be_had_or_read_says_what_to_do(small: ModuleType, file_server) -> None:
    with pytest.raises(RuntimeError, match=r"give its path as `weights`, or set VIRTEX_WEIGHTS_URL"):
        small.resnet50(weights=f"{file_server.url}/absent.pth")
    with pytest.raises(FileNotFoundError, match="no such file"):
        small.resnet50(weights="absent.pth")
    (file_server.folder / "page.pth").write_bytes(b"<html>")
    with pytest.raises(RuntimeError, match="no whole file of plain weights"):
        small.resnet50(weights=f"{file_server.folder}/page.pth")
    torch.save({"a": torch.zeros(1)}, file_server.folder / "other.pth")
    with pytest.raises(RuntimeError, match="no ResNet in it; it has a"):
        small.resnet50(weights=f"{file_server.folder}/other.pth")
    torch.save(torchvision.models.resnet34().state_dict(), file_server.folder / "34.pth")
    with pytest.raises(RuntimeError, match=r"34\.pth: not the weights of a resnet50"):
        small.resnet50(weights=f"{file_server.folder}/34.pth")
