"""Stage ``baseline``: a backbone to compare the pretrained one with, in the same format."""

from components import params, paths
from components.entry import run_stage
from components.export.backbone import export_backbone
from components.export.baselines import BASELINES
from components.tracking import StageRun

SECTIONS = (params.Baseline, params.Backbone)
ITEMS = tuple(BASELINES)


def main(run: StageRun, baseline: params.Baseline, backbone: params.Backbone) -> None:
    """Write the baseline ``run.item``."""
    assert run.item is not None
    cnn = BASELINES[run.item](baseline, backbone)
    path = paths.backbone_path(run.item)
    metadata = export_backbone(cnn, path, backbone.name, run.item, {"seed": str(baseline.seed)})
    run.metrics(
        {
            "feature_size": int(metadata["feature_size"]),
            "num_parameters": sum(parameter.numel() for parameter in cnn.parameters()),
            "file_bytes": path.stat().st_size,
        }
    )


if __name__ == "__main__":
    run_stage("baseline", SECTIONS, main, ITEMS)
