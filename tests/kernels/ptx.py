"""The PTX of the GPU kernels and of the steps of their ladders, compiled on a machine that needs no GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TARGETS = ("sm_90a", "sm_80")


@dataclass(frozen=True)
class Ptx:
    """The PTX of each kernel of ptx_driver.mojo for one target, by file name."""

    target: str
    files: dict[str, str]

    def of(self, name: str) -> list[str]:
        """The texts of the variants of one kernel; `name` is the beginning of theirs."""
        found = [text for file, text in self.files.items() if f"mili_{name}_" in file]
        assert found, f"no PTX of {name} for {self.target} among {sorted(self.files)}"
        return found


def compile_ptx(target: str, folder: Path) -> Ptx:
    """Compiles the driver for one target into `folder`."""
    mojo = Path(sys.executable).parent / "mojo"
    driver = Path(__file__).with_name("ptx_driver.mojo")
    options = ["--emit", "asm", "--target-accelerator", target, "-I", str(ROOT), "-o", str(folder / "driver.s")]
    command = [str(mojo), "build", *options, str(driver)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"LC_ALL": "C"})
    assert done.returncode == 0, done.stderr[-4000:]
    return Ptx(target, {file.name: file.read_text() for file in folder.glob("*.ptx")})
