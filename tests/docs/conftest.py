"""What makes the guide's generated pages is beside the guide, and no package; nor is this folder."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "docs" / "hooks"), str(HERE)]
