import subprocess
from types import SimpleNamespace

import pytest

from components.bench import gpu
from components.bench.gpu import PARTS, TESTS, as_table, measured, practical_ceiling, run
from components.core.errors import InputError
from components.core.files import read_json


def rows(rate: float) -> dict:
    spread = {"median": rate, "lower": rate, "upper": rate}
    figures = {"waiting for batches": "3.0%", "GPU idle": "4.0%", "the loader alone": "5,000 images/s"}
    return {
        "our_rate": spread,
        "baseline_rate": {"median": rate / 2}, "ratio": {"median": 2.0}, "figures": figures,
        "gpu_memory_gib": 40.5,
    }  # fmt: skip


def test_without_a_gpu_it_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(gpu, "torch", SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: False)))
    with pytest.raises(InputError, match=r"no GPU here; .*--quick"):
        run(tmp_path / "gpu.json", quick=False)
    assert not (tmp_path / "gpu.json").exists()


def test_what_is_cut_short_goes_on_where_it_was(tmp_path, capsys) -> None:
    path, seen = tmp_path / "gpu.json", []

    def measure(part: str, quick: bool, seconds: float) -> dict:
        seen.append(part)
        if len(seen) == 3:
            raise subprocess.TimeoutExpired(part, seconds)
        return {"passed": True, "summary": "4 passed"} if part == TESTS else rows(3050.0)

    run(path, quick=True, measure=measure)
    assert list(read_json(path)["parts"]) == list(PARTS[:2])
    assert f"Not measured yet: {', '.join(PARTS[2:])}" in as_table(read_json(path))
    content = run(path, quick=True, measure=measure)
    assert seen == [*PARTS[:3], *PARTS[2:]]
    assert list(content["parts"]) == list(PARTS) == list(read_json(path)["parts"])
    table = as_table(content)
    assert "Not measured" not in table
    assert "| H1024 bf16 | 3,050 | 1,525 | 2x | 50% of 6,0" in table
    assert f"| {TESTS} | 4 passed |" in table
    run(path, quick=True, measure=measure)
    assert len(seen) == len(PARTS) + 1
    assert "going on" in capsys.readouterr().out


def test_a_part_that_needs_more_than_all_the_time_does_not_stop_the_others(tmp_path) -> None:
    def measure(part: str, quick: bool, seconds: float) -> dict:
        if part == PARTS[0]:
            raise subprocess.TimeoutExpired(part, seconds)
        return rows(1.0)

    content = run(tmp_path / "gpu.json", quick=True, measure=measure)
    assert content["parts"][PARTS[0]] == {"error": "not done in 600 s"}
    assert list(content["parts"]) == list(PARTS)


@pytest.mark.parametrize("other", [{"quick": False}, {"machine": {}}])
def test_figures_of_elsewhere_do_not_count(other: dict, tmp_path) -> None:
    path = tmp_path / "gpu.json"
    run(path, quick=True, measure=lambda *_: rows(1.0))
    gpu.write_json(path, read_json(path) | other)
    assert gpu._begun(path, True, gpu.hardware())["parts"] == {}


def test_no_time_is_no_part(tmp_path) -> None:
    assert run(tmp_path / "gpu.json", quick=True, seconds=0.0)["parts"] == {}


def test_a_part_that_fails_says_why_and_the_others_go_on(tmp_path, monkeypatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "Traceback\nRuntimeError: out of memory\n")
    monkeypatch.setattr(gpu, "subprocess", SimpleNamespace(run=lambda *_, **__: failed, PIPE=subprocess.PIPE))
    assert gpu._in_process(PARTS[0], True, 9.0) == {"error": "RuntimeError: out of memory"}
    assert "| RuntimeError: out of memory |" in as_table(
        {"parts": {PARTS[0]: {"error": "RuntimeError: out of memory"}}}
    )


def test_the_ceiling_is_the_computed_one() -> None:
    assert practical_ceiling(1024) == pytest.approx(6100, rel=0.01)
    assert practical_ceiling(2048) == pytest.approx(4800, rel=0.01)


@pytest.mark.parametrize("part", ["H1024 bf16", "decode"])
def test_a_part_in_tiny_sizes(part: str, monkeypatch) -> None:
    monkeypatch.setenv("VIRTEX_DEVICE", "cpu")
    found = measured(part, quick=True)
    assert found["our_rate"]["median"] > 0
    assert as_table({"parts": {part: found}}).count(part) >= 1
