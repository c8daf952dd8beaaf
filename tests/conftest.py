"""Some tests need what a user of MILI does not have: they run where it is installed, always when asked for (`-m`)."""

import os
import shutil
from importlib.util import find_spec

import pytest

from tests.kernels.registers import find_ptxas


def _missing() -> dict[str, list[str]]:
    """By marker, what is not installed."""
    missing = {"oracle": [name for name in ("torch", "transformers") if find_spec(name) is None]}
    missing["browser"] = [] if find_spec("playwright") else ["playwright"]
    if not (os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")):
        missing["browser"].append("Chromium")
    missing["ptxas"] = [] if find_ptxas() else ["ptxas (pip install --no-deps nvidia-cuda-nvcc)"]
    return missing


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for marker, names in _missing().items():
        if not names or marker in config.getoption("markexpr"):
            continue
        skip = pytest.mark.skip(reason=f"needs {' and '.join(names)}, not installed here; CI runs it")
        for item in items:
            if item.get_closest_marker(marker):
                item.add_marker(skip)
