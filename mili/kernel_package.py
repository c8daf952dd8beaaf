"""The kernels, parsed once: MAX takes a folder of Mojo files or a precompiled package, and parsing takes seconds.

A package is kept in the cache folder under a name made from the contents of the sources and the compiler's version, so
a changed kernel is never served from an old package.
"""

import hashlib
import os
import tempfile
from importlib import metadata
from pathlib import Path

from mojo.run import subprocess_run_mojo

from mili.cache import cache_folder, make_folder
from mili.errors import ConfigError

KEPT = 8  # packages; the least recently used go


def package_store() -> Path:
    """The folder that packages are kept in, made if there is none."""
    return make_folder(cache_folder() / "kernels")


def kernel_package(folder: Path) -> Path:
    """The precompiled package of a kernel folder, made if there is none.

    Raises ConfigError with the compiler's words if the kernels do not compile.
    """
    digest = hashlib.sha256(metadata.version("mojo-compiler").encode())
    for file in sorted(folder.rglob("*.mojo")):
        content = file.read_bytes()
        digest.update(f"\0{file.relative_to(folder).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    store = package_store()
    target = store / f"mili_{digest.hexdigest()[:24]}.mojoc"
    if target.is_file():
        target.touch()
        return target
    with tempfile.TemporaryDirectory(dir=store, prefix="build-") as build:
        made = Path(build) / target.name  # the compiler writes the file's own name into it
        done = subprocess_run_mojo(["precompile", str(folder), "-o", str(made)], capture_output=True, text=True)
        if done.returncode:
            raise ConfigError(f"the kernels in {folder} do not compile:\n{done.stderr.strip()}")
        os.replace(made, target)
    for old in sorted(store.glob("mili_*.mojoc"), key=lambda file: file.stat().st_mtime)[:-KEPT]:
        old.unlink(missing_ok=True)
    return target


def failures(folder: Path, error: BaseException | None) -> str | None:
    """What is wrong in a kernel folder, from a failed graph compilation and its causes; None if they do not name it.

    An error that shows only when a function gets its parameters comes as a chain of notes from the graph inwards, once
    for each use. The innermost place in the folder is the one to look at.
    """
    found: list[str] = []
    text = ""
    while error is not None:
        text += f"{error}\n"
        error = error.__cause__
    for chain in text.split("error: function instantiation failed")[1:]:
        places = [line.strip() for line in chain.splitlines() if line.strip().startswith(f"{folder}{os.sep}")]
        if places and places[-1] not in found:
            found.append(places[-1])
    return "\n".join(found) or None
