"""The Python extensions of this folder, built from Mojo: calls of kernels on torch tensors."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, TypeAlias

import torch

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
Tensor: TypeAlias = torch.Tensor


def build(target: str = "sm_90a", name: str = "gpu_ext") -> Path:
    """Build the extension `name` into build/ unless it is newer than all that it is made of; returns its folder."""
    library = HERE / "build" / f"{name}.so"
    sources = [*ROOT.glob("kernels/**/*.mojo"), HERE / "extension.mojo", HERE / f"{name}.mojo"]
    if not library.exists() or library.stat().st_mtime < max(f.stat().st_mtime for f in sources):
        mojo = shutil.which("mojo")
        if mojo is None and library.exists():
            return library.parent
        library.parent.mkdir(exist_ok=True)
        start = time.perf_counter()
        command = [mojo or "mojo", "build", "--emit", "shared-lib", "--target-accelerator", target, "-I", str(ROOT)]
        subprocess.run([*command, str(HERE / f"{name}.mojo"), "-o", str(library)], check=True)
        print(f"built {name}.so in {time.perf_counter() - start:.0f} s", flush=True)
    return library.parent


class Extension:
    """One extension with a context of its own; its kernels are queued on `stream`.

    MILI_GPU_EXT names the folder of extensions built elsewhere; without it they are built here.
    """

    def __init__(self, name: str) -> None:
        sys.path.insert(0, os.environ.get("MILI_GPU_EXT") or str(build(name=name)))
        self.module: Any = importlib.import_module(name)
        self.context = self.module.open_context()
        self.handle = self.module.stream_of([self.context])
        self.stream = torch.cuda.ExternalStream(self.handle) if self.handle else torch.cuda.default_stream()

    def call(self, name: str, *arguments: Any) -> None:
        """Queue one function on tensors, numbers and text."""
        values = [a.data_ptr() if isinstance(a, torch.Tensor) else a for a in arguments]
        getattr(self.module, name)([self.context, *values])

    def synchronize(self) -> None:
        """Wait for the kernels' stream."""
        self.module.synchronize([self.context])
