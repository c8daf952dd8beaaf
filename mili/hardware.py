"""What this machine has, and why its GPU cannot be used if that is so: one sentence that says what to do."""

import os
import platform
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from max.driver import CPU, Accelerator, accelerator_count

_VENDORS = {"0x10de": "NVIDIA", "0x1002": "AMD"}
_DISPLAY, _ACCELERATOR = "0x03", "0x12"  # PCI classes
CPU_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "asimd", "bf16")
"""Instruction sets that the CPU kernels can use; the first six are x86, the last two ARM."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU that MAX can use; memory in bytes."""

    index: int
    name: str
    architecture: str
    total_memory: int
    free_memory: int


@dataclass(frozen=True, slots=True)
class Gpus:
    """The GPUs that can be used, the NVIDIA driver's version if one is loaded, and what is wrong, None if nothing is.

    A machine without a GPU has no problem.
    """

    usable: tuple[Gpu, ...]
    driver: str | None
    problem: str | None


def find_gpus(
    root: Path = Path("/"),
    count: Callable[[], int] = accelerator_count,
    open_device: Callable[[int], Any] = Accelerator,
    environment: Mapping[str, str] = os.environ,
) -> Gpus:
    """Open every GPU that MAX sees; look at the machine to explain those that it does not (arguments are for tests)."""
    driver = nvidia_driver(root)
    usable = []
    problem = None
    try:
        for index in range(count()):
            device = open_device(index)
            if not device.is_compatible:
                raise RuntimeError("MAX finds it incompatible")
            memory = device.stats
            usable.append(
                Gpu(
                    index,
                    str(device.model_name),
                    str(device.architecture_name),
                    int(memory["total_memory"]),
                    int(memory["free_memory"]),
                )
            )
    except Exception as error:  # whatever MAX raises: the doctor must not fall ill itself
        reason = " ".join(str(error).split()).rstrip(".")
        with_driver = f" with NVIDIA driver {driver}" if driver else ""
        problem = f"GPU {len(usable)}{with_driver} cannot be used ({reason}); update the driver, or use --device cpu."
    if not usable and problem is None:
        problem = _unseen(pci_gpus(root), driver, environment)
    return Gpus(tuple(usable), driver, problem)


def _unseen(vendors: list[str], driver: str | None, environment: Mapping[str, str]) -> str | None:
    """Why MAX sees no GPU at all on a machine where something points to one."""
    for variable in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        if variable in environment and environment[variable].strip() in ("", "-1", "none", "NoDevFiles"):
            return f"{variable} is {environment[variable]!r}, which hides every GPU; unset it to use one."
    if driver is not None:
        return (
            f"NVIDIA driver {driver} is loaded, but MAX sees no GPU: the driver is too old, or a container was started "
            "without the GPU (docker run --gpus all)."
        )
    if vendors:
        names = " and ".join(sorted(set(vendors)))
        return f"This machine has a GPU of {names}, but its driver is not loaded: install the driver to use it."
    return None


def nvidia_driver(root: Path = Path("/")) -> str | None:
    """Version of the loaded NVIDIA kernel driver, None if there is none."""
    try:
        text = (root / "proc/driver/nvidia/version").read_text()
    except OSError:
        return None
    found = re.search(r"\s(\d{3}\.\d+(?:\.\d+)?)\s", text)
    return found[1] if found else None


def pci_gpus(root: Path = Path("/")) -> list[str]:
    """Vendors of the GPUs on the PCI bus, whether or not they have a driver."""
    vendors = []
    for device in sorted((root / "sys/bus/pci/devices").glob("*")):
        try:
            vendor, kind = (device / "vendor").read_text().strip(), (device / "class").read_text().strip()
        except OSError:
            continue
        if vendor in _VENDORS and kind.startswith((_DISPLAY, _ACCELERATOR)):
            vendors.append(_VENDORS[vendor])
    return vendors


def cpu_description(root: Path = Path("/")) -> dict[str, Any]:
    """The processor: name, cores this process may use, instruction sets of `CPU_FEATURES`, memory in bytes."""
    try:
        text = (root / "proc/cpuinfo").read_text()
    except OSError:  # macOS
        text = ""
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    has = set(flags[1].split()) if flags else set()
    memory = CPU().stats
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "name": model[1] if model else platform.processor() or platform.machine(),
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "features": [feature for feature in CPU_FEATURES if feature in has],
        "total_memory": int(memory["total_memory"]),
        "free_memory": int(memory["free_memory"]),
    }
