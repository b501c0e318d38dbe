"""The model card of an exported backbone: what it is, what it learned from, what was measured."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.core import paths
from components.core.files import parse_json, read_json_object
from components.core.foreign_text import markdown_text
from components.core.published import BENCHMARKS, SOURCE, TRANSFORMER_OBJECTIVES, Benchmark
from components.dataset_titles import DRAWN, dataset_title, layout_note, read_titles
from components.params import PRETRAINED, TIMM, is_timm

_SECTIONS = """
## Pretraining

{pretraining}

## Figures

{figures}

## Caveats

{caveats}
"""
CARD = (
    """---
library_name: timm
pipeline_tag: image-feature-extraction
tags: [virtex, {tags}]
---

# {title}

{network} without its classifier: images `(batch, 3, height, width)` to features
`(batch, {feature_size})`.{origin}

```python
import timm

model = timm.create_model("local-dir:{title}", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
{features}
```
"""
    + _SECTIONS
    + """
## Licence

None is stated: whoever publishes this folder chooses one and adds `license:` to the header, minding the
terms of the data above. Photographs and captions keep the licences of their owners.

## Citation

```bibtex
@inproceedings{{desai2021virtex,
  title = {{VirTex: Learning Visual Representations from Textual Annotations}},
  author = {{Karan Desai and Justin Johnson}},
  booktitle = {{CVPR}},
  year = {{2021}},
  note = {{{source}}}
}}
```
"""
)
FEATURES = "features = model(transform(image).unsqueeze(0))  # image: a PIL image in RGB"
TIMM_FEATURES = """features = model.forward_features(transform(image).unsqueeze(0))  # image: PIL, RGB
features = {pooling}  # the mean of all places; not model(image), which pools with untrained layers"""
REGISTRY_CARD = (
    """{network} without its classifier, pretrained on captions
(VirTex, {source}).

```python
import mlflow

backbone = mlflow.pytorch.load_model("models:/{name}@best")
features = backbone(images)  # (batch, 3, height, width), ImageNet mean and deviation taken out
```
"""
    + _SECTIONS
)
NOT_STATED = "Not stated in the file that was exported."


def model_card(metadata: Mapping[str, str], title: str, pooling: str = "") -> str:
    """Write Markdown with the hub's header.

    Args:
        metadata: of the backbone's file, as `load_backbone` gives it, with the ``resolution`` if it is known.
        title: name of the model.
        pooling: of a network of timm, the expression of its pooled ``features``.
    """
    name = metadata.get("source", "")
    weights = _file_name(metadata.get("weights"))
    origin = f" Its weights: {markdown_text(weights)}." if weights else ""
    architecture = metadata["architecture"]
    return CARD.format(
        network=_network(architecture),
        tags=architecture.removeprefix(TIMM) if is_timm(architecture) else f"resnet, {architecture}",
        features=TIMM_FEATURES.format(pooling=pooling) if pooling else FEATURES,
        feature_size=metadata["feature_size"],
        title=markdown_text(title),
        origin=origin or (" Its weights are random." if name == "random" else ""),
        pretraining=_pretraining(metadata) if name == PRETRAINED else NOT_STATED,
        figures=_figures(name),
        caveats=_caveats(metadata),
        source=SOURCE,
    )


def registry_card(metadata: Mapping[str, str], name: str) -> str:
    """Write Markdown for a version of the registered model ``name``; it is this run's pretrained backbone.

    Args:
        metadata: of the backbone's file: architecture, objective, pretraining_config, resolution.
        name: in MLflow's registry.
    """
    return REGISTRY_CARD.format(
        network=_network(metadata["architecture"]),
        name=name,
        pretraining=_pretraining(metadata),
        figures=_figures(PRETRAINED),
        caveats=_caveats(metadata),
        source=SOURCE,
    )


def _network(architecture: str) -> str:
    library = "timm's" if is_timm(architecture) else "A torchvision"
    return f"{library} `{architecture.removeprefix(TIMM)}`"


