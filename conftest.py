"""Options of the whole test suite, and the environment of the processes that tests start."""

import os
from pathlib import Path

import pytest

import mili  # first: it turns the toolchain's usage reports off, for the tests' subprocesses too

del mili
# Notebooks run in processes of their own, which must find this repository's packages.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--device gpu` runs the kernel tests on an accelerator."""
    parser.addoption("--device", choices=("cpu", "gpu"), default="cpu", help="where tests/kernels run the kernels")
