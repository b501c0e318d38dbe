"""prefect.yaml and the pools that it is for, against the templates of workers that Prefect's server knows.

Nothing here starts a container: neither Docker nor Kubernetes is needed. The process pool is run by
tests/pipelines/test_serving.py.
"""

import importlib
import json
import re
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
DEPLOY = REPOSITORY / "deploy"
KUBERNETES = json.loads((DEPLOY / "kubernetes-pool.json").read_text(encoding="utf-8"))
PLACEHOLDER = re.compile(r"\{\{ (\w+) \}\}")


@pytest.fixture(scope="module")
def deployments():
    content = yaml.safe_load((DEPLOY / "prefect.yaml").read_text(encoding="utf-8"))
    return {deployment["name"]: deployment for deployment in content["deployments"]}


@pytest.fixture(scope="module")
def templates():
    """Base job templates by type of worker, as ``prefect work-pool create --type`` takes them."""
    import prefect.server.api.collections_data.views as views

    (path,) = Path(views.__path__[0]).glob("aggregate-worker-metadata.json")
    packages = json.loads(path.read_text(encoding="utf-8"))
    return {
        kind: worker["default_base_job_configuration"]
        for package in packages.values()
        for kind, worker in package.items()
    } | {"kubernetes-virtex": KUBERNETES}


def problems(values, schema):
    """What Prefect's own validation of job variables has against these."""
    from prefect.utilities.schema_tools.validation import validate

    return [error.message for error in validate(values, schema, ignore_required=True)]


def test_deployments_are_of_the_flow(deployments):
    from prefect import Flow

    assert set(deployments) == {"process", "docker", "kubernetes"}
    for deployment in deployments.values():
        module, _, name = deployment["entrypoint"].rpartition(".")
        assert isinstance(getattr(importlib.import_module(module), name), Flow)
        assert deployment["enforce_parameter_schema"]
        assert deployment["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}


@pytest.mark.parametrize(("name", "kind"), [("docker", "docker"), ("kubernetes", "kubernetes-virtex")])
def test_job_variables_are_those_of_the_pool(deployments, templates, name, kind):
    variables = deployments[name]["work_pool"]["job_variables"]
    schema = templates[kind]["variables"]
    assert set(variables) <= set(schema["properties"])
    assert problems(variables, schema) == []
    assert problems(variables | {"image_pull_policy": "Sometimes"}, schema)  # so the check can fail


def test_pull_steps_exist(deployments):
    for deployment in deployments.values():
        for step in deployment["pull"]:
            ((path, inputs),) = step.items()
            module, _, name = path.rpartition(".")
            function = getattr(importlib.import_module(module), name)
            assert set(inputs) == {"directory"}
            assert callable(function)


def test_folders_are_those_of_the_image(deployments):
    dockerfile = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    assert "\nWORKDIR /virtex\n" in dockerfile
    for name in ("docker", "kubernetes"):
        assert deployments[name]["work_pool"]["job_variables"]["command"].startswith("/virtex/.venv/bin/")
        ((step,),) = [list(step.values()) for step in deployments[name]["pull"]]
        assert step == {"directory": "/virtex"}


def test_the_kubernetes_template_is_one(templates):
    from prefect.server.schemas.actions import validate_base_job_template

    assert validate_base_job_template(KUBERNETES) == KUBERNETES
    used = set(PLACEHOLDER.findall(json.dumps(KUBERNETES["job_configuration"])))
    assert used == set(KUBERNETES["variables"]["properties"])
    own = {"gpus", "claim"}
    assert used - own <= set(templates["kubernetes"]["variables"]["properties"])
    assert set(KUBERNETES["job_configuration"]) <= set(templates["kubernetes"]["job_configuration"])


def test_a_kubernetes_job_as_it_is_filled_in(deployments):
    from prefect.utilities.templating import apply_values

    properties = KUBERNETES["variables"]["properties"]
    defaults = {name: rule["default"] for name, rule in properties.items() if "default" in rule}
    variables = defaults | deployments["kubernetes"]["work_pool"]["job_variables"] | {"name": "demo"}
    job = apply_values(KUBERNETES["job_configuration"], variables)["job_manifest"]
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert container["args"] == "/virtex/.venv/bin/prefect flow-run execute"
    assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "virtex"}
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    assert pod["terminationGracePeriodSeconds"] > 150  # a stage has that long to write its checkpoint
    assert "serviceAccountName" not in pod  # nobody chose one: the namespace's own
