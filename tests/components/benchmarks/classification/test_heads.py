from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from components import params
from components.benchmarks.classification.heads import (
    ClassificationObjective,
    ParallelLinearHeads,
    cross_entropies,
    ranked_classes,
)
from components.benchmarks.classification.imagenet_linear import build_probe, probe_heads
from components.training.optimizer import parameter_groups, sgd

SIZE, CLASSES, BATCH = 6, 7, 5
PROBE = params.ImagenetLinear(
    seed=4,
    image_size=40,
    crop_size=32,
    crop_scale=(0.08, 1.0),
    batch_size=BATCH,
    epochs=3,
    learning_rate=0.3,
    more_learning_rates=[0.01, 3.0, 30.0],
    holdout=0.0,
    momentum=0.9,
    precision="fp32",
    validate_every=1,
    checkpoint_every=2,
    log_every=2,
)


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def backbone() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, SIZE, 8, 8), nn.BatchNorm2d(SIZE), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )


def batch(number: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(number)
    return {
        "image": torch.randn(BATCH, 3, 32, 32, generator=generator),
        "label": torch.randint(CLASSES, (BATCH,), generator=generator),
    }


def plain_sgd(objective: ClassificationObjective, rate: float) -> torch.optim.SGD:
    groups = parameter_groups(objective, backbone_lr=rate, head_lr=rate, weight_decay=0.0)
    return sgd(groups, momentum=0.9)


def trained(probe: params.ImagenetLinear, num_iterations: int = 12) -> ClassificationObjective:
    objective = build_probe(backbone(), SIZE, CLASSES, probe)
    optimizer = plain_sgd(objective, probe.learning_rate)
    for iteration in range(num_iterations):
        optimizer.zero_grad()
        objective(batch(iteration)).loss.backward()
        optimizer.step()
    return objective


def test_parallel_heads_equal_separately_trained_ones() -> None:
    together = trained(PROBE)
    for head, rate in enumerate(PROBE.learning_rates):
        alone = trained(PROBE.model_copy(update={"learning_rate": rate, "more_learning_rates": []}))
        torch.testing.assert_close(together.heads.weight[head], alone.heads.weight[0], rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(together.heads.bias[head], alone.heads.bias[0], rtol=1e-6, atol=1e-9)
    spread = together.heads.weight.std(dim=0)
    assert spread.min() > 1e-6  # they are different heads indeed


def test_a_separately_trained_head_is_plain_softmax_regression() -> None:
    settings = PROBE.model_copy(update={"more_learning_rates": []})
    objective = trained(settings)
    torch.manual_seed(settings.seed)
    linear = nn.Linear(SIZE, CLASSES)
    with torch.no_grad():
        linear.weight.copy_(build_probe(backbone(), SIZE, CLASSES, settings).heads.weight[0])
        linear.bias.zero_()
    cnn = backbone().eval()
    optimizer = torch.optim.SGD(linear.parameters(), lr=0.3, momentum=0.9)
    for iteration in range(12):
        values = batch(iteration)
        with torch.no_grad():
            features = cnn(values["image"])
        optimizer.zero_grad()
        F.cross_entropy(linear(features), values["label"]).backward()
        optimizer.step()
    torch.testing.assert_close(objective.heads.weight[0], linear.weight, rtol=1e-9, atol=1e-12)


def test_a_frozen_backbone_does_not_move_by_a_bit() -> None:
    before, after = backbone().state_dict(), trained(PROBE).visual.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_backbone_that_is_trained_moves_with_its_statistics() -> None:
    objective = ClassificationObjective(backbone(), ParallelLinearHeads(1, SIZE, CLASSES), frozen=False)
    optimizer = plain_sgd(objective, 0.1)
    objective(batch(0)).loss.backward()
    optimizer.step()
    before = backbone().state_dict()
    moved = {name for name, value in objective.visual.state_dict().items() if not value.equal(before[name])}
    assert {"0.weight", "1.weight", "1.running_mean"} <= moved


def test_several_heads_on_a_trained_backbone_are_refused() -> None:
    heads = ParallelLinearHeads(2, SIZE, CLASSES)
    with pytest.raises(ValueError, match="several directions"):
        ClassificationObjective(backbone(), heads, names=["a", "b"], rate_factors=[1, 2], frozen=False)


def test_ready_features_stand_for_their_images() -> None:
    objective = trained(PROBE).eval()
    values = batch(50)
    from_images = objective(values)
    features = objective.visual(values["image"])
    from_features = objective({"features": features, "label": values["label"]})
    torch.testing.assert_close(from_images.parts, from_features.parts)
    torch.testing.assert_close(from_images.loss, from_features.loss)


def test_figures_of_every_head_have_its_name() -> None:
    objective, values = trained(PROBE), batch(50)
    output = objective(values)
    names = [head.name for head in probe_heads(PROBE)]
    assert names == ["_lr0.3", "_lr0.01", "_lr3", "_lr30"]
    assert set(output.parts) == {f"{figure}{name}" for figure in ("loss", "top1", "top5") for name in names}
    logits = objective.logits(values)
    for name, of_head in zip(names, logits, strict=True):
        assert output.parts[f"loss{name}"] == pytest.approx(F.cross_entropy(of_head, values["label"]).item())
        right = (of_head.argmax(dim=1) == values["label"]).double().mean()
        assert output.parts[f"top1{name}"] == pytest.approx(100 * right.item())
    assert output.loss.item() == pytest.approx(output.parts["loss_lr0.3"].item())
    assert output.num_tokens == BATCH


def test_one_head_has_plain_names() -> None:
    objective = trained(PROBE.model_copy(update={"more_learning_rates": []}))
    assert set(objective(batch(0)).parts) == {"top1", "top5"}


def test_heads_start_equal_and_small() -> None:
    heads = ParallelLinearHeads(3, 200, 100)
    assert torch.equal(heads.weight[0], heads.weight[2])
    assert heads.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not heads.bias.any()


def test_heads_stay_exact_under_autocast() -> None:
    heads, features = ParallelLinearHeads(2, SIZE, CLASSES).float(), torch.randn(4, SIZE).float()
    with torch.autocast("cpu", torch.bfloat16):
        logits = heads(features)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, heads(features))


def test_cross_entropies_a_head() -> None:
    logits, labels = torch.randn(3, BATCH, CLASSES), torch.arange(BATCH)
    expected = [F.cross_entropy(of_head, labels) for of_head in logits]
    torch.testing.assert_close(cross_entropies(logits, labels), torch.stack(expected))


def test_fewer_classes_than_five_are_all_ranked() -> None:
    assert ranked_classes(torch.tensor([[0.1, 0.9, 0.5]])).tolist() == [[1, 2, 0]]
