"""The Java programs, on the runtime that is installed; stand-ins take its place where a program must fail."""

import gzip
import json
import lzma
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from pycocoevalcap.spice.spice import SPICE_JAR, Spice

from components.benchmarks.captioning import java_metrics as module
from components.benchmarks.captioning.java_metrics import (
    NotRun,
    caption_words,
    find_java,
    folder_of,
    java_version,
    last_words,
    meteor,
    spice,
)

JavaMaker = Callable[[str], Path]

# What PTBTokenizer 3.4.1 itself makes of these, punctuation left out.
JAVA = {
    "A dog's bowl, and two cats.": "a dog 's bowl and two cats",
    "He can't; she won't! I cannot": "he ca n't she wo n't i can not",
    'The "stop" sign (red) reads: [GO]': "the stop sign -lrb- red -rrb- reads -lsb- go -rsb-",
    "A twin-hulled boat--no, a U.S. one at Penn St. and 5th": (
        "a twin-hulled boat no a u.s. one at penn st. and 5th"
    ),
    "shoes., and T.V. sets etc.": "shoes. and t.v. sets etc.",
    "1 1/2 slices at 3:30pm for $5.00": "1\xa01/2 slices at 3:30 pm for $ 5.00",
    "No. 5 and no. five": "no. 5 and no five",
    "vitamin c. The end": "vitamin c the end",
    "vitamin c. is": "vitamin c. is",
    "surfboard.The man !! ?": "surfboard.the man !!",
    "hors d'oeuvres at 6 o'clock, y'all": "hors d'oeuvres at 6 o'clock y' all",
    "rock 'n' roll of the '90s & M&M's, AT&T": "rock 'n' roll of the '90s & m&m 's at&t",
    "room/dining area w/ a his/her sink": "room/dining area w / a his/her sink",
    "10-29-2011 a 10-foot-tall café's naïve-looking sign": (
        "10-29-2011 a 10-foot-tall café 's naïve-looking sign"
    ),
    "it’s “curly” … ½ £5 — don’t": "it 's curly 1/2 # 5 do n't",
    "www.foo.com me@x.com #tag @joe :)": "www.foo.com me@x.com #tag @joe :-rrb-",
    "C++ and __ a_b * 50%": "c++ and __ a_b * 50 %",
    "two\nlines\tand  spaces ": "two lines and spaces",
}

REFERENCES = {
    "1": ["a red café above a square", "a circle"],
    "2": ["two dogs"],
    "3": ["a cat sits"],
    "4": ["thé"],
}
HYPOTHESES = {"1": ["a red café above a square"], "2": [""], "3": ["a cat"], "4": ["thè"]}
SPICE_REFERENCES = {"b": ["a café", "a bar"], "a": ["two dogs"]}
SPICE_HYPOTHESES = {"b": ["a café"], "a": ["a dog"]}
# Answers as the program's source (in its jar) says, in the order of image ids and not of the captions.
STAND_IN = """
import json, sys
if "-version" in sys.argv:
    sys.exit(sys.stderr.write('openjdk version "1.8.0_412"') * 0)
source, option, results, silent = sys.argv[sys.argv.index("-jar") + 2:]
assert (option, silent) == ("-out", "-silent")
rows = json.load(open(source, encoding="ascii"))
assert rows[0] == {"image_id": "b", "test": "a caf\\u00e9", "refs": ["a caf\\u00e9", "a bar"]}
print("SPICE evaluation took: 1 s")
f = {"a": 0.25, "b": 0.75}
counts = {"tp": 1, "fp": 1, "fn": 1, "pr": 0.5, "re": 0.5, "numImages": 1}
scores = [{"image_id": i, "scores": {"All": {"f": f[i], **counts}}} for i in ("a", "b")]
json.dump(scores, open(results, "w"), indent=2)
"""


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    """Another test's child, such as multiprocessing's own helper, does not count."""
    before = set(psutil.Process().children())
    yield
    assert set(psutil.Process().children()) <= before


