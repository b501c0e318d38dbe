"""SPICE's program as far as it gets without its models; beyond that a stand-in takes its place."""

from collections.abc import Callable
from pathlib import Path

import pytest

from components.benchmarks import spice as module
from components.benchmarks.metric_interface import NotRun
from components.benchmarks.spice import spice

JavaMaker = Callable[[str], Path]

REFERENCES = {"b": ["a café", "a bar"], "a": ["two dogs"]}
HYPOTHESES = {"b": ["a café"], "a": ["a dog"]}
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


@pytest.fixture
def with_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's program beside files named like CoreNLP's."""
    (tmp_path / "spice" / "lib").mkdir(parents=True)
    for name in ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar"):
        (tmp_path / "spice" / "lib" / name).touch()
    for jar in (module.FOLDER / "lib").glob("*.jar"):
        (tmp_path / "spice" / "lib" / jar.name).symlink_to(jar)
    (tmp_path / "spice" / module.SPICE_JAR).symlink_to(module.FOLDER / module.SPICE_JAR)
    monkeypatch.setattr(module, "FOLDER", tmp_path / "spice")


def test_without_models_it_says_how_to_get_them(
    java_that: JavaMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    java_that("raise AssertionError('nothing may be started')")
    with pytest.raises(NotRun, match=r"no stanford-corenlp-3\.6\.0\.jar and .*-models\.jar; `python -m"):
        spice(REFERENCES, HYPOTHESES)


@pytest.mark.usefixtures("with_models")
def test_java_without_javascript_is_refused(java_that: JavaMaker) -> None:
    java_that("import sys; sys.stderr.write('openjdk version \"17.0.15\" 2025-04-15')")
    with pytest.raises(NotRun, match="SPICE needs Java 8 to 14, and this is Java 17"):
        spice(REFERENCES, HYPOTHESES)


@pytest.mark.usefixtures("with_models", "no_java")
def test_without_java() -> None:
    with pytest.raises(NotRun, match="no java"):
        spice(REFERENCES, HYPOTHESES)


@pytest.mark.integration
@pytest.mark.usefixtures("with_models", "real_java")
def test_the_program_itself_reports_that_its_models_are_no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NEWEST_JAVA", 99)
    with pytest.raises(NotRun, match=r"program failed: .*(NoClassDefFoundError|ClassNotFoundException)"):
        spice(REFERENCES, HYPOTHESES)


@pytest.mark.usefixtures("with_models")
def test_scores_are_read_by_image(java_that: JavaMaker) -> None:
    java_that(STAND_IN)
    assert spice(REFERENCES, HYPOTHESES) == ([0.5], [[0.75, 0.25]])


@pytest.mark.usefixtures("with_models")
@pytest.mark.parametrize("results", ["", "[]", '[{"image_id": "b", "scores": {"All": {"f": null}}}]'])
def test_unreadable_results(java_that: JavaMaker, results: str) -> None:
    java_that(STAND_IN.split("\nsource")[0] + f"\nopen(sys.argv[-2], 'w').write({results!r})")
    with pytest.raises(NotRun, match="results that cannot be read"):
        spice(REFERENCES, HYPOTHESES)


@pytest.mark.usefixtures("with_models")
def test_a_program_that_never_ends_is_stopped(java_that: JavaMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "START_SECONDS", 0.2)
    monkeypatch.setattr(module, "IMAGE_SECONDS", 0.0)
    java_that(STAND_IN.split("\nsource")[0] + "\nimport time; time.sleep(600)")
    with pytest.raises(NotRun, match="was stopped after 0 s"):
        spice(REFERENCES, HYPOTHESES)
