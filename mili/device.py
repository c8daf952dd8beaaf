"""Which device the engine runs on, and in which number format by default."""

import sys

from max.driver import CPU, Accelerator, Device, accelerator_count
from max.dtype import DType

from mili.errors import DeviceError
from mili.hardware import find_gpus

DTYPES = {"float32": DType.float32, "bfloat16": DType.bfloat16, "float16": DType.float16}


def select_device(name: str = "auto") -> Device:
    """The device called `name`: `auto` (the first GPU, else the CPU), `cpu`, `gpu`, or `gpu:1`.

    When `auto` has to leave a GPU unused, it says why in one sentence on stderr.
    Raises DeviceError if the name is unknown or the GPU asked for is not there.
    """
    if name == "cpu":
        return CPU()
    count = accelerator_count()
    if name == "auto":
        gpus = find_gpus(count=lambda: min(count, 1))  # opening each one would take memory on it
        if gpus.problem is not None:
            print(f"note: {gpus.problem} The CPU is used.", file=sys.stderr)
        return Accelerator(0) if gpus.usable else CPU()
    kind, _, index = name.partition(":")
    if kind != "gpu" or not (index.isdigit() or index == ""):
        raise DeviceError(f"device {name!r} is unknown; use auto, cpu, gpu or gpu:N.")
    number = int(index or 0)
    if number >= count:
        raise DeviceError(
            f"device {name!r} was asked for, but MAX sees {count} GPUs; use --device cpu or auto "
            "(`python -m mili.doctor` says why)."
        )
    return Accelerator(number)


def select_dtype(name: str, device: Device) -> str:
    """`auto` is bfloat16; float16 exists on GPUs only. Raises DeviceError for an unknown or impossible one."""
    if name == "auto":
        return "bfloat16"
    if name not in DTYPES:
        raise DeviceError(f"dtype {name!r} is unknown; use auto, {', '.join(DTYPES)}.")
    if name == "float16" and device.is_host:
        raise DeviceError("dtype 'float16' needs a GPU; on the CPU use bfloat16 or float32.")
    return name
