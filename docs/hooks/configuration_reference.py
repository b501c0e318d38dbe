"""The configuration reference: params.yaml's keys, values and comments as Markdown, and what each accepts.

params.yaml is read line by line, since its comments are what the page is made of. A comment belongs to the
key on its line or to the next key; one that goes on at the same column below a line belongs to that line.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML

from components.params.reading import SECTIONS

_VALUE = r"(?:'[^']*'|\"[^\"]*\"|[^#])*?"
_KEY = re.compile(rf"(?P<indent> *)(?P<key>\w+):(?: +(?P<value>{_VALUE}))? *(?:# *(?P<comment>.*))?$")
_COMMENT = re.compile(r"(?P<indent> *)# ?(?P<comment>.*)$")
_FARTHEST = 8  # columns that a key's own comment may be indented by; beyond them it continues a line's


@dataclass
class Entry:
    """One key: its name below the section (``drawn_world.seed``), value and comment as written."""

    path: str
    value: str
    comment: str


@dataclass
class SectionText:
    """A top-level section with what is said about it, and its keys in order."""

    name: str
    comment: str
    entries: list[Entry]


def configuration_page(params_text: str, dvc_text: str) -> str:
    """Return the page, from the texts of params.yaml and dvc.yaml."""
    parts = [
        "# Configuration reference",
        "All of params.yaml, with the values it ships with. This page is made from the file and its comments "
        "whenever the guide is built. `virtex run --set section.key=value` changes a key; "
        "[presets](../paper.md) change many.",
        "A stage runs again when a section that it watches changes, and so do the stages below it. In small "
        "letters: what a key accepts.",
    ]
    watchers = _watchers(dvc_text)
    for section in read_sections(params_text):
        parts += [f"## {section.name}", *filter(None, [section.comment])]
        names = ", ".join(f"`{name}`" for name in watchers.get(section.name, ()))
        parts += [f"Watched by: {names}."] if names else []
        parts += _tables(section)
    return "\n\n".join(parts) + "\n"


def read_sections(text: str) -> list[SectionText]:
    """Sections and keys of params.yaml's text, in order."""
    sections: list[SectionText] = []
    parents: list[str] = []
    waiting: list[str] = []  # lines of comment above the next key
    last: Entry | SectionText | None = None
    for line in text.splitlines():
        if match := _COMMENT.fullmatch(line):
            if len(match["indent"]) > _FARTHEST and last is not None:
                last.comment = f"{last.comment} {match['comment'].strip()}".strip()
            else:
                waiting.append(match["comment"])
        elif match := _KEY.fullmatch(line):
            depth = len(match["indent"]) // 2
            parents = [*parents[:depth], match["key"]]
            comment = (
                " ".join([*waiting, match["comment"] or ""]).strip() if sections else match["comment"] or ""
            )
            waiting = []
            if depth == 0:
                last = SectionText(match["key"], comment, [])
                sections.append(last)
            else:
                last = Entry(".".join(parents[1:]), match["value"] or "", comment)
                sections[-1].entries.append(last)
        elif not line.strip():
            waiting = [] if not sections else waiting
    return sections


def accepted_values(section: str) -> dict[str, str]:
    """Return what each key of a section accepts, in words, from the rules that check it."""
    schema = SECTIONS[section].model_json_schema()
    return dict(_accepted(schema, schema, ""))


def _accepted(schema: Mapping[str, Any], whole: Mapping[str, Any], parents: str) -> Iterator[tuple[str, str]]:
    for key, rule in schema.get("properties", {}).items():
        path = f"{parents}{key}"
        target = _resolved(rule, whole)
        if "properties" in target:
            yield from _accepted(target, whole, f"{path}.")
        else:
            yield path, _words(target, whole)


def _resolved(rule: Mapping[str, Any], whole: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = rule.get("$ref", "")
    return whole["$defs"][reference.rpartition("/")[2]] if reference else rule


def _words(rule: Mapping[str, Any], whole: Mapping[str, Any]) -> str:
    rule = _resolved(rule, whole)
    if "anyOf" in rule:
        return " or ".join(_words(option, whole) for option in rule["anyOf"])
    if "enum" in rule:
        return ", ".join(str(value) for value in rule["enum"])
    kind = rule.get("type")
    if kind == "array":
        if "prefixItems" in rule:
            return "two numbers" if len(rule["prefixItems"]) == 2 else f"{len(rule['prefixItems'])} numbers"
        return f"list of {_plural(_words(rule['items'], whole))}"
    if kind == "object":
        return "names and texts"
    words = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "text"}
    return f"{words.get(str(kind), str(kind))}{_bounds(rule)}"


def _plural(words: str) -> str:
    return re.sub(r"^(whole number|number|text)", r"\1s", words)


def _bounds(rule: Mapping[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    found = [f"{sign} {rule[name]:g}" for name, sign in signs.items() if name in rule]
    return f" {', '.join(found)}" if found else ""


def _watchers(dvc_text: str) -> dict[str, list[str]]:
    """Stages by the section they watch, whole or in part."""
    found: dict[str, list[str]] = {}
    for name, stage in YAML(typ="safe").load(dvc_text)["stages"].items():
        tasks = stage.get("matrix", {}).get("task", [])
        keys = [
            written.replace("${item.task}", task)
            for written in stage.get("do", stage).get("params", [])
            for task in (tasks if "${item.task}" in written else [""])
        ]
        for section in dict.fromkeys(key.partition(".")[0] for key in keys):
            found.setdefault(section, []).append(name)
    return found


def _tables(section: SectionText) -> Iterator[str]:
    """Return a table of the section's own keys, and one with a heading for each group of keys below it."""
    accepted = accepted_values(section.name)
    groups: dict[str, list[Entry]] = {"": []}
    for entry in section.entries:
        parent, _, key = entry.path.rpartition(".")
        if entry.value:
            groups[parent].append(Entry(key, entry.value, _meaning(entry, accepted.get(entry.path, ""))))
        else:
            groups[entry.path] = []
    said = {entry.path: entry.comment for entry in section.entries}
    for group, entries in groups.items():
        if group:
            yield f"### {section.name}.{group}"
            yield from filter(None, [_prose(said[group])])
        rows = [f"| `{entry.path}` | `{_cell(entry.value)}` | {_cell(entry.comment)} |" for entry in entries]
        yield "\n".join(["| key | ships as | meaning |", "|---|---|---|", *rows])


def _meaning(entry: Entry, accepted: str) -> str:
    small = f'<small class="accepts">{accepted}</small>' if accepted else ""
    return " ".join(filter(None, [_prose(entry.comment), small]))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _prose(comment: str) -> str:
    """Return a comment without what Markdown would take for markup."""
    return re.sub(r"([*<_])", r"\\\1", comment)
