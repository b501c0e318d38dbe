"""Stage ``download``: the archives of one published dataset, from the first mirror that gives them."""

from components import params
from components.core.datasets import DATASETS
from components.entry import run_stage
from components.sources.download.dataset import fetch_dataset
from components.tracking import StageRun

SECTIONS = (params.Download,)
ITEMS = tuple(DATASETS)


def main(run: StageRun, download: params.Download) -> None:
    """Have the archives of ``run.item`` in datasets/archives, checked and recorded."""
    assert run.item in DATASETS
    record = fetch_dataset(run.item, download.mirrors.get(run.item, []), download.connections)
    run.metrics(
        {
            "archives": len(record.archives),
            "bytes": sum(archive.size for archive in record.archives.values()),
        }
    )


if __name__ == "__main__":
    run_stage("download", SECTIONS, main, ITEMS)
