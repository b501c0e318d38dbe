"""Where a run comes from."""

import subprocess

import pytest

from components.tracking import provenance


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").write_text("one")
    for arguments in (["init", "-q"], ["add", "a"], ["commit", "-q", "-m", "one"]):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *identity, *arguments], check=True)
    return tmp_path


def test_the_commit_and_whether_anything_differs_from_it(repository):
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    tags = provenance.provenance("lmdb/train", "components.stages.lmdb")
    assert tags["mlflow.source.git.commit"] == head
    assert tags["git.dirty"] == "false"
    (repository / "a").write_text("two")
    assert provenance.provenance("a", "b")["git.dirty"] == "true"


def test_without_a_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tags = provenance.provenance("a", "b")
    assert "mlflow.source.git.commit" not in tags
    assert tags["mlflow.runName"] == "a"
