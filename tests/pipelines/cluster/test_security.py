"""Certificates of a cluster, and which addresses do without."""

import stat
import sys

import pytest

pytest.importorskip("distributed", reason="the extra `cluster` is not installed")

from cryptography import x509

from components.core.errors import InputError
from pipelines import cli
from pipelines.cluster import security
from pipelines.cluster.security import (
    FOLDER_VARIABLE,
    PLAIN_VARIABLE,
    make_certificates,
    scheduler_command,
    security_for,
)
from pipelines.runners import check_cluster


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.delenv(PLAIN_VARIABLE, raising=False)


def test_one_command_makes_them_and_never_again(small_workspace, capsys):
    assert cli.main(["cluster", "certificates", "team.example.org", "10.0.0.7"]) == 0
    folder = small_workspace / ".virtex" / "certificates"
    assert f"{folder}: made. Copy it" in capsys.readouterr().out
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == {"authority.pem": 0o644, "certificate.pem": 0o644, "key.pem": 0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert cli.main(["cluster", "certificates", "team.example.org"]) == 2
    assert f"{folder} is there already; remove it" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.iterdir()} == before

    authority, made = (
        x509.load_pem_x509_certificate(before[folder / name]) for name in ("authority.pem", "certificate.pem")
    )
    made.verify_directly_issued_by(authority)
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["team.example.org"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.7"]


def test_a_host_that_is_none(small_workspace, capsys):
    assert cli.main(["cluster", "certificates", "caf\u00e9"]) == 2
    assert "expected the name or the IP address of a machine" in capsys.readouterr().err
    assert not (small_workspace / ".virtex" / "certificates").exists()


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:8786", "tcp://localhost:1", "tcp://[::1]:1", "tcp://127.3.0.1:1"]
)
def test_this_machine_alone_needs_none(tmp_path, address):
    assert not security_for(address, tmp_path).require_encryption


@pytest.mark.parametrize(
    "address", ["tcp://10.0.0.7:8786", "tcp://team:8786", "tcp://0.0.0.0:1", "ws://team:1", "team:8786"]
)
def test_other_machines_do_unless_it_is_allowed(tmp_path, monkeypatch, address):
    with pytest.raises(
        InputError, match=r"without certificates whoever .*; use a tls:// address .* or set V"
    ):
        security_for(address, tmp_path)
    with pytest.raises(InputError, match="without certificates whoever"):
        check_cluster(address, tmp_path)  # of `virtex run --cluster`
    monkeypatch.setenv(PLAIN_VARIABLE, "1")
    assert not security_for(address, tmp_path).require_encryption


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "mine"))
    make_certificates(tmp_path, ["localhost"])
    (tmp_path / "mine" / "key.pem").unlink()
    with pytest.raises(
        InputError, match=r"mine: no key\.pem; make them once with `virtex cluster certificates HOST"
    ):
        security_for("tls://team:8786", tmp_path)


def test_the_scheduler_listens_here_or_with_certificates(tmp_path, monkeypatch):
    plain = scheduler_command(tmp_path, "127.0.0.1", 8786)
    assert plain[:7] == [
        sys.executable,
        "-m",
        "distributed.cli.dask_scheduler",
        *("--host", "127.0.0.1"),
        *("--port", "8786"),
    ]
    assert plain[7:] == ["--no-dashboard", "--dashboard-address", security.HTTP_ADDRESS]
    with pytest.raises(InputError, match="make them once"):
        scheduler_command(tmp_path, "10.0.0.7", 8786)
    make_certificates(tmp_path, ["10.0.0.7"])
    folder = tmp_path / ".virtex" / "certificates"
    assert scheduler_command(tmp_path, "10.0.0.7", 8786)[10:] == [
        *("--tls-ca-file", f"{folder}/authority.pem"),
        *("--tls-cert", f"{folder}/certificate.pem"),
        *("--tls-key", f"{folder}/key.pem"),
        *("--protocol", "tls"),
    ]
