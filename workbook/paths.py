"""Where things are. MILI_LEARN moves the learner's copy."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
KERNELS = ROOT / "kernels"
LEARN = Path(os.environ.get("MILI_LEARN", ROOT / "learn")).resolve()
CACHE = ROOT / ".cache" / "workbook"
