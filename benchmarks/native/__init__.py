"""Builds Mojo files of this folder into Python extensions, once per state of their sources.

An extension takes addresses of NumPy arrays and calls a kernel without a graph around it: a build takes seconds, and a
call costs a few microseconds.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

from mili.errors import MiliError

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent.parent


def _mojo() -> str:
    beside = Path(sys.executable).parent / "mojo"
    found = str(beside) if beside.exists() else shutil.which("mojo")
    if found is None:
        raise MiliError("the program mojo was not found; install it with: pip install mojo")
    return found


def _digest(source: Path) -> str:
    digest = hashlib.sha256(importlib.metadata.version("mojo").encode())
    for path in [source, *sorted((ROOT / "kernels").rglob("*.mojo"))]:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def load(name: str) -> ModuleType:
    """Imports the extension built from `name`.mojo of this folder; builds it first if its sources changed.

    Raises MiliError with the compiler's messages if it does not compile.
    """
    loaded = _load(name)
    if isinstance(loaded, MiliError):
        raise loaded
    return loaded


@cache
def _load(name: str) -> ModuleType | MiliError:
    """As `load`, but a failure is returned, so that it is remembered like a success and not tried again."""
    source = FOLDER / f"{name}.mojo"
    library = ROOT / ".cache" / "native" / _digest(source) / f"{name}.so"
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        part = library.with_suffix(f".{os.getpid()}.so")  # several processes may build at the same time
        command = [_mojo(), "build", "--emit", "shared-lib", "-I", str(ROOT), str(source), "-o", str(part)]
        built = subprocess.run(command, capture_output=True, text=True)
        if built.returncode != 0:
            return MiliError(f"{source.name} does not compile:\n{built.stderr}")
        part.replace(library)
    spec = importlib.util.spec_from_file_location(name, library)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # Loading sets these for the C library, behind os.environ, and programs started later would run another Python.
    for variable in ("MOJO_PYTHON_LIBRARY", "PYTHONEXECUTABLE", "PYTHONPATH"):
        if variable in os.environ:
            os.putenv(variable, os.environ[variable])
        else:
            os.unsetenv(variable)
    return module
