"""The report for programs. The page shows no number that is not in here."""

from dataclasses import asdict, dataclass, field
from typing import Any

from components.core.published import GROUPS, SOURCE
from components.report.data import ReportData, Result
from components.report.details import Details
from components.report.gallery import Gallery
from components.report.protocol import (
    Protocol,
    comparable_results,
    is_comparable,
    pretraining_differences,
    result_differences,
    warnings,
)
from components.report.table import comparability, dataset_titles, headline, loss_parts, problem_lines


@dataclass(frozen=True, slots=True)
class RunContext:
    """Where and when the run was, and what it cost.

    Attributes:
        environment: of the report's own process: versions, commit, host, device.
        stages: ``stage``, ``started``, ``seconds``, ``run_id`` and ``link`` of each stage's last real run.
        preset: in force, or None.
    """

    environment: dict[str, str] = field(default_factory=dict)
    stages: list[dict[str, Any]] = field(default_factory=list)
    preset: str | None = None


def report_json(
    data: ReportData, protocol: Protocol, details: Details, gallery: Gallery, around: RunContext
) -> dict[str, Any]:
    """Return all of it; figures in percent."""
    return {
        "format": "virtex-report",
        "version": 3,
        "headline": headline(data),
        "backbones": list(data.backbones),
        "groups": dict(GROUPS),
        "results": [_result(order, result, data, protocol) for order, result in enumerate(data.results)],
        "warnings": warnings(data, protocol),
        "problems": problem_lines(data),
        "published": {"source": SOURCE, "model": data.published.name},
        "comparable": bool(comparable_results(data, protocol)),
        "comparability": comparability(data, protocol).replace("**", ""),
        "pretraining_differences": pretraining_differences(data, protocol),
        "setup": {name: {"this_run": ours, "published": theirs} for name, ours, theirs in data.compared()},
        "protocol": asdict(protocol),
        "pretraining": data.pretraining,
        "pretraining_losses": loss_parts(data.pretraining),
        "choice": data.choice,
        "candidates": details.candidates,
        "captioning": data.captioning,
        "captions": gallery.captions,
        "voc07_class_ap": data.class_aps,
        "classes": {found.stage: asdict(found) for found in details.classes},
        "frequency": details.frequency,
        "datasets": details.datasets,
        "dataset_titles": dataset_titles(data.manifest),
        "preset": around.preset,
        "environment": around.environment,
        "stages": around.stages,
        "seconds": sum(stage["seconds"] for stage in around.stages),
        "missing": [*data.missing, *(note for note in _broken(details, gallery) if note not in data.missing)],
    }


def _result(order: int, result: Result, data: ReportData, protocol: Protocol) -> dict[str, Any]:
    benchmark = result.benchmark
    return {
        "order": order,
        "benchmark": benchmark.name,
        "title": data.title(benchmark),
        "row_title": benchmark.row_title,
        "group": benchmark.group,
        "metric": benchmark.metric,
        "metric_title": benchmark.metric_title,
        "headline": benchmark.is_headline,
        "figures": result.figures,
        "difference": result.difference,
        "published": result.published,
        "published_model": result.published_model,
        "comparable": is_comparable(result, data, protocol),
        "not_the_papers": result_differences(result, data, protocol),
        "published_difference": result.published_difference,
        "imagenet": result.imagenet,
        "imagenet_difference": result.imagenet_difference,
        "problems": result.problems,
    }


def _broken(details: Details, gallery: Gallery) -> list[str]:
    return [*details.broken, *gallery.broken]
