"""Whatever may stand in a YAML file, or in its place: one short line that names it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from components.core.errors import InputError
from components.params import Tokenize, overlay
from components.params.reading import check_section
from components.params.yaml_files import load_yaml

BOMB = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdef", "bcdefg", strict=True)
)


def written(content: str | bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda path: path.mkdir(), "a folder; expected a YAML file that you may read"),
        (lambda path: path.symlink_to("gone.yaml"), "a link to gone.yaml, which is not there"),
        (lambda path: path.symlink_to(path), "cannot be read (Too many levels of symbolic links)"),
        (lambda path: None, "no such file; run from the repository's root folder"),
        (written(b"a: 1\nb: caf\xe9\n"), "line 2: not UTF-8 text; save it as UTF-8"),
        (written(f"a:\n  b: {'9' * 5000}\n"), "line 2: a number of thousands of digits; expected at most 19"),
        (written(f"a: {{b: [1, {'9' * 4000}]}}"), "`a.b.1`: a number of 13288 bits; expected at most 63"),
        (written("a: -9223372036854775809"), "`a`: a number of 64 bits; expected at most 63"),
        (written(f"a: {'[' * 5000}{']' * 5000}"), "deep"),
        (written("[" * 100_000), "nested too deeply"),
        (written('{"a":' * 100_000), "nested too deeply"),
        (written("- " * 100_000), "nested too deeply"),
        (written("\n".join(f"{' ' * depth}a:" for depth in range(2000))), "deep"),
        (written("a: &a [*a]"), "`a.0.0` is deeper than 50 levels; is it an alias of itself?"),
        (written(BOMB), "is of too many values; is it an alias of itself?"),
        (written("a: 1\n<<<<<<< HEAD\nb: 1\n=======\nb: 2\n>>>>>>> other\n"), "line 2: a conflict that Git"),
        (written("a: [\n"), "not valid YAML: "),
        (written("a: \0\n"), "not valid YAML: "),
        (written("a: 2024-13-45\n"), "a value cannot be read: month must be in 1..12"),
        (written(""), "expected sections of keys at the top level, found nothing"),
        (written("- a\n"), "expected sections of keys at the top level, found list"),
    ],
)
def test_what_is_no_good_file(tmp_path: Path, make: Callable[[Path], object], expected: str) -> None:
    path = tmp_path / "params.yaml"
    make(path)
    with pytest.raises(InputError) as caught:
        load_yaml(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert expected in message
    assert len(message) < len(str(path)) * 2 + 400
    assert "\n" not in message


def test_the_largest_number_and_anchors_are_fine(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: &x {size: 9223372036854775807}\nb: *x\nc: '=======  <<<<<<<'\n")
    assert load_yaml(tmp_path / "a.yaml")["b"] == {"size": 2**63 - 1}


def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, encoding: str) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", refuse)  # root may read everything
    with pytest.raises(InputError, match=r"p\.yaml: cannot be read \(Permission denied\)"):
        load_yaml(tmp_path / "p.yaml")


@pytest.mark.parametrize("value", ["[[[" + "1, " * 5000 + "]]]", "'" + "x" * 5000 + "'"])
def test_a_wrong_value_is_shown_in_part(tmp_path: Path, value: str) -> None:
    (tmp_path / "params.yaml").write_text(f"tokenize:\n  vocab_size: {value}\n")
    with pytest.raises(InputError) as caught:
        check_section(Tokenize, load_yaml(tmp_path / "params.yaml")["tokenize"], tmp_path / "params.yaml")
    assert "`tokenize.vocab_size`" in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("value", ["9" * 5000, "9" * 30, "[" * 5000 + "]" * 5000, "&a [*a]"])
def test_an_override_of_the_same_kind(tmp_path: Path, value: str) -> None:
    path = Path(__file__).resolve().parents[3] / "params.yaml"
    with pytest.raises(InputError) as caught:
        overlay(None, [f"tokenize.vocab_size={value}"], path, tmp_path)
    assert str(caught.value).startswith("--set tokenize.vocab_size=")
    assert len(str(caught.value)) < 400
