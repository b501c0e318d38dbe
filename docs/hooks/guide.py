"""MkDocs' hook: pages that are made and not written, the picture of the pipeline, nothing from elsewhere."""

import re
from pathlib import Path
from typing import Any

from command_reference import commands_page
from configuration_reference import configuration_page
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from pipeline_picture import draw, read_stages

REPOSITORY = Path(__file__).resolve().parents[2]
PICTURE = "<!-- picture of the pipeline -->"
# What a browser would fetch from another place: the guide reads offline.
_FETCHED = re.compile(r"<(?:script|img|iframe|link)\b[^>]*?(?:src|href)=[\"']?(?:https?:)?//[^>]*>")
STAGE_PAGES = {  # where a click on a stage leads
    "download": "published-datasets.md",
    "sources": "pipeline.md",
    "datasets": "own-data.md",
    "baseline": "benchmarks/index.md",
    "voc07": "benchmarks/voc07.md",
    "classification": "benchmarks/imagenet-linear.md",
    "detection": "detection.md",
    "caption": "benchmarks/captioning.md",
    "select": "benchmarks/voc07.md",
    "pretrain": "distributed.md",
}


def on_files(files: Files, config: Any) -> Files:
    """Add the references."""
    params_text, dvc_text = (
        (REPOSITORY / name).read_text(encoding="utf-8") for name in ("params.yaml", "dvc.yaml")
    )
    made = {
        "reference/configuration.md": configuration_page(params_text, dvc_text),
        "reference/commands.md": commands_page(),
    }
    for path, content in made.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Put the picture where a page asks for it."""
    if PICTURE not in markdown:
        return markdown

    def link(stage: str) -> str | None:
        if stage not in STAGE_PAGES:
            return None
        target = files.get_file_from_path(STAGE_PAGES[stage])
        if target is None:
            raise PluginError(f"docs/hooks/guide.py: STAGE_PAGES: {STAGE_PAGES[stage]}: no such page")
        return target.url_relative_to(page.file)

    stages = read_stages((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))
    return markdown.replace(PICTURE, draw(stages, link))


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Refuse pages that would fetch something."""
    if found := _FETCHED.search(output):
        raise PluginError(f"{page.file.src_uri}: the guide must read offline, but fetches {found[0]}")
    return output
