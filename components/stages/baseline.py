"""Stage ``baseline``: a backbone to compare the pretrained one with, in the same format."""

from components import params
from components.core import paths
from components.entry import run_stage
from components.export.zoo.resnets import make_baseline
from components.models.backbones import export_backbone
from components.tracking import StageRun

SECTIONS = (params.Baseline, params.Backbone)


def main(run: StageRun, baseline: params.Baseline, backbone: params.Backbone) -> None:
    """Write the baseline ``run.item``."""
    assert run.item is not None
    made = make_baseline(baseline.sources[run.item], baseline.seed, backbone)
    path = paths.backbone_path(run.item)
    metadata = export_backbone(made.cnn, path, made.architecture, run.item, made.details)
    run.model_elsewhere(run.item, path)
    run.metrics(
        {
            "feature_size": int(metadata["feature_size"]),
            "num_parameters": sum(parameter.numel() for parameter in made.cnn.parameters()),
            "file_bytes": path.stat().st_size,
        }
    )


def names() -> list[str]:
    """Return the names that params.yaml gives a source."""
    return list(params.read_section(params.Baseline).sources)


if __name__ == "__main__":
    run_stage("baseline", SECTIONS, main, names)
