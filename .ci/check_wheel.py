"""Check that a wheel holds the package with every kernel and the embedded model of the repository, and nothing else."""

import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main(wheel: str) -> None:
    """Exit with a message when the wheel's list of files is not as it should be."""
    names = set(zipfile.ZipFile(wheel).namelist())
    kernels = {f"mili/kernels/{p.relative_to(ROOT / 'kernels').as_posix()}" for p in (ROOT / "kernels").rglob("*.mojo")}
    strays = [n for n in names if not n.startswith("mili/") and ".dist-info/" not in n]
    packed = {n for n in names if n.startswith("mili/kernels/")}
    if not kernels or packed != kernels:
        sys.exit(f"kernels in the wheel differ from kernels/: {sorted(packed ^ kernels) or 'there are none'}")
    model = {f"mili/embedded/mili-tiny/{p.name}" for p in (ROOT / "models" / "mili-tiny").iterdir()}
    if not model <= names:
        sys.exit(f"the wheel lacks files of the embedded model: {sorted(model - names)}")
    if strays:
        sys.exit(f"the wheel carries more than the package: {sorted(strays)}")
    size = Path(wheel).stat().st_size / 1e6
    print(f"{Path(wheel).name}: {len(names)} files, {len(kernels)} kernels, {size:.1f} MB")


if __name__ == "__main__":
    main(sys.argv[1])
