"""Percentiles, tables, JSON and plots of measurements."""

import json
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from mili.engine import Engine
from mili.errors import ConfigError

QUANTILES = (50, 90, 95, 99)


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Mean, percentiles and maximum in milliseconds; empty without values."""
    if not len(seconds):
        return {}
    values = np.asarray(seconds, np.float64) * 1e3
    row = {"mean": values.mean(), **{f"p{q}": np.percentile(values, q) for q in QUANTILES}, "max": values.max()}
    return {name: round(float(value), 3) for name, value in row.items()}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as aligned text; the columns are those of the first row."""
    columns = list(rows[0])
    cells = [columns, *([_cell(row.get(column)) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join("  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)) for line in cells)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,.1f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def environment(engine: Engine | None) -> dict[str, Any]:
    """What was measured on what, for the record."""
    found: dict[str, Any] = {"python": platform.python_version(), "machine": platform.machine()}
    for package in ("mili", "max", "mojo"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    if engine is not None:
        found["device"] = str(getattr(engine.model, "device", "unknown"))
        found["dtype"] = getattr(engine.model, "dtype", "unknown")
        found["pages"] = engine.metrics.pages
        found["max_running"] = engine.options.max_running
        found["max_batch_tokens"] = engine.options.max_batch_tokens
    return found


def write_json(path: Path, result: dict[str, Any]) -> None:
    """Write a result, readable by people too."""
    path.write_text(json.dumps(result, indent=1) + "\n")


def plot_serving(path: Path, runs: Sequence[dict[str, Any]], samples: Sequence[dict[str, list[float]]]) -> None:
    """A figure of a serving benchmark: distributions of the latencies at each rate, and throughput against latency."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        raise ConfigError("--plot needs matplotlib, which is not installed: pip install 'mili[lab]'") from None
    figure, axes = pyplot.subplots(1, 3, figsize=(14, 4), layout="constrained")
    for axis, (name, title) in zip(
        axes, (("ttft", "Time to first token"), ("itl", "Inter-token latency")), strict=False
    ):
        for run, sample in zip(runs, samples, strict=True):
            values = np.sort(np.asarray(sample[name])) * 1e3
            if len(values):
                axis.plot(values, np.arange(1, len(values) + 1) / len(values), label=_rate(run))
        axis.set(title=title, xlabel="milliseconds", ylabel="share of all", ylim=(0, 1))
        axis.grid(alpha=0.3)
        axis.legend(title="arrivals", frameon=False)
    tokens = [run["output_tokens_per_second"] for run in runs]
    axes[2].plot(tokens, [run["ttft_ms"].get("p95", 0) for run in runs], "o-")
    for run, x in zip(runs, tokens, strict=True):
        axes[2].annotate(_rate(run), (x, run["ttft_ms"].get("p95", 0)), textcoords="offset points", xytext=(6, 4))
    axes[2].set(title="Latency against throughput", xlabel="output tokens/s", ylabel="95% of first tokens within, ms")
    axes[2].grid(alpha=0.3)
    axes[2].set_ylim(bottom=0)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _rate(run: dict[str, Any]) -> str:
    return "all at once" if run["rate"] is None else f"{run['rate']:g}/s"
