"""Tables of URLs: images fetched into one archive, politely, and what becomes of those that fail."""

import json
import threading
import time
from pathlib import Path

import pytest

from components.core import paths
from components.core.errors import InputError
from components.sources.download import images as fetching
from components.sources.readers.own.dataset import OwnDataset, read_own
from components.sources.readers.own.image_places import forget_fetched
from components.sources.readers.own.index import read_index
from components.sources.readers.own.sample import OwnSettings
from components.sources.readers.types import CaptionedImage

from .conftest import HURRIED, Handler, Served, Server

SETTINGS = OwnSettings(val_fraction=0.25)
IMAGES = {name: f"bytes of {name}".encode() for name in ("a.jpg", "b.JPG", "c.png", "d.webp")}


@pytest.fixture(autouse=True)
def in_empty_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fetching.fetch_images, "__defaults__", (HURRIED,))


def read(path: Path, skip: bool = False) -> OwnDataset:
    return read_own(path, "mine", SETTINGS, Path("data/mine"), skip)


def contents(images: list[CaptionedImage]) -> dict[str, tuple[bytes, tuple[str, ...]]]:
    return {image.image_id: (image.read_bytes(), image.captions) for image in images}


def table_of_urls(server: Server, absent: int = 0) -> Path:
    server.files |= {f"/{name}": Served(content) for name, content in IMAGES.items()}
    names = [*IMAGES, *(f"absent{number}.jpg" for number in range(absent))]
    path = Path("urls.jsonl")
    rows = [{"image": f"{server.url}/{name}", "caption": name} for name in names]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_urls_are_fetched_into_one_archive(server: Server) -> None:
    path = table_of_urls(server)
    found = read(path)
    images = {split: read_index(Path("data/mine"), split, found.root, "mine") for split in found.splits}
    whole = contents(images["train"] + images["val"])
    assert whole == {f"mine/{server.url}/{name}": (content, (name,)) for name, content in IMAGES.items()}
    assert sorted(p.name for p in Path("data/mine").iterdir()) == ["fetched.tar", "train.jsonl", "val.jsonl"]
    before = Path("data/mine/fetched.tar").read_bytes()
    server.requests.clear()
    read(path)
    assert not server.requests, "what was fetched is not fetched again"
    assert Path("data/mine/fetched.tar").read_bytes() == before
    forget_fetched("mine")
    assert not (paths.INCOMING_DIR / "images" / "mine").exists()


def test_urls_that_fail_are_refused_or_left_out(server: Server) -> None:
    path = table_of_urls(server, absent=4)
    server.files["/a.jpg"].faults.append(lambda h: h.answer(200, b"", Content_Type="text/html") is None)
    with pytest.raises(InputError) as raised:
        read(path)
    assert "5 of 8 images could not be fetched" in str(raised.value)
    assert f"urls.jsonl: line 1: {server.url}/a.jpg: answers with a web page" in str(raised.value)
    assert "lmdb.on_unreadable" in str(raised.value)
    server.requests.clear()
    found = read(path, skip=True)
    assert {path for path, _, _ in server.requests}.isdisjoint({"/b.JPG", "/c.png", "/d.webp"})
    assert [one.where for one in found.left_out][:2] == ["urls.jsonl: line 1", "urls.jsonl: line 5"]
    assert sum(map(len, found.splits.values())) == 3


def test_malformed_urls_cost_their_rows_alone(server: Server) -> None:
    path = table_of_urls(server)
    with path.open("a") as file:
        for url in ("http://[bad/x.jpg", "http://host:99999/x.jpg", "HTTP://a..b/x.jpg"):
            file.write(json.dumps({"image": url, "caption": "bad"}) + "\n")
    with pytest.raises(InputError, match=r"^urls\.jsonl: line 5: .*not a URL \(.*\(3 of 7 images"):
        read(path)
    assert not server.requests, "said before anything is fetched"
    found = read(path, skip=True)
    assert [one.where[-1] for one in found.left_out] == ["5", "6", "7"]
    assert sum(map(len, found.splits.values())) == 4
    assert "left out 3 images that cannot be got (such as urls.jsonl: line 5: " in found.summary


