import torch

from components.bench.device import matrix_rate
from components.bench.train import (
    QUICK,
    build,
    count_flops,
    drawn_batch,
    our_batch,
    our_step,
    plain_step,
    run,
)

CPU = torch.device("cpu")


def test_both_sides_take_the_same_steps_in_single_precision() -> None:
    batch = drawn_batch(QUICK, CPU)
    plain, ours = (build(QUICK, CPU) for _ in range(2))
    steps = plain_step(plain, CPU, "fp32"), our_step(ours, CPU, "fp32")
    for seed in range(3):
        losses = []
        for step, given in zip(steps, (batch, our_batch(batch)), strict=True):
            torch.manual_seed(seed)  # dropout
            losses.append(step(given))
        torch.testing.assert_close(losses[0], losses[1], rtol=1e-3, atol=1e-3)


def test_operations_grow_with_the_batch() -> None:
    step, batch = plain_step(build(QUICK, CPU), CPU, "fp32"), drawn_batch(QUICK, CPU)
    small = count_flops(step, batch)
    assert small > 1e6
    assert count_flops(step, {name: torch.cat([value, value]) for name, value in batch.items()}) == 2 * small


def test_quick_run_has_a_row_for_each_precision() -> None:
    rows = run(QUICK, rounds=1)
    assert [row.name.split()[-1] for row in rows] == ["fp32", "bf16"]
    assert all("GFLOP per image" in row.figures["arithmetic"] for row in rows)


def test_a_product_has_a_rate() -> None:
    assert matrix_rate(CPU, "fp32", side=64) > 1e6
