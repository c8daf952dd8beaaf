"""Tests that compare with transformers run where it is installed, and always when they are asked for (`-m oracle`)."""

from importlib.util import find_spec

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    missing = [name for name in ("torch", "transformers") if find_spec(name) is None]
    if not missing or "oracle" in config.getoption("markexpr"):
        return
    skip = pytest.mark.skip(reason=f"compares with transformers, and {' and '.join(missing)} is not installed")
    for item in items:
        if item.get_closest_marker("oracle"):
            item.add_marker(skip)
