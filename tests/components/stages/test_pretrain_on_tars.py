"""Pretraining on tars of a server ends with the captioner that the same images on this disk give."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from components import params
from components.core import paths
from components.data.build import build_store
from components.data.record import StoreForm
from components.data.store import CaptionStore
from components.pretraining.run import Sections, _options
from components.sources.download.tar_cache import machine_cache
from components.sources.readers.own.dataset import read_own
from components.sources.readers.own.sample import OwnSettings
from components.stages import pretrain as stage
from components.training.checkpoints import CheckpointFolder
from tests.components.stages.pretraining import digests, pretrain_run
from tests.conftest import FileServer


def run_stage(sections: list[params.Section], **stream: Any) -> dict[str, str]:
    """Run the stage; return the digests of what it leaves."""
    given = [
        section.model_copy(update=stream) if isinstance(section, params.Stream) else section
        for section in sections
    ]
    stage.main(pretrain_run(), *given)
    return digests()


def test_who_waits_for_tars_is_told_what_tars_allow(sections: list[params.Section]) -> None:
    here = Sections(*sections)  # type: ignore[arg-type]
    there = here._replace(stream=here.stream.model_copy(update={"train": True}))
    assert "lmdb.decoded" in _options(here, "fp32").data_advice
    assert "stream.cache_gib" in _options(there, "fp32").data_advice
    assert "lmdb.decoded" not in _options(there, "fp32").data_advice  # which stream.train refuses


@pytest.mark.slow
def test_the_same_captioner_from_tars_also_after_a_crash(
    sections: list[params.Section], file_server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CaptionStore(paths.lmdb_path("train"))
    for number in range(4):
        with tarfile.open(file_server.folder / f"train-{number}.tar", "w") as tar:
            for record in (store.get(2 * number), store.get(2 * number + 1)):
                texts = {".png": record.image, ".txt": "\n".join(record.captions).encode()}
                for suffix, content in texts.items():
                    info = tarfile.TarInfo(Path(record.file).stem + suffix)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    (file_server.folder / "val-0.tar").write_bytes((file_server.folder / "train-0.tar").read_bytes())
    urls = f"{file_server.url}/{{train-0,train-1,train-2,train-3,val-0}}.tar"
    images = read_own(urls, "grey", OwnSettings(), Path("data/grey"), False).splits["train"]
    build_store(paths.lmdb_path("train"), images, StoreForm(), num_workers=1)
    here = run_stage(sections)

    build_store(paths.lmdb_path("train"), images, StoreForm(in_tars=True), num_workers=1)
    before = machine_cache().fetched()
    assert run_stage(sections, train=True) == here
    for path in machine_cache().folder.glob("*.tar"):
        path.unlink()
    mixed = run_stage(sections, train=True, mixed_tars=1)
    assert mixed != here  # another order
    metrics = json.loads((paths.stage_dir("pretrain") / "metrics.json").read_text())
    assert (metrics["tars"], metrics["fetched_tars"]) == (4, 4)
    assert metrics["fetched_bytes"] == metrics["tars_bytes"]
    assert machine_cache().fetched().tars - before.tars == 4

    save = CheckpointFolder.save

    def save_and_crash(*arguments: Any) -> None:
        save(*arguments)
        raise MemoryError("crashed")

    with monkeypatch.context() as patched:
        patched.setattr(CheckpointFolder, "save", save_and_crash)
        with pytest.raises(MemoryError, match="crashed"):
            run_stage(sections, train=True, mixed_tars=1)
    assert run_stage(sections, train=True, mixed_tars=1) == mixed
