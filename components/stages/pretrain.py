"""Stage 4, ``pretrain``: learn a backbone and a head from captioned or labelled images."""

from typing import Any

from components import params
from components.entry import run_stage
from components.pretraining.run import pretrain_model
from components.tracking import StageRun

SECTIONS = (
    params.Augmentation,
    params.Backbone,
    params.TextualHead,
    params.Objective,
    params.Subset,
    params.Optimizer,
    params.Schedule,
    params.Pretrain,
)


def main(run: StageRun, *sections: Any) -> None:
    """Train from the newest checkpoint of this configuration, if there is one; write the candidates."""
    params.check_params()  # what a later stage would refuse after the whole training; changes no output
    pretrain_model(run, *sections)


if __name__ == "__main__":
    run_stage("pretrain", SECTIONS, main, in_several_processes=True)