@pytest.mark.parametrize("place", ["http://[bad/x.jpg", "http://a..b/", "http://host:99999/"])
def test_a_redirect_to_no_url_is_a_failure(server: Server, tmp_path: Path, place: str) -> None:
    server.files["/a.jpg"] = Served(b"x", faults=[lambda h: h.answer(302, b"", Location=place) is None])
    failures = fetching.fetch_images([f"{server.url}/a.jpg"], tmp_path, 2)
    assert list(failures) == [f"{server.url}/a.jpg"]


def test_one_server_gets_few_connections_at_a_time(server: Server, tmp_path: Path) -> None:
    lock = threading.Lock()
    now = [0, 0]

    def count(_: Handler) -> bool:
        with lock:
            now[0] += 1
            now[1] = max(now)
        time.sleep(0.02)
        with lock:
            now[0] -= 1
        return False

    names = [f"{number}.jpg" for number in range(20)]
    server.files |= {f"/{name}": Served(b"x", faults=[count]) for name in names}
    assert fetching.fetch_images([f"{server.url}/{name}" for name in names], tmp_path, 16) == {}
    assert 1 < now[1] <= fetching.CONNECTIONS_TO_A_SERVER


def test_too_large_is_not_an_image(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "LARGEST_BYTES", 1000)
    server.files["/a.jpg"] = Served(bytes(2000))
    failures = fetching.fetch_images([f"{server.url}/a.jpg"], tmp_path, 2)
    assert list(failures) == [f"{server.url}/a.jpg"]
    assert "more than 1,000 bytes" in failures[f"{server.url}/a.jpg"]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_redcaps_with_links_of_every_sort(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Dead links, pages, placeholders and what is too large are counted; an interrupted fetch goes on."""
    monkeypatch.setattr(fetching, "LARGEST_BYTES", 1000)
    server.files |= {
        "/a.jpg": Served(b"a"), "/b.jpg": Served(b"b"), "/large.jpg": Served(bytes(2000)),
        "/page.jpg": Served(b"", faults=[lambda h: h.answer(200, b"", Content_Type="text/html") is None]),
        "/gone.jpg": Served(b"", faults=[lambda h: h.answer(302, b"", Location="/removed.png") is None]),
        "/removed.png": Served(b"PNG"),
    }  # fmt: skip
    names = ("a", "b", "a", "large", "page", "gone", "dead")
    annotations = [
        {
            "image_id": f"{number}",
            "subreddit": "pics",
            "url": f"{server.url}/{name}.jpg",
            "caption": f"{number}",
        }
        for number, name in enumerate(names)
    ]
    Path("annotations").mkdir()
    path = Path("annotations/pics_2020.json")
    path.write_text(json.dumps({"info": {}, "annotations": annotations}))
    with pytest.raises(InputError, match="4 of 6 images could not be fetched"):
        read(path)
    server.requests.clear()
    found = read(path, skip=True)
    assert {path for path, _, _ in server.requests}.isdisjoint({"/a.jpg", "/b.jpg"}), "fetched before"
    reasons = {Path(one.image).stem: one.reason for one in found.left_out}
    assert [reasons[name].split(";")[0] for name in ("large", "page", "gone", "dead")] == [
        "sends more than 1,000 bytes", "answers with a web page, not with the file",
        "answers with its picture for images that are gone", "HTTP 404 Not Found",
    ]  # fmt: skip
    images = {split: read_index(Path("data/mine"), split, found.root, "mine") for split in found.splits}
    assert sorted(contents(images["train"] + images["val"]).values()) == [
        (b"a", ("0", "2")), (b"b", ("1",))
    ]  # fmt: skip
    assert "mine: 2 of 6 URLs fetched, 66.7 % failed" in capsys.readouterr().out
    assert "left out 4 images that cannot be got" in found.summary
