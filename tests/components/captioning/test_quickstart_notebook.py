"""The notebook of examples/: its cells run on a tiny captioner; what is committed of it names no machine."""

import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from components.core import paths
from components.models.backbones import export_backbone
from components.objectives.saved import load_captioner

REPOSITORY = Path(__file__).resolve().parents[3]
CELLS = json.loads((REPOSITORY / "examples/quickstart.ipynb").read_text(encoding="utf-8"))["cells"]
CODE = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]


def test_its_three_lines_are_those_of_the_readme() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert readme.partition("```python\n")[2].partition("```")[0].strip() in CODE


def test_every_cell_runs(
    captioner_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    paths.CAPTIONER.parent.mkdir(parents=True)
    paths.CAPTIONER.symlink_to(captioner_path)
    cnn = load_captioner(captioner_path)[0].visual.cnn
    export_backbone(cnn, paths.backbone_path("virtex"), "resnet18", "virtex")
    for label, colour in (("dark", 60), ("light", 200)):
        folder = tmp_path / "data/datasets/imagenet/val" / label
        folder.mkdir(parents=True)
        for number in range(6):
            pixels = np.random.default_rng(number).integers(colour - 50, colour + 50, (70, 90, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    (tmp_path / "examples").mkdir()
    monkeypatch.chdir(tmp_path / "examples")
    monkeypatch.setattr(plt, "show", lambda: None)  # figures stay, as a notebook shows them

    names: dict[str, Any] = {}
    for code in CODE:
        exec(code, names)
    printed, figures = capsys.readouterr().out, plt.get_fignums()
    plt.close("all")

    assert "light/broken.jpg: not an image that can be read" in printed
    assert "12 images, 512 features each" in printed
    assert "100.0 % of 6 images right; guessing gives 50.0 %" in printed
    assert all(caption.text in printed for caption in names["captions"])
    assert len(figures) == 1 + len(names["captions"]) == 4
    with torch.inference_mode():
        expected = load_captioner(captioner_path)[0].eval().visual(names["images"]).mean(dim=(2, 3))
        torch.testing.assert_close(names["backbone"](names["images"]), expected)


def test_what_is_committed_was_shown_and_names_no_machine() -> None:
    outputs = [output for cell in CELLS for output in cell.get("outputs", ())]
    texts = [
        text for output in outputs for text in (output.get("text"), output.get("data", {}).get("text/plain"))
    ]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert not [line for text in texts for line in text or () if "/" in line]
