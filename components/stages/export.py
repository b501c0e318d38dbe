"""Stage ``export``: the pretrained backbone alone, without the textual head."""

from components import params
from components.core import paths
from components.core.tensor_files import tensors_sha256
from components.entry import run_stage
from components.export.backbone import example_images, export_backbone, load_backbone
from components.objectives.saved import load_captioner
from components.tracking import StageRun

SECTIONS = ()


def main(run: StageRun) -> None:
    """Write the backbone of the pretrained captioner and log it as a model."""
    objective, config = load_captioner(paths.CAPTIONER)
    details = {
        "objective": config.objective.name,
        "pretraining_config": config.model_dump_json(),
        # Not of the header: a change of how the captioner captions is none of the backbone.
        "captioner_tensors_sha256": tensors_sha256(paths.CAPTIONER),
    }
    path = paths.backbone_path(params.PRETRAINED)
    export_backbone(
        objective.visual.get_submodule("cnn"), path, config.backbone.name, params.PRETRAINED, details
    )
    backbone, metadata = load_backbone(path)
    run.model("backbone", backbone, example_images())
    run.artifact(path)
    run.metrics(
        {
            "feature_size": int(metadata["feature_size"]),
            "num_parameters": sum(parameter.numel() for parameter in backbone.parameters()),
            "file_bytes": path.stat().st_size,
        }
    )


if __name__ == "__main__":
    run_stage("export", SECTIONS, main)
