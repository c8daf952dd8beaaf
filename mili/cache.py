"""Where fetched models are kept, and how a file gets there whole or not at all."""

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from mili.errors import ModelNotFoundError, WeightError

_PIECE = 1 << 20


def cache_folder() -> Path:
    """The folder of fetched models: the environment variable MILI_CACHE, or `~/.cache/mili`."""
    chosen = os.environ.get("MILI_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "mili"


def make_folder(folder: Path) -> Path:
    """`folder`, made if missing. Raises ModelNotFoundError if it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelNotFoundError(f"{folder} cannot be made ({error.strerror}); set MILI_CACHE to another.") from None
    return folder


def sha256_of(file: Path, title: str) -> str:
    """The SHA-256 of a file, in hexadecimal, with a progress bar for large ones."""
    digest = hashlib.sha256()
    with (
        file.open("rb") as stream,
        tqdm(total=file.stat().st_size, desc=f"Checking {title}", unit="B", unit_scale=True, delay=1) as bar,
    ):
        while piece := stream.read(_PIECE):
            digest.update(piece)
            bar.update(len(piece))
    return digest.hexdigest()


def install(stream: BinaryIO, size: int, sha256: str, target: Path) -> None:
    """Copy `size` bytes to `target` and check them on the way; `target` appears only when they are right.

    Raises WeightError if the checksum differs.
    """
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    digest = hashlib.sha256()
    try:
        with (
            part.open("wb") as out,
            tqdm(total=size, desc=f"Unpacking {target.name}", unit="B", unit_scale=True, delay=1) as bar,
        ):
            while piece := stream.read(_PIECE):
                digest.update(piece)
                out.write(piece)
                bar.update(len(piece))
        if digest.hexdigest() != sha256:
            raise WeightError(
                f"{target.name} has SHA-256 {digest.hexdigest()} instead of {sha256}: it is corrupt or not the file "
                "it should be; nothing was kept, fetch it again."
            )
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
