"""Presets and ``--set``: what is laid over params.yaml is in force, or nothing is written."""

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from properties import both_sizes
from ruamel.yaml import YAML

from components import params
from components.core.errors import InputError
from components.params import overlay

REPOSITORY = Path(params.__file__).parents[2]
WRITTEN = (REPOSITORY / "params.yaml").read_text(encoding="utf-8")

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "tokenize.vocab_size": st.integers(20, 10_000),
    "lmdb.short_side": st.none() | st.integers(16, 2000),
    "lmdb.on_unreadable": st.sampled_from(["refuse", "skip"]),
    "optimizer.momentum": st.floats(0, 0.99),
    "pretrain.seed": st.integers(0, 2**31),
    "download.own_data.caption_column": st.text(
        st.characters(min_codepoint=32, exclude_categories=["C"]), min_size=1
    ),
    "voc07.costs": st.lists(st.floats(0.001, 100.0), min_size=1, max_size=4, unique=True).map(sorted),
    "objective.name": st.sampled_from(["bicaptioning", "captioning", "masked_lm"]),
}
CHOSEN = st.dictionaries(st.sampled_from(sorted(VALUES)), st.none(), min_size=1).flatmap(
    lambda names: st.fixed_dictionaries({name: VALUES[name] for name in names})
)


def at(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree[part]
    return tree


@both_sizes(4, 100)
def test_a_preset_is_in_force_as_written_and_only_that(profile: settings) -> None:
    @profile
    @given(CHOSEN)
    def check(chosen: dict[str, Any]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path, presets = Path(folder) / "params.yaml", Path(folder) / "presets"
            path.write_text(WRITTEN, encoding="utf-8")
            presets.mkdir()
            preset: dict[str, Any] = {}
            for key, value in chosen.items():
                *parents, last = key.split(".")
                section = preset
                for parent in parents:
                    section = section.setdefault(parent, {})
                section[last] = value
            YAML().dump(preset, presets / "mine.yaml")
            before = YAML(typ="safe").load(WRITTEN)
            changes = overlay("mine", (), path, presets)
            after = YAML(typ="safe").load(path)
            assert {key: at(after, key) for key in chosen} == chosen
            assert {change.key for change in changes} == {
                key for key, value in chosen.items() if at(before, key) != value
            }
            assert overlay("mine", (), path, presets) == []
            assert path.read_text(encoding="utf-8").count("#") >= WRITTEN.count("#")
            for key in chosen:  # all else stays
                *parents, last = key.split(".")
                at(after, ".".join(parents))[last] = at(before, key)
            assert after == before

    check()


NAMES = [*sorted(VALUES), "download.folders.captions", "baseline.sources", "no.such", "pretrain", ""]
SIGNS = st.characters() | st.sampled_from(":#{}[]&*!|>'\"%@`,-?\n\t \\\x00\x85\u2028\ud83d=0n~")


@both_sizes(15, 200)
def test_any_override_is_in_force_or_refused_and_nothing_written(profile: settings) -> None:
    @profile
    @given(
        st.sampled_from(NAMES),
        st.sampled_from(["=", "", "=="]),
        st.text(SIGNS | st.characters(), max_size=12),
    )
    def check(name: str, sign: str, text: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "params.yaml"
            path.write_text(WRITTEN, encoding="utf-8")
            try:
                overlay(None, [f"{name}{sign}{text}"], path, Path(folder) / "presets")
            except InputError:
                assert path.read_text(encoding="utf-8") == WRITTEN
            params.check_params(path)

    check()
