"""What `virtex ablate seeds` has shown of the run with these parameters, seeds aside: means over seeds.

The stage `report` does not depend on it, for it may be absent; the family renews the report when it ends.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from components.core import paths
from components.core.files import read_json
from components.params import PRETRAINED
from components.params.families import SEEDS, digest_without_seeds
from components.params.yaml_files import load_yaml
from components.report.results import OTHER_PROTOCOL_MARK, Result

COMPARISON = paths.OUTPUTS_DIR / "ablations" / SEEDS / "comparison.json"
NO_DIFFERENCE = "no difference"


def read_seeds(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return a row per result of which several seeds are known; none if those are of other parameters.

    Each has ``title``, ``number`` of seeds, ``mean`` and ``standard_error`` in percent; where there is a
    random backbone, ``gain`` with ``low`` and ``high``, the 95 % interval of its mean; ``mark`` of another
    protocol than this run's; ``remark``.
    """
    try:
        (row,) = read_json(COMPARISON)["rows"]
        if row["digest"] != digest_without_seeds(load_yaml(paths.PARAMS)):
            return []
        return list(_rows(row, results))
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _rows(row: Mapping[str, Any], results: Sequence[Result]) -> Iterator[dict[str, Any]]:
    for result in results:
        key = result.benchmark.key
        values = row["seeds"].get(key, {})
        if len(values) < 2:
            continue
        interval = row["gain_intervals"].get(key)
        low, high = interval or (None, None)
        same = {result.protocols.get(PRETRAINED, "")} >= {*row["protocols"][key]}
        yield {
            "title": result.benchmark.row_title,
            "number": len(values),
            "mean": row["figures"][key],
            "standard_error": row["standard_errors"][key],
            "gain": row["gains"].get(key),
            "low": low,
            "high": high,
            "mark": "" if same else OTHER_PROTOCOL_MARK,
            "remark": NO_DIFFERENCE if interval and interval[0] <= 0 <= interval[1] else "",
        }
