import json
from pathlib import Path

import pytest

from components.core.errors import InputError
from components.core.published import BEST_MODEL, MODELS
from components.export.zoo.catalogue import DROPBOX_KEYS, ZOO, zoo_model, zoo_name


def test_every_published_model_has_its_checkpoint() -> None:
    assert {zoo_name(model) for model in MODELS} == set(DROPBOX_KEYS) == set(ZOO)
    assert len({model.url for model in ZOO.values()}) == len(MODELS)
    best = zoo_model("bicaptioning_R_50_L1_H2048")
    assert best.published is BEST_MODEL
    assert best.url.endswith("/bicaptioning_R_50_L1_H2048.pth?dl=1")


def test_names_are_those_of_the_authors_configurations(golden_dir: Path) -> None:
    golden = json.loads((golden_dir / "state_dict_keys.json").read_text(encoding="utf-8"))
    assert {Path(path).stem for path in golden["configs"]} <= set(ZOO)


def test_a_wrong_name_is_told_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean `bicaptioning_R_101_L1_H1024`"):
        zoo_model("bicaptioning_R_101_L1_1024")
