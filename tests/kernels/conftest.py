"""`pytest tests/kernels --device gpu` runs the same checks on an accelerator."""

from functools import cache

import pytest
from hypothesis import HealthCheck, settings

from tests.kernels.harness import Kernels
from tests.kernels.ptx import TARGETS, Ptx, compile_ptx

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


@pytest.fixture(scope="session", params=TARGETS)
def ptx(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ptx:
    """The PTX of every GPU kernel and step, for each NVIDIA target."""
    return compile_ptx(request.param, tmp_path_factory.mktemp("ptx"))
