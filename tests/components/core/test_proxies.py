"""Loopback servers and proxies of the environment."""

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import json, os, urllib.request
import components
from httpx._utils import get_environment_proxies
from requests.utils import should_bypass_proxies
print(json.dumps([
    os.environ["NO_PROXY"] == os.environ["no_proxy"] and os.environ["no_proxy"],
    [bool(urllib.request.proxy_bypass(f"{name}:4200")) for name in ("127.0.0.1", "localhost")],
    [should_bypass_proxies(f"http://{name}:1/", None) for name in ("127.0.0.1", "localhost")],
    [get_environment_proxies().get(f"all://{name}", 0) for name in ("127.0.0.1", "localhost")],
    should_bypass_proxies("http://example.org/", None),
]))
"""


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({}, "localhost,127.0.0.1,::1"),
        ({"NO_PROXY": "a.org, .b.org"}, "a.org,.b.org,localhost,127.0.0.1,::1"),
        ({"no_proxy": "localhost", "NO_PROXY": "a.org"}, "a.org,localhost,127.0.0.1,::1"),
    ],
)
def test_loopback_is_asked_directly(given, names):
    hidden = ("no_proxy", "http_proxy", "https_proxy", "all_proxy")
    environment = {key: value for key, value in os.environ.items() if key.lower() not in hidden}
    environment |= {"HTTP_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "socks5://127.0.0.1:9"} | given
    run = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == [names, [True, True], [True, True], [None, None], False]


def test_a_socks_proxy_can_be_used(monkeypatch):
    import httpx

    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    httpx.Client().close()  # raises where a package is missing


def test_everything_past_the_proxy_stays_so(monkeypatch):
    from components.core.proxies import bypass_proxies_for_loopback

    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("no_proxy", raising=False)
    bypass_proxies_for_loopback()
    assert os.environ["NO_PROXY"] == "*"
