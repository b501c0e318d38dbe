"""Where people find the report's page: in Prefect and in MLflow."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from components.tracking.store import Store
from pipelines import publishing
from pipelines.outcomes import REPORT, REPORT_PAGE, page_line
from pipelines.record import PipelineRecord

ADDRESS = "http://host:5000/#/experiments/7/runs/abc/artifacts/report/report.html"


def opened(root: Path, uri: str) -> PipelineRecord:
    return PipelineRecord(root, Store(None, "7", uri), SimpleNamespace(run_id="abc"))


def test_the_page_has_an_address_where_mlflow_is_a_server(tmp_path: Path) -> None:
    assert opened(tmp_path, "http://host:5000").report_page == ADDRESS
    assert opened(tmp_path, "sqlite:///mlflow.db").report_page is None
    assert PipelineRecord(tmp_path, None, None).report_page is None


@pytest.mark.parametrize("address", [ADDRESS, None])
def test_prefect_links_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    made: dict[str, str] = {}
    for kind in ("markdown", "table", "link"):
        monkeypatch.setattr(
            publishing,
            f"create_{kind}_artifact",
            lambda *args, key, **more: made.update({key: str(args[0] if args else more)}),
        )
    (tmp_path / REPORT).parent.mkdir(parents=True)
    (tmp_path / REPORT).write_text("# What")
    publishing.publish(tmp_path, [], address, is_reported=True)
    line = page_line(tmp_path, address)
    assert made["report"] == f"{line}\n\n# What"
    assert (address or str(tmp_path / REPORT_PAGE)) in line
    assert made.get("report-page") == address


def test_a_report_of_an_earlier_run_is_not_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    for kind in ("markdown", "table", "link"):
        monkeypatch.setattr(
            publishing, f"create_{kind}_artifact", lambda *args, key, **more: made.append(key)
        )
    (tmp_path / REPORT).parent.mkdir(parents=True)
    (tmp_path / REPORT).write_text("# What")
    publishing.publish(tmp_path, [], ADDRESS, is_reported=False)
    assert made == ["stages"]
