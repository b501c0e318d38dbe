"""What a run leaves on its page in Prefect."""

from pathlib import Path

from prefect import runtime
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.utilities.urls import url_for

from components.core.redaction import redacted
from pipelines.outcomes import REPORT, Row, as_markdown, page_line
from pipelines.temporary_server import has_lasting_server


def publish(root: Path, table: list[Row], report_page: str | None, is_reported: bool) -> None:
    """Table of the stages and, if it is one of this run, the report."""
    create_table_artifact(table=[dict(row) for row in table], key="stages", description=as_markdown(table))
    if is_reported:
        line, text = page_line(root, report_page), redacted((root / REPORT).read_text(encoding="utf-8"))
        create_markdown_artifact(f"{line}\n\n{text}", key="report", description=f"Results. {line}")
        if report_page:
            create_link_artifact(report_page, "The report as one page", key="report-page")


def flow_run_page() -> str | None:
    """Address of this flow run's page; None with a temporary server, whose page ends with it."""
    if not has_lasting_server():
        return None
    return url_for("flow-run", obj_id=str(runtime.flow_run.id))
