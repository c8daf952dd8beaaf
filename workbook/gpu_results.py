"""Results of GPU runs that are in the repository, for readers without a GPU; with one, kernels are also timed on it.

`benchmarks/results/*.json` are written by `python -m benchmarks.gpu.run_all --json FILE`: {"info": {"device", "date",
"command", ...}, "timings": [{"op": ..., ...}], ...}.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mili.hardware import find_gpus
from workbook.paths import ROOT

RESULTS = ROOT / "benchmarks" / "results"
LADDERS = ("linear", "rms_norm", "prefill", "decode")
"""What `python -m benchmarks.ladder NAME --device gpu` can climb."""
UNITS = {
    "us": "µs",
    "torch_us": "PyTorch µs",
    "compiled_us": "compiled, pages µs",
    "gbs": "GB/s",
    "of_copy": "of copy bandwidth",
    "tflops": "TFLOP/s",
    "torch_tflops": "PyTorch TFLOP/s",
}


def latest(op: str, folder: Path = RESULTS) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
    """The newest recorded run that timed `op`: what it says of itself, and its timings of the op; or None."""
    found = []
    for path in folder.glob("*.json"):
        document = json.loads(path.read_text())
        if not isinstance(document, dict) or "info" not in document:
            continue
        rows = [row for row in document.get("timings", []) if row.get("op") == op]
        if rows:
            found.append((document["info"], rows))
    return max(found, key=lambda run: str(run[0].get("date", ""))) if found else None


def recorded(
    op: str, columns: Sequence[str] = (), folder: Path = RESULTS, where: Mapping[str, object] | None = None
) -> None:
    """Print the newest recorded GPU timings of an operation, with device, date and command, or that there are none.

    columns: what to show (all if empty). where: only timings with these values, such as {"model": "8B"}.
    On a machine with a GPU the operation's ladder is then timed there (`live`).
    """
    _show(op, columns, folder, where)
    live(op)


def live(op: str) -> None:
    """Climb the operation's ladder on this machine's GPU and print the table; nothing without a GPU or a ladder."""
    if op not in LADDERS or not find_gpus().usable:
        return
    if find_spec("torch") is None:
        print("\nThis machine has a GPU: install PyTorch (pip install torch), and this cell times the ladder on it.")
        return
    command = [sys.executable, "-m", "benchmarks.ladder", op, "--device", "gpu"]
    print(f"\nOn this machine's GPU: {' '.join(['python', *command[1:]])}")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    print(done.stdout + (done.stderr if done.returncode else ""))


def _show(op: str, columns: Sequence[str], folder: Path, where: Mapping[str, object] | None) -> None:
    run = latest(op, folder)
    if run is None:
        print(f"No GPU results of {op} are recorded yet. What the kernel becomes can be read as PTX all the same.")
        return
    info, rows = run
    rows = [row for row in rows if all(row.get(name) == value for name, value in (where or {}).items())]
    if not rows:
        raise ValueError(f"no recorded timing of {op} has {where}")
    shown = list(columns) or [name for name in rows[0] if name != "op"]
    heads = [UNITS.get(name, name) for name in shown]
    cells = [[text(row.get(name)) for name in shown] for row in rows]
    widths = [max(len(line[i]) for line in [heads, *cells]) for i in range(len(shown))]
    print(f"{info.get('device', 'an unnamed device')}, {info.get('date', 'no date')}: {info.get('command', '')}")
    for line in [heads, *cells]:
        print("  ".join(value.rjust(width) for value, width in zip(line, widths, strict=True)))


def text(value: object) -> str:
    """A table cell: three significant digits for fractions."""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return "" if value is None else str(value)
