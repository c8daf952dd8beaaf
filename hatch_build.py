"""Build hook: the wheel carries the Mojo kernels and the model that comes with MILI inside the package.

An editable install copies neither: it reads them from the repository.
"""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class KernelsHook(BuildHookInterface[Any]):
    """Puts every Mojo file of kernels/ into the wheel under mili/kernels, and models/ under mili/embedded."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        root = Path(self.root) / "kernels"
        sources = sorted(root.rglob("*.mojo"))
        if not sources:
            raise FileNotFoundError(f"no .mojo file under {root}: the wheel would have no kernels")
        for source in sources:
            build_data["force_include"][str(source)] = f"mili/kernels/{source.relative_to(root).as_posix()}"
        models = Path(self.root) / "models"
        for file in sorted(path for path in models.rglob("*") if path.is_file()):
            build_data["force_include"][str(file)] = f"mili/embedded/{file.relative_to(models).as_posix()}"