@pytest.fixture
def with_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's program beside files named like CoreNLP's."""
    library = folder_of(Spice)
    (tmp_path / "spice" / "lib").mkdir(parents=True)
    for name in ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar"):
        (tmp_path / "spice" / "lib" / name).touch()
    for jar in (library / "lib").glob("*.jar"):
        (tmp_path / "spice" / "lib" / jar.name).symlink_to(jar)
    (tmp_path / "spice" / SPICE_JAR).symlink_to(library / SPICE_JAR)
    monkeypatch.setattr(module, "folder_of", lambda _: tmp_path / "spice")


@pytest.mark.parametrize(
    ("says", "version"),
    [
        ('openjdk version "1.8.0_412"', 8),
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('NOTE: Picked up JAVA_TOOL_OPTIONS: -Dx=y\\njava version "21" 2023-09-19 LTS', 21),
    ],
)
def test_versions(java_that: JavaMaker, says: str, version: int) -> None:
    program = java_that(f"import sys; sys.stderr.write('{says}')")
    assert find_java() == str(program)
    assert java_version(find_java()) == version


def test_a_java_that_does_not_run_is_no_java(java_that: JavaMaker, tmp_path: Path) -> None:
    java_that("import sys; sys.exit('no runtime present, request install')")
    with pytest.raises(NotRun, match="failed: no runtime present"):
        java_version(find_java())
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x00")
    broken.chmod(0o755)
    with pytest.raises(NotRun, match="java cannot be started"):
        java_version(str(broken))


def test_the_java_that_is_installed_runs_without_one_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert java_version(find_java()) >= 25
    assert caption_words(["A dog."]) == ["a dog"]


@pytest.mark.usefixtures("no_java")
def test_java_home_decides() -> None:
    with pytest.raises(NotRun, match=r"no java in JAVA_HOME=.*; unset it"):
        find_java()


def test_complaints_are_short() -> None:
    assert last_words("Exception: a\n\tat x.y\n  ... 3 more\nCaused by: b\n") == "Exception: a | Caused by: b"
    assert last_words("") == "nothing"
    assert len(last_words("x" * 1000)) == 300


def test_words_are_those_of_the_published_scores() -> None:
    assert dict(zip(JAVA, caption_words(list(JAVA)), strict=True)) == JAVA


def test_every_caption_has_its_own_line_whatever_it_contains() -> None:
    captions = [
        "",
        "   ",
        "...",
        "\n",
        "'",
        "日本の猫 😀 \x00 ü",
        "a\x85b\u2028c\x0bd\x0ce\rf\r\ng",
        "\ud800",
        "end",
        "",
    ]
    expected = ["", "", "", "", "", "日本の猫 ü", "a b c d e f g", "", "end", ""]
    assert caption_words(captions) == expected
    assert caption_words([]) == []


def test_a_tokenizer_that_loses_a_line_is_found(java_that: JavaMaker) -> None:
    java_that("print('a')")
    with pytest.raises(NotRun, match="2 lines for 3 captions"):
        caption_words(["a", "b", "c"])


def test_reproduces_the_tokens_of_the_example_evaluation(shared_dir: Path) -> None:
    folder = shared_dir / "data" / "real" / "caption_metrics"
    expected = json.loads(gzip.decompress((folder / "fakecap_ptb_tokenized.json.gz").read_bytes()))
    annotations = json.loads(lzma.decompress((folder / "captions_val2014.json.xz").read_bytes()))[
        "annotations"
    ]
    references: dict[str, list[str]] = {image_id: [] for image_id in expected["gts"]}
    for annotation in annotations:
        if (image_id := str(annotation["image_id"])) in references:
            references[image_id].append(annotation["caption"])
    words = iter(caption_words([text for texts in references.values() for text in texts]))
    results = json.loads((folder / "captions_val2014_fakecap_results.json").read_bytes())
    tokens = caption_words([row["caption"] for row in results])
    assert {image_id: sorted(next(words) for _ in texts) for image_id, texts in references.items()} == {
        image_id: sorted(rows) for image_id, rows in expected["gts"].items()
    }
    assert {str(row["image_id"]): [text] for row, text in zip(results, tokens, strict=True)} == expected[
        "res"
    ]


@pytest.mark.integration
def test_meteor_scores_in_any_locale_and_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Java of itself reads numbers with a decimal comma there, and ASCII alone."""
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Duser.language=de -Duser.country=DE -Dfile.encoding=US-ASCII")
    totals, (scores,) = meteor(REFERENCES, HYPOTHESES)
    assert scores[0] == pytest.approx(1.0)
    assert scores[1] == 0.0
    assert 0.0 < scores[2] < 1.0
    assert scores[3] == 0.0, "accents were lost on the way"
    assert 0.0 < totals[0] < 1.0


