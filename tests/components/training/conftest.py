"""Sections with the values the training tests start from."""

import pytest

from components import params


@pytest.fixture
def optimizer_params() -> params.Optimizer:
    return params.Optimizer(
        backbone_lr=0.2,
        head_lr=0.001,
        momentum=0.9,
        weight_decay=1e-4,
        no_weight_decay=".*textual.(embedding|transformer).*(norm.*|bias)",
        lookahead_steps=5,
        lookahead_alpha=0.5,
        clip_grad_norm=10.0,
    )


@pytest.fixture
def schedule_params() -> params.Schedule:
    return params.Schedule(
        name="cosine", iterations=100, warmup_iterations=10, milestones=[40, 70], gamma=0.1
    )
