"""The configuration reference has every key of params.yaml with its value, comment and rule."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from configuration_reference import accepted_values, configuration_page, read_sections
from ruamel.yaml import YAML

from components.params.presets import FREE_MAPPINGS

REPOSITORY = Path(__file__).resolve().parents[2]
TEXT = (REPOSITORY / "params.yaml").read_text(encoding="utf-8")


def keys(tree: Mapping[str, Any], parents: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in tree.items():
        location = (*parents, key)
        if isinstance(value, Mapping) and value and location not in FREE_MAPPINGS:
            yield from keys(value, location)
        else:
            yield location, value


def test_every_key_and_value_is_there() -> None:
    yaml = YAML(typ="safe")
    found = {
        (section.name, *entry.path.split(".")): yaml.load(entry.value)
        for section in read_sections(TEXT)
        for entry in section.entries
        if entry.value
    }
    assert found == dict(keys(yaml.load(TEXT)))


def test_no_word_of_a_comment_is_lost() -> None:
    """All comments but the file's own, at its top."""
    body = TEXT[TEXT.index("\ndownload:") :]
    lines = [line.partition("# ")[2] for line in body.splitlines() if "# " in line]
    written = " ".join(
        f"{section.comment} {' '.join(entry.comment for entry in section.entries)}"
        for section in read_sections(TEXT)
    )
    assert sorted(" ".join(lines).split()) == sorted(written.split())


def test_comments_belong_to_their_keys() -> None:
    sections = {section.name: {e.path: e.comment for e in section.entries} for section in read_sections(TEXT)}
    assert sections["voc07"]["folds"].startswith("cross-validation on trainval")
    assert sections["pretrain"]["keep_candidates"].endswith("in outputs/ and in DVC's cache")
    assert sections["baseline"]["sources"].startswith("name: where its weights come from")


def test_what_a_key_accepts() -> None:
    assert accepted_values("voc07")["folds"] == "whole number ≥ 2"
    assert accepted_values("pretrain")["precision"] == "auto, fp32, fp16, bf16"
    assert accepted_values("lmdb")["short_side"] == "whole number ≥ 16 or null"
    assert accepted_values("download")["drawn_world.seed"] == "whole number ≥ 0"
    for section in read_sections(TEXT):
        assert set(accepted_values(section.name)) == {e.path for e in section.entries if e.value}


def test_the_page_says_which_stages_watch_a_section() -> None:
    page = configuration_page(TEXT, (REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))
    assert (
        "## voc07\n\nappendix A; frozen backbone, linear SVMs\n\n"
        "Watched by: `select`, `voc07`, `probes`, `report`." in page
    )
