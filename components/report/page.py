"""The report as one page in one file: nothing is fetched, no script, light and dark, desk and phone."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from components.core.published import GROUPS
from components.report import charts
from components.report.data import ReportData
from components.report.details import Details
from components.report.gallery import Gallery
from components.report.html import render
from components.report.protocol import Protocol, as_text
from components.report.table import (
    ABSENT,
    LOSS_TITLES,
    SETUP_TITLES,
    backbone_title,
    columns_of,
    data_line,
    duration,
    has_imagenet,
    legend,
    protocol_line,
    signed,
    taught_by,
)

# How a number is written, by name.
FORMS: Mapping[str, Any] = {
    "percent": "{:.1f}".format,
    "points": signed,
    "loss": "{:.3f}".format,
    "count": "{:,.0f}".format,
    "rate": "{:,.1f}".format,
    "rounded": "{:.0f}".format,
    "duration": duration,
}


def page(
    report: Mapping[str, Any], data: ReportData, protocol: Protocol, details: Details, gallery: Gallery
) -> str:
    """Return HTML; all text is escaped, and each number is looked up in ``report``, which is report.json."""
    shown = _charts(data, details)
    return render(
        "report.html",
        backbone_title=backbone_title,
        report=report,
        tables=_tables(report, data),
        show=_Numbers(report),
        pointer=pointer,
        value_at=lambda address: value_at(report, address),
        as_text=as_text,
        titles=SETUP_TITLES,
        taught_by=taught_by(data.setup.objective),
        setup=data.setup,
        data_line=data_line(data),
        legend=legend(data, "vs paper"),
        protocol_line=protocol_line(protocol),
        charts=shown,
        gallery=gallery,
    )


def pointer(*keys: object) -> str:
    """Say where a value lies in report.json, as a JSON Pointer (RFC 6901)."""
    return "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in keys)


def value_at(report: Any, address: str) -> Any:
    """Return what lies at a JSON Pointer; None if nothing does."""
    value = report
    for part in address.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list | tuple) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value


class _Numbers:
    """Writes a number of the report with its address, or that it is absent."""

    def __init__(self, report: Mapping[str, Any]) -> None:
        self._report = report

    def __call__(self, form: str, *keys: object) -> Markup:
        address = pointer(*keys)
        value = value_at(self._report, address)
        if not isinstance(value, int | float) or isinstance(value, bool):
            return Markup('<span class="absent">{}</span>').format(ABSENT)
        sign = "" if form != "points" or not round(value, 1) else " gain" if value > 0 else " loss"
        return Markup('<span class="number{}" data-json="{}" data-form="{}">{}</span>').format(
            sign, address, form, FORMS[form](value)
        )


def _tables(report: Mapping[str, Any], data: ReportData) -> dict[str, dict[str, Any]]:
    """Return rows and columns of each group's table."""
    tables = {}
    for group in GROUPS:
        results = data.of_group(group)
        tables[group] = {
            "rows": [report["results"][data.results.index(result)] for result in results],
            "backbones": columns_of(results, data.backbones),
            "imagenet": has_imagenet(results),
        }
    return tables


def _charts(data: ReportData, details: Details) -> dict[str, Any]:
    criterion = str(data.choice.get("criterion", "score"))
    return {
        "losses": Markup(charts.losses(data.train_loss, data.val_loss)),
        "loss_title": LOSS_TITLES.get(data.setup.objective, "Loss"),
        "rates": Markup(charts.lines(details.rates, "iteration")),
        "candidates": Markup(charts.candidates(details.candidates, criterion)),
        "precision": Markup(charts.precision_recall(details.precision)),
        "frequency": Markup(charts.frequency(details.frequency)),
        "classes": [(found, Markup(charts.class_figures(found))) for found in details.classes],
        "trainings": [(found.title, Markup(charts.training(found))) for found in details.trainings],
        "confusions": [(found.title, Markup(charts.confusion(found))) for found in details.confusions],
    }
