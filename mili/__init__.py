"""MILI, the Mojo Inference Language Engine."""

import os
import sys
from pathlib import Path

# The MAX and Mojo toolchain reports usage to its vendor, and can upload crash dumps, unless these say no. They are
# read when the toolchain starts, so they are set before anything imports `max`. A value the user has set stays.
os.environ.setdefault("MODULAR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("MODULAR_CRASH_REPORTING_ENABLED", "0")
# huggingface_hub tells the hub more about this machine than a request for a file needs.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

# MAX's idle threads look for work in a loop before they sleep, on cores that the kernels' own helper threads need
# (kernels/fork_join.mojo): without that loop a token takes 13% less time on two cores. Where there is a GPU the loop
# stays. The two names of the setting must agree, and a MAX that has started its threads refuses any other value.
if "max" not in sys.modules and not any(Path(path).exists() for path in ("/dev/nvidiactl", "/dev/kfd")):
    _names = ("MODULAR_THREAD_BUSY_WAIT_US", "MODULAR_RUNTIME_THREAD_BUSY_WAIT_TIME_US")
    _wait = next((os.environ[name] for name in _names if name in os.environ), "0")
    for _name in _names:
        os.environ.setdefault(_name, _wait)
