"""Where things are."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
KERNELS = ROOT / "kernels"
LEARN = ROOT / "learn"
CACHE = ROOT / ".cache" / "workbook"
