"""Secrets in every place that takes a URL or a key, looked for in everything that a run leaves."""

import os
import urllib.request
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

DVC_YAML = """
stages:
  baseline:
    cmd: python -m components.stages.baseline mine
    params: [baseline, backbone, download]
    outs: [outputs/backbones/mine.safetensors, outputs/baseline/mine/mlflow_run.json]
"""
SECRETS = {
    "user": "us3r5ecret",
    "password": "pa55secret",
    "query": "qu3rysecret",
    "token": "t0kensecret",
    "mirror": "m1rrorsecret",
    "tracking": "tr4ckingsecret",
    "tracking password": "mlfl0wsecret",
    "Prefect": "pr3fectsecret",
    "webhook": "w3bhooksecret",
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, new_workspace):
    with new_workspace(tmp_path_factory.mktemp("workspace"), DVC_YAML) as workspace:
        text = workspace.text("params.yaml").replace("coco: []", f"coco: ['{mirror()}']")
        (workspace.root / "params.yaml").write_text(text)
        yield workspace


def mirror() -> str:
    return f"http://u:{SECRETS['mirror']}@127.0.0.1:9/coco?sig={SECRETS['mirror']}"


def run(workspace, **variables):
    source = f"http://{SECRETS['user']}:{SECRETS['password']}@127.0.0.1:9/a.pth?key={SECRETS['query']}"
    process = workspace.start_impatient(
        f"--set=baseline.sources={{random: random, mine: '{source}'}}",
        VIRTEX_DOWNLOAD_TOKEN=SECRETS["token"],
        PREFECT_API_AUTH_STRING=f"team:{SECRETS['Prefect']}",
        MLFLOW_TRACKING_USERNAME="me",
        MLFLOW_TRACKING_PASSWORD=SECRETS["tracking password"],
        VIRTEX_WEBHOOK_URL=f"http://127.0.0.1:9/{SECRETS['webhook']}",
        **variables,
    )
    output, _ = process.communicate(timeout=280)
    return process.returncode, output


def kept_files(root: Path):
    """All that a run leaves but what the user wrote: params.yaml, and DVC's own record of it."""
    for folder, _, names in os.walk(root):
        for name in names:
            if name not in ("params.yaml", "dvc.lock") or "mlartifacts" in folder:
                yield Path(folder, name)


def told_to_prefect(api: str) -> bytes:
    answers = []
    for what in ("flow_runs", "task_runs", "logs", "artifacts"):
        question = urllib.request.Request(
            f"{api}/{what}/filter", b"{}", {"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(question) as answer:
            answers.append(answer.read())
    return b"".join(answers)


@pytest.mark.parametrize("is_away", [False, True], ids=["MLflow here", "MLflow away"])
def test_no_secret_is_printed_logged_stored_or_sent(workspace, is_away):
    uri = f"http://me:{SECRETS['tracking']}@127.0.0.1:9" if is_away else ""
    code, output = run(workspace, MLFLOW_TRACKING_URI=uri)
    print(output)
    assert code == 1
    assert "127.0.0.1:9/a.pth: cannot be fetched" in output
    assert ("the tracking store is out of reach" in output) == is_away
    told = told_to_prefect(workspace.environment["PREFECT_API_URL"])
    assert b"cannot be fetched" in told
    places = {"output": output.encode(), "Prefect": told}
    places |= {str(path): path.read_bytes() for path in kept_files(workspace.root)}
    assert any("mlartifacts" in place and place.endswith("params.yaml") for place in places)
    found = [
        (name, place)
        for name, secret in SECRETS.items()
        for place, content in places.items()
        if secret.encode() in content
    ]
    assert found == []
