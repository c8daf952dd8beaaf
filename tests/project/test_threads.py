"""The setting of MAX's idle threads never conflicts with a MAX that has started."""

import os
import subprocess
import sys

import pytest

NAMES = ("MODULAR_THREAD_BUSY_WAIT_US", "MODULAR_RUNTIME_THREAD_BUSY_WAIT_TIME_US")
START = "from max.driver import CPU; from max.engine import InferenceSession; device = CPU(); "


@pytest.mark.parametrize(
    "program",
    ["import mili; " + START + "InferenceSession(devices=[device])", START + "import mili; InferenceSession([device])"],
    ids=["mili first", "max first"],
)
@pytest.mark.parametrize("set_names", [(), NAMES])
def test_a_session_starts_whoever_comes_first(program: str, set_names: tuple[str, ...]) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in NAMES}
    environment |= dict.fromkeys(set_names, "50")
    result = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", NAMES)
def test_one_name_of_the_setting_is_enough(name: str) -> None:
    environment = {other: value for other, value in os.environ.items() if other not in NAMES} | {name: "50"}
    program = "import mili; " + START + "InferenceSession(devices=[device])"
    result = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
