"""What NVIDIA's assembler makes of a kernel's PTX: registers, shared memory, and what it warns of.

PTX has as many registers as a kernel likes; ptxas fits them into those of the GPU, and what does not fit goes through
local memory, which is the GPU's memory. The program comes from the PyPI wheel nvidia-cuda-nvcc and needs no GPU.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path


@dataclass(frozen=True)
class Registers:
    """Of one kernel: registers a thread; bytes of shared memory a block (without what is asked for at the launch), and
    bytes a thread of stack, spill stores and spill loads; the lines in which ptxas complains."""

    kernel: str
    registers: int
    shared: int
    stack: int
    stores: int
    loads: int
    complaints: tuple[str, ...]

    @property
    def spilled(self) -> int:
        """Bytes a thread that leave the registers: the greatest of the three."""
        return max(self.stack, self.stores, self.loads)


def find_ptxas() -> Path | None:
    """The program of the wheel; not that of another CUDA, which divides the registers in its own way."""
    spec = find_spec("nvidia")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for found in sorted(Path(folder).glob("cu*/bin/ptxas")):
            return found
    return None


def parse(output: str) -> Registers:
    """Reads what `ptxas -v` says of a file with one kernel."""
    entry = re.search(r"Compiling entry function '(\w+?)(?:_[0-9a-f]{8})?' for", output)
    used = re.search(r"Used (\d+) registers", output)
    local = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", output)
    assert entry, output
    assert used, output
    assert local, output
    shared = re.search(r"(\d+) bytes smem", output)
    stack, stores, loads = (int(number) for number in local.groups())
    complaints = tuple(line for line in output.splitlines() if re.search(r"warning|advisory|serialized|\(C\d+\)", line))
    return Registers(entry[1], int(used[1]), int(shared[1]) if shared else 0, stack, stores, loads, complaints)


def assemble(ptxas: Path, target: str, text: str, file: Path) -> Registers:
    """Assembles PTX for `target`, by way of `file`."""
    file.write_text(text)
    command = [str(ptxas), f"-arch={target}", "-v", str(file), "-o", str(file.with_suffix(".cubin"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    return parse(output)
