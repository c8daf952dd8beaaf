"""Options of the whole test suite."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--device gpu` runs the kernel tests on an accelerator."""
    parser.addoption("--device", choices=("cpu", "gpu"), default="cpu", help="where tests/kernels run the kernels")
