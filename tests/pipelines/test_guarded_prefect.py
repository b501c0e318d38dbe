"""Who may ask Prefect's server."""

import json
import urllib.error
import urllib.request

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from pipelines.guarded_prefect import Guard
from pipelines.servers import Server, free_port, prefect_command, prefect_variables


async def echo(socket):
    await socket.accept()
    await socket.send_text("hello")
    await socket.close()


@pytest.fixture
def client():
    routes = [Route("/", lambda _: PlainTextResponse("hello"), methods=["GET", "POST"])]
    app = Starlette(routes=[*routes, WebSocketRoute("/ws", echo)])
    return TestClient(Guard(app, ("team.example.org",)), base_url="http://127.0.0.1:4200")


GOOD = [
    {"host": "127.0.0.1:4200"},
    {"host": "localhost:4200"},
    {"host": "[::1]:4200"},
    {"host": "TEAM.example.org:4200"},
    {"host": "localhost:4200", "origin": "http://127.0.0.1:4200"},
    {"host": "127.0.0.1:9999", "origin": "http://localhost:9999"},
]
BAD = [
    {"host": "evil.example.org:4200"},
    {"host": "evil.example.org:4200", "origin": "http://evil.example.org:4200"},
    {"host": "localhost.evil.example.org"},
    {"host": "[half"},
    {"host": ""},
    {"origin": "http://evil.example.org"},
    {"origin": "http://127.0.0.1:4201"},
    {"origin": "http://127.0.0.1:4200.evil.example.org"},
    {"origin": "null"},
]


@pytest.mark.parametrize("headers", GOOD)
def test_its_own_pages_and_programs_may(client, headers):
    assert client.post("/", headers=headers).text == "hello"
    with client.websocket_connect("/ws", headers=headers) as socket:
        assert socket.receive_text() == "hello"


@pytest.mark.parametrize("headers", BAD)
def test_others_may_not(client, headers):
    answer = client.post("/", headers=headers)
    assert answer.status_code == 403
    assert "this server" in answer.text
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/ws", headers=headers):
        pass


def test_two_hosts_are_none(client):
    assert client.get("/", headers=[("host", "localhost"), ("host", "evil.org")]).status_code == 403


@pytest.mark.integration
def test_the_server_itself(tmp_path, monkeypatch):
    """A page of another origin cannot create a flow, by a simple request or by a preflighted one."""
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", f"sqlite+aiosqlite:///{tmp_path}/prefect.db")
    address = f"http://127.0.0.1:{free_port(4700)}"
    command = prefect_command(int(address.rpartition(":")[2]))
    server = Server(tmp_path, "Prefect", command, prefect_variables(address), f"{address}/api/health")

    def asked(path, **headers):
        body = json.dumps({"name": path.strip("/")}).encode() if path == "/flows/" else b"{}"
        question = urllib.request.Request(f"{address}/api{path}", body, headers)
        try:
            with urllib.request.urlopen(question) as answer:
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), error.read()

    json_type = {"Content-Type": "application/json"}
    try:
        server.wait_until_up()
        for headers in ({"Origin": "http://evil.example.org"}, {"Host": "evil.example.org"}):
            for kind in (json_type, {"Content-Type": "text/plain"}):
                status, answered, _ = asked("/flows/", **kind, **headers)
                assert status == 403
                assert "access-control-allow-origin" not in {name.lower() for name in answered}
        assert asked("/flows/filter", **json_type)[2] == b"[]"
        own = address.replace("127.0.0.1", "localhost")
        status, answered, _ = asked("/flows/", **json_type, Origin=own)
        assert status == 201
        assert answered["access-control-allow-origin"] == own
    finally:
        server.stop()
