"""`pytest tests/kernels --device gpu` runs the same checks on an accelerator."""

from functools import cache

import pytest
from hypothesis import HealthCheck, settings

from tests.kernels.harness import Kernels

settings.register_profile("kernels", deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
settings.load_profile("kernels")


@cache
def _kernels(device: str, dtype: str) -> Kernels:
    return Kernels(device, dtype)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test that takes `kernels` runs once a dtype of the device."""
    if "kernels" in metafunc.fixturenames:
        dtypes = ["float32", "bfloat16"]
        if metafunc.config.getoption("--device") == "gpu":
            dtypes.append("float16")
        metafunc.parametrize("kernels", dtypes, indirect=True, scope="session")


@pytest.fixture(scope="session")
def kernels(request: pytest.FixtureRequest) -> Kernels:
    """The compiled kernels of one dtype on the chosen device."""
    return _kernels(request.config.getoption("--device"), request.param)
