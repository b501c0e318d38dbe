"""An MLflow server that lets in some only. The real one is asked in tests/deploy."""

import http.server
import json
import threading
from base64 import b64encode

import pytest

from components.tracking import stage_run
from components.tracking.pipeline_run import create_run
from components.tracking.store import AccessRefused, open_store, require_access
from pipelines.status import costs

ALLOWED = f"Basic {b64encode(b'ada:pa55word').decode()}"
WANTS = "wants a user and a password; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
REFUSES = "refuses the user or the password; correct MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"


@pytest.fixture
def server(tmp_path, monkeypatch):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.headers["Authorization"] == ALLOWED else 401)
            self.end_headers()
            self.wfile.write(b"You are not authenticated.")

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_EXPERIMENT_NAME", "VIRTEX_PARENT_RUN_ID", "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True).start()
        address = f"http://127.0.0.1:{httpd.server_address[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        yield address
        httpd.shutdown()


@pytest.mark.parametrize(("password", "said"), [("", WANTS), ("wr0ngword", REFUSES)])
def test_who_is_not_let_in_is_told_what_to_set(server, password, said, monkeypatch, tmp_path, caplog, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    told = f"MLflow at {server} {said}"
    for ask in (open_store, lambda: require_access(server), lambda: create_run(tmp_path, "a", "virtex", {})):
        with pytest.raises(AccessRefused) as caught:
            ask()
        assert str(caught.value) == told
    costs.main()  # the other process of `virtex status`
    assert json.loads(capsys.readouterr().out) == {"error": told}
    with stage_run("tokenize", None, {}):  # that of a `dvc repro`, which goes on
        pass
    (record,) = (record for record in caplog.records if "No MLflow run" in record.message)
    assert f"out of reach ({told}). The work goes on" in record.message


def test_an_address_with_a_password_is_not_shown(server):
    with pytest.raises(AccessRefused, match="MLflow at the address in MLFLOW_TRACKING_URI"):
        require_access(server.replace("//", "//me:s3cret@"))


def test_who_is_let_in_is_told_nothing(server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "pa55word")
    require_access(server)
