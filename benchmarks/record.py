"""What a recorded result says besides its figures, and medians of rounds, which bear a machine that others share."""

import statistics
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from mili.hardware import cpu_description


def info(module: str, *packages: str) -> dict[str, Any]:
    """Date, CPU, versions (of MAX, Mojo, NumPy and `packages`, if installed) and command, for the record."""
    versions: dict[str, str] = {}
    for name in ("max", "mojo", "numpy", *packages):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    date = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    command = f"python -m {module} " + " ".join(sys.argv[1:])
    return {"device": cpu_description(), "date": date, "command": command.strip(), **versions}


def medians(rounds: Sequence[Any]) -> Any:
    """One result of the same shape as each of `rounds`: floats become their medians, anything else is the first's."""
    first = rounds[0]
    if isinstance(first, dict):
        return {key: medians([each[key] for each in rounds]) for key in first}
    if isinstance(first, list):
        return [medians(each) for each in zip(*rounds, strict=True)]
    return statistics.median(rounds) if isinstance(first, float) else first
