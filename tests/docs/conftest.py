"""What makes the guide's generated pages is beside the guide, and no package."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docs" / "hooks"))
