"""Stage ``sources``: whether data of one's own have been touched; the first of all, and runs every time.

It looks at names, sizes and times only. Where nothing was touched its output stays, and so does all else.
What is new in DVC's cache is read, so that damaged results are made again instead of used. Shards beyond
``lmdb.shards`` go here: DVC may bring back the store of an earlier number without a run of its stage.
"""

from components import params
from components.core import paths
from components.core.dvc_cache import CHECKED, cache_folder, largest_checked, repair
from components.core.files import write_text
from components.data.shards import remove_shards
from components.entry import run_stage
from components.params import check_params
from components.sources.fingerprint import changed_sources, fingerprint
from components.tracking import StageRun

SECTIONS = (params.Download, params.Lmdb)


def main(_: StageRun, download: params.Download, lmdb: params.Lmdb) -> None:
    """Write ``data/sources.json`` if it would change; remove shards that are none any more.

    Raises:
        InputError: a section of params.yaml is wrong, or two do not fit: said before hours of work.
    """
    check_params()
    for line in repair(cache_folder(), largest_checked(), CHECKED):
        print(line, flush=True)
    remove_shards(paths.lmdb_path("train"), len(lmdb.shards))
    changed = changed_sources(download)
    for key in changed:
        print(f"{key}: new, or touched since it was last looked at", flush=True)
    if changed or not paths.DATA_SOURCES.is_file():
        write_text(paths.DATA_SOURCES, fingerprint(download))


if __name__ == "__main__":
    run_stage("sources", SECTIONS, main, is_recorded=False)
