"""What can never fit is refused, and nothing that would run."""

from pathlib import Path

import psutil
import pytest

from components import params
from components.core import memory
from components.core.errors import InputError
from components.core.memory import batch_bytes, machine_memory, require_memory
from components.objectives.build import ModelConfig, build_objective, model_bytes
from components.params import overlay, section_of

REPOSITORY = Path(__file__).resolve().parents[3]


def config(**head: int) -> ModelConfig:
    sections = params.check_params(REPOSITORY / "params.yaml")
    textual = section_of(sections, params.TextualHead).model_copy(update=head)
    parts = {"backbone": sections["backbone"], "objective": sections["objective"], "textual_head": textual}
    return ModelConfig.model_validate({**parts, "vocab_size": 100})


def test_the_keys_the_estimate_and_what_there_is_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "machine_memory", lambda: (24e9, 1e9))
    monkeypatch.setattr(psutil, "swap_memory", lambda: type("swap", (), {"total": 1e9}))
    require_memory("cpu", {"a batch": 25e9})  # all of it, however much is in use now
    with pytest.raises(InputError) as caught:
        require_memory("cpu", {"the model (a 1)": 20e9, "a batch (b 2)": 6e9})
    assert str(caught.value) == (
        "this takes at least 26.0 GB of memory (20.0 GB for the model (a 1); 6.0 GB for a batch (b 2)), and "
        "cpu has 25.0 GB in all: choose smaller values"
    )


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_a_models_bytes_are_those_of_its_weights(layers: int) -> None:
    wanted = config(num_layers=layers)
    tensors = build_objective(wanted).state_dict().values()
    by_place = {value.data_ptr(): value.numel() * value.element_size() for value in tensors}
    assert model_bytes(wanted) == pytest.approx(sum(by_place.values()), rel=1e-3)


@pytest.mark.parametrize(
    "head",
    [
        {"hidden_size": 1_000_000},
        {"hidden_size": 2**62},
        {"num_layers": 10**9},
        {"feedforward_size": 10**15},
        {"max_caption_length": 10**15},
    ],
)
def test_a_model_for_no_machine_is_counted_without_making_it(head: dict[str, int]) -> None:
    with pytest.raises(InputError, match=r"this takes at least .* of memory"):
        require_memory("cpu", {"the model": model_bytes(config(**head))})


def test_batches() -> None:
    assert batch_bytes(256, 224) < 1e9  # the paper's, which runs on each GPU and most machines
    with pytest.raises(InputError, match=r"at least 2,207,744\.0 GB"):
        require_memory("cpu", {"a batch": batch_bytes(10**9, 224)})


def test_shipped_configurations_fit_where_they_are_meant_to_run(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text((REPOSITORY / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    overlay("demo", [], path, REPOSITORY / "presets")
    sections = params.check_params(path)
    pretrain = section_of(sections, params.Pretrain)
    size = section_of(sections, params.Augmentation).crop_size
    assert batch_bytes(pretrain.batch_size, size) < machine_memory()[0]