def _caveats(metadata: Mapping[str, str]) -> str:
    resolution, lines = metadata.get("resolution"), []
    if metadata.get("source", PRETRAINED) == PRETRAINED and read_titles().get("source") == DRAWN:
        lines.append("It has seen drawn shapes only and is no backbone for photographs.")
    if resolution:
        lines.append(
            f"It was trained on crops of {resolution} x {resolution} pixels; other sizes need a measurement."
        )
    lines.append("Figures are those of one training with one seed, measured on the data named beside them.")
    lines.append("What its images and captions show or mention seldom, it tells apart badly.")
    return "\n".join(f"- {line}" for line in lines)


def _pretraining(metadata: Mapping[str, str]) -> str:
    config: dict[str, Any] = parse_json(metadata.get("pretraining_config", "{}"))
    manifest = read_titles()
    store, training = (
        read_json_object(paths.stage_dir(*stage) / "metrics.json")
        for stage in (("lmdb", "train"), ("pretrain",))
    )
    head = config.get("textual_head", {})
    facts = {
        "Task": metadata.get("objective"),
        "Textual head": f"L{head['num_layers']} H{head['hidden_size']}, {head['norm']}-norm"
        if head and metadata.get("objective") in TRANSFORMER_OBJECTIVES
        else None,
        "Started from": _file_name(training.get("started_from")),
        "Data": _data(manifest),
        "Images": store.get("images"),
        "Captions": store.get("captions"),
        "Iterations": training.get("iterations"),
        "Images seen": training.get("images_seen"),
        "Resolution, pixels": metadata.get("resolution"),
        "Validation loss": training.get("val_loss"),
    }
    rows = [f"| {fact} | {_cell(_plain(value))} |" for fact, value in facts.items() if value is not None]
    return "\n".join(["| | |", "|---|---|", *rows])


def _file_name(source: str | None) -> str | None:
    """Return where weights came from; folders of this machine mean nothing elsewhere."""
    return source if source is None or "://" in source else Path(source).name


def _data(manifest: Mapping[str, Any]) -> str | None:
    if manifest.get("source") == DRAWN:
        return "the drawn world: synthetic scenes with captions, made by this project"
    return ", ".join(dataset_title(name, manifest) for name in manifest.get("captions", ())) or None


def _figures(name: str) -> str:
    """Tabulate what the run's benchmarks measured for the backbone ``name``, or say that nothing was.

    Beside the pretrained one's stand those of the random baseline.
    """
    rows, manifest = [], read_titles()
    for benchmark in BENCHMARKS:
        if not benchmark.compares_backbones and name != PRETRAINED:
            continue
        value = _figure(benchmark, name)
        if name and value is not None:
            title = benchmark.title + layout_note(benchmark.name, manifest)
            random = (
                _figure(benchmark, "random") if benchmark.compares_backbones and name == PRETRAINED else None
            )
            beside = "" if random is None else f"{random:.1f}"
            rows.append(f"| {_cell(title)} | {benchmark.metric_title} | {value:.1f} | {beside} |")
    if not rows:
        return "None measured by the run that made it."
    header = ["| Benchmark | Metric | Percent | Random network |", "|---|---|---:|---:|"]
    return "\n".join(
        ["Measured by the run that made it, on the data of its configuration:", "", *header, *rows]
    )


def _figure(benchmark: Benchmark, name: str) -> float | None:
    item = name if benchmark.compares_backbones else None
    value = read_json_object(paths.stage_dir(benchmark.name, item) / "metrics.json").get(benchmark.metric)
    return value if isinstance(value, int | float) else None


def _cell(text: str) -> str:
    return markdown_text(text).replace("|", "\\|")


def _plain(value: Any) -> str:
    return (
        f"{value:,}" if isinstance(value, int) else f"{value:.3f}" if isinstance(value, float) else str(value)
    )
