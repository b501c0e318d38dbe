import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from components.data.image import decode
from components.playground import server
from components.playground.models import Known, Player
from components.playground.server import HEADERS, Playground

HERE = "http://127.0.0.1:7860"
NOISE = np.random.default_rng(3).integers(0, 255, (80, 100, 3), np.uint8)


def png(pixels: np.ndarray = NOISE) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


@pytest.fixture
def client(players: list[Player], known: Known) -> Iterator[TestClient]:
    with TestClient(Playground(players, known, ["mind this"]).app(), base_url=HERE) as opened:
        yield opened


def test_a_picture_is_answered_by_every_model(client: TestClient) -> None:
    captioner, backbone = (
        client.post("/answer?words=red,blue&prompt={}", content=png()).raise_for_status().json()
    )
    assert (len(captioner["beam"]), len(captioner["nucleus"]), len(captioner["zero_shot"])) == (3, 3, 2)
    assert captioner["attention"].startswith("data:image/png;base64,")
    assert (len(captioner["neighbours"]), len(backbone["neighbours"])) == (6, 6)
    assert (backbone["name"], backbone["beam"]) == ("random", [])


def test_validation_images_are_shown_and_asked_about(client: TestClient, known: Known) -> None:
    about = client.get("/about").raise_for_status().json()
    assert (about["images"], about["models"]) == ([0, 1, 2, 3, 4, 5], ["captioner", "random"])
    assert about["notices"] == ["mind this"]
    image = client.get("/images/1")
    assert image.headers["content-type"] == "image/jpeg"
    assert abs(float(decode(image.content).mean()) - float(decode(known.store.get(1).image).mean())) < 2
    captioner, _ = client.post("/answer?image=1").raise_for_status().json()
    assert captioner["neighbours"][0]["image"] in (3, 5)


def test_the_page_asks_nothing_of_other_places(client: TestClient) -> None:
    answer = client.get("/")
    assert "VirTex playground" in answer.text
    assert re.findall(r"(?:src|href)=\"?(?:https?:)?//|@import|url\(", answer.text) == []
    assert HEADERS.items() <= {key.title(): value for key, value in answer.headers.items()}.items()


@pytest.mark.parametrize(
    ("query", "content", "message"),
    [
        ("", b"", "there is no picture"),
        ("", b"hello", "not an image that can be read (no image of a known format)"),
        ("", png()[:200], "not an image that can be read"),
        ("?image=6", b"", "there is no validation image 6"),
        ("?image=-1", b"", "there is no validation image -1"),
        ("?image=one", b"", "image: "),
        ("?image=1&words=,", b"", "words: at least two to compare, each once, with commas between"),
        ("?image=1&beam_size=2", b"", "3 captions need a beam of at least 3"),
    ],
)
def test_what_cannot_be_answered_is_said(
    client: TestClient, query: str, content: bytes, message: str
) -> None:
    answer = client.post(f"/answer{query}", content=content)
    assert answer.status_code == 422
    assert answer.json()["error"].startswith(message)


def test_huge_pictures_are_refused(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_BYTES", 10_000)
    assert "more than 10,000 bytes" in client.post("/answer", content=png()).json()["error"]
    many = io.BytesIO()
    Image.new("1", (20_000, 10_000)).save(many, "png", compress_level=9)
    monkeypatch.undo()
    assert "make it smaller" in client.post("/answer", content=many.getvalue()).json()["error"]


def test_other_names_and_other_pages_are_refused(client: TestClient) -> None:
    assert client.get("/about", headers={"Host": "evil.example"}).status_code == 400
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1:7860"):
        refused = client.post("/answer?image=1", headers={"Origin": origin})
        assert (refused.status_code, "another origin" in refused.text) == (403, True), origin
    assert client.post("/answer?image=1", headers={"Origin": HERE}).status_code == 200


def test_without_validation_images_it_plays_on(players: list[Player]) -> None:
    with TestClient(Playground(players[:1], None).app(), base_url=HERE) as client:
        [answer] = client.post("/answer", content=png()).raise_for_status().json()
        assert answer["beam"]
        assert answer["neighbours"] == client.get("/about").json()["images"] == []


def test_the_page_is_in_the_package() -> None:
    assert (Path(server.__file__).parent / "page.html").is_file()
