"""MILI, the Mojo Inference Language Engine."""

import os

# The MAX and Mojo toolchain reports usage to its vendor, and can upload crash dumps, unless these say no. They are
# read when the toolchain starts, so they are set before anything imports `max`. A value the user has set stays.
os.environ.setdefault("MODULAR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("MODULAR_CRASH_REPORTING_ENABLED", "0")
# huggingface_hub tells the hub more about this machine than a request for a file needs.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
