"""The servers of compose.yaml: the schema of the Compose Specification, secrets, pins, who waits for whom."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

REPOSITORY = Path(__file__).resolve().parents[2]
COMPOSE = REPOSITORY / "deploy" / "compose.yaml"
TREE = YAML(typ="safe").load(COMPOSE.read_text(encoding="utf-8"))
SERVICES = TREE["services"]
SECRET = re.compile(r"PASSWORD|SECRET|KEY_ID")


def settings() -> dict[str, str]:
    lines = (COMPOSE.with_name(".env.example")).read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize(("text", "status"), [(COMPOSE.read_text(), 0), ("services: {a: {imgae: b}}\n", 1)])
def test_the_schema_of_the_compose_specification_is_kept(tmp_path, text, status):
    (tmp_path / "compose.yaml").write_text(text)
    command = [Path(sys.executable).with_name("check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, tmp_path / "compose.yaml"], capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr


def test_what_compose_yaml_reads_is_what_the_example_sets():
    assert set(re.findall(r"\$\{(\w+)", COMPOSE.read_text(encoding="utf-8"))) == set(settings()) - {
        "COMPOSE_PROFILES"
    }


def test_no_secret_has_a_default():
    found = re.findall(r"\$\{(\w+)([^}]*)\}", COMPOSE.read_text(encoding="utf-8"))
    for name, rest in found:
        assert rest.startswith(":?" if SECRET.search(name) else ":-"), name
    assert not any(value for name, value in settings().items() if re.search("PASSWORD|SECRET", name))
    assert (
        subprocess.run(["git", "check-ignore", "-q", ".env"], cwd=COMPOSE.parent, check=False).returncode == 0
    )


def test_only_this_machine_is_let_in_unless_told_otherwise():
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports
    assert all(str(port).startswith("${TEAM_BIND:-127.0.0.1}:") for port in ports)
    assert settings()["TEAM_BIND"] == "127.0.0.1"
    for name in ("mlflow-database", "prefect-database"):
        assert "ports" not in SERVICES[name]
        assert SERVICES[name]["networks"] == ["databases"]


def test_images_are_pinned():
    for name, service in SERVICES.items():
        if "build" in service:
            lines = service["build"]["dockerfile_inline"].splitlines()
            assert re.fullmatch(r"FROM python:3\.\d+-slim", lines[0])
            assert "--constraint /constraints.txt" in next(line for line in lines if "pip install" in line)
        else:
            assert re.search(r":\d+\.\d+\S*$", service["image"]), name


def test_servers_are_asked_for_their_health_and_waited_for():
    for name, service in SERVICES.items():
        assert "healthcheck" in service, name
        assert service["restart"] == "unless-stopped"
        for above, how in service.get("depends_on", {}).items():
            assert how["condition"] == "service_healthy"
            assert how.get("required", True) != ("profiles" in SERVICES[above])


def test_what_has_to_last_lies_in_volumes():
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())}
    assert used == set(TREE["volumes"]) == {"objects", "mlflow-database", "prefect-database"}
