"""Write comparison.md, .json, .csv and .png into a folder, from rows.json: see `read_comparison`."""

import sys
from pathlib import Path

from components.comparison.picture import draw_comparison
from components.comparison.rows import read_comparison
from components.comparison.table import comparison_csv, comparison_json, markdown
from components.core.errors import InputError
from components.core.files import write_json, write_text


def main(request: Path, folder: Path) -> None:
    comparison = read_comparison(request)
    draw_comparison(folder / "comparison.png", comparison)
    write_text(folder / "comparison.csv", comparison_csv(comparison))
    write_json(folder / "comparison.json", comparison_json(comparison))
    write_text(folder / "comparison.md", markdown(comparison))


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except InputError as error:
        sys.exit(str(error))