@pytest.mark.usefixtures("no_java")
def test_meteor_without_java() -> None:
    with pytest.raises(NotRun, match="no java"):
        meteor(REFERENCES, HYPOTHESES)


@pytest.mark.parametrize(
    "code",
    [
        "import sys; sys.exit('Could not reserve enough space for the heap')",  # before it has read
        "import sys; input(); sys.exit('Could not reserve enough space for the heap')",  # in the middle
    ],
)
def test_a_meteor_that_fails_says_why(java_that: JavaMaker, code: str) -> None:
    java_that(code)
    with pytest.raises(NotRun, match="failed: Could not reserve enough space"):
        meteor(REFERENCES | {str(n): ["x" * 90_000] for n in range(5, 9)}, HYPOTHESES | {
            str(n): ["y" * 90_000] for n in range(5, 9)
        })  # fmt: skip


def test_a_meteor_that_never_answers_is_stopped(
    java_that: JavaMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "START_SECONDS", {"METEOR": 0.2})
    monkeypatch.setattr(module, "IMAGE_SECONDS", {"METEOR": 0.0})
    java_that("import time; time.sleep(600)")
    with pytest.raises(NotRun, match="was stopped after 0 s"):
        meteor(REFERENCES, HYPOTHESES)


def test_a_java_that_cannot_be_started(java_that: JavaMaker) -> None:
    java_that("").write_bytes(b"\x00")
    with pytest.raises(NotRun, match="java cannot be started"):
        meteor(REFERENCES, HYPOTHESES)


def test_without_models_spice_says_how_to_get_them(
    java_that: JavaMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "folder_of", lambda _: tmp_path)
    java_that("raise AssertionError('nothing may be started')")
    with pytest.raises(NotRun, match=r"no stanford-corenlp-3\.6\.0\.jar and .*-models\.jar; `python -m"):
        spice(SPICE_REFERENCES, SPICE_HYPOTHESES)


@pytest.mark.usefixtures("with_models")
def test_java_without_javascript_is_refused(java_that: JavaMaker) -> None:
    java_that("import sys; sys.stderr.write('openjdk version \"17.0.15\" 2025-04-15')")
    with pytest.raises(NotRun, match="SPICE needs Java 8 to 14, and this is Java 17"):
        spice(SPICE_REFERENCES, SPICE_HYPOTHESES)


@pytest.mark.usefixtures("with_models", "no_java")
def test_spice_without_java() -> None:
    with pytest.raises(NotRun, match="no java"):
        spice(SPICE_REFERENCES, SPICE_HYPOTHESES)


@pytest.mark.integration
@pytest.mark.usefixtures("with_models")
def test_the_program_itself_reports_that_its_models_are_no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SPICE_JAVA", (8, 99))
    with pytest.raises(NotRun, match=r"program failed: .*(NoClassDefFoundError|ClassNotFoundException)"):
        spice(SPICE_REFERENCES, SPICE_HYPOTHESES)


@pytest.mark.usefixtures("with_models")
def test_spice_scores_are_read_by_image(java_that: JavaMaker) -> None:
    java_that(STAND_IN)
    assert spice(SPICE_REFERENCES, SPICE_HYPOTHESES) == ([0.5], [[0.75, 0.25]])


@pytest.mark.usefixtures("with_models")
@pytest.mark.parametrize("results", ["", "[]", '[{"image_id": "b", "scores": {"All": {"f": null}}}]'])
def test_unreadable_results(java_that: JavaMaker, results: str) -> None:
    java_that(STAND_IN.split("\nsource")[0] + f"\nopen(sys.argv[-2], 'w').write({results!r})")
    with pytest.raises(NotRun, match="results that cannot be read"):
        spice(SPICE_REFERENCES, SPICE_HYPOTHESES)


@pytest.mark.usefixtures("with_models")
def test_a_spice_that_never_ends_is_stopped(java_that: JavaMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "START_SECONDS", module.START_SECONDS | {"SPICE": 0.2})
    monkeypatch.setattr(module, "IMAGE_SECONDS", {"SPICE": 0.0, "java -version": 0.0})
    java_that(STAND_IN.split("\nsource")[0] + "\nimport time; time.sleep(600)")
    with pytest.raises(NotRun, match="was stopped after 0 s"):
        spice(SPICE_REFERENCES, SPICE_HYPOTHESES)
