"""Where the Mojo kernels are: the folder that MAX compiles into the engine's graph."""

import os
import re
from pathlib import Path

from mili.errors import ConfigError

KERNELS_VARIABLE = "MILI_KERNELS"
"""Environment variable that names another kernel folder, such as a learner's own."""

_UNWRITTEN = re.compile(r'abort\("exercise (\d\d\.\d+) is not written yet"\)')  # by `workbook/regions.py`


def kernel_path(override: str | os.PathLike[str] | None = None) -> Path:
    """Returns the kernel folder: `override`, else $MILI_KERNELS, else the package's own, else the repository's.

    A kernel folder is a Mojo package (it holds `__init__.mojo`) whose `ops.mojo` registers the operations of
    docs/architecture.md. Raises ConfigError when the folder is not one, or has exercises that are still to be written
    (they would end the process when they are called).
    """
    chosen = override if override is not None else os.environ.get(KERNELS_VARIABLE) or None
    if chosen is not None:
        folder = Path(chosen).expanduser().resolve()
        source = "--kernels" if override is not None else KERNELS_VARIABLE
        for name in ("__init__.mojo", "ops.mojo"):
            if not (folder / name).is_file():
                raise ConfigError(f"{source} names {folder}, which has no {name}: give a folder of Mojo kernels")
        if unwritten := sorted({n for file in folder.rglob("*.mojo") for n in _UNWRITTEN.findall(file.read_text())}):
            raise ConfigError(
                f"{source} names {folder}, where exercises {', '.join(unwritten)} are not written yet: write them in "
                "their notebooks; what passes its check is put into the folder"
            )
        return folder
    here = Path(__file__).resolve().parent
    for folder in (here / "kernels", here.parent / "kernels"):
        if (folder / "ops.mojo").is_file():
            return folder
    raise ConfigError(
        f"no Mojo kernels in {here / 'kernels'}: reinstall mili, or set {KERNELS_VARIABLE} to their folder"
    )
