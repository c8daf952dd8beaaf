"""Make .venv and install the project into it, once: the Makefile runs this with the Python it picked.

    python3 .ci/venv.py STAMP [EXTRA]

STAMP is the file to touch when done. Two `make` at the same time wait for each other, and the second finds the work
done. Uses the standard library alone, since it runs before anything is installed.
"""

import fcntl
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
READY = VENV / ".python"


def say(text: str) -> None:
    """Print one line of progress."""
    print(f"[setup] {text}", flush=True)


def create() -> None:
    """Make .venv, replacing a half-made one."""
    say(f"creating .venv with Python {sys.version.split()[0]} ({sys.executable})")
    shutil.rmtree(VENV, ignore_errors=True)
    if subprocess.run([sys.executable, "-m", "venv", str(VENV)]).returncode != 0:
        shutil.rmtree(VENV, ignore_errors=True)
        sys.exit("[setup] could not create .venv. On Debian and Ubuntu: apt install python3-venv")
    READY.touch()


def install(extra: str) -> None:
    """Install the project, editable, with one of its extras ("" for none)."""
    what = f".[{extra}]" if extra else "."
    say(f"installing MILI {what} into .venv (the first time about 400 MB are downloaded: a few minutes)")
    command = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "-e", what]
    if not sys.stdout.isatty():
        command.append("--quiet")
    start = time.monotonic()
    if subprocess.run(command, cwd=ROOT).returncode != 0:
        sys.exit(f"[setup] pip could not install {what}: see its message above; docs/troubleshooting.md may help")
    say(f"installed {what} in {time.monotonic() - start:.0f} s")


def main(stamp: Path, extra: str) -> None:
    """Bring .venv up to date for one extra, holding a lock."""
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        sys.exit(f"[setup] MILI needs Python 3.11 to 3.13; {sys.executable} is {sys.version.split()[0]}")
    with open(ROOT / ".venv.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (READY.exists() and PYTHON.exists()):
            create()
        if not stamp.exists() or stamp.stat().st_mtime < (ROOT / "pyproject.toml").stat().st_mtime:
            install(extra)
            stamp.touch()


if __name__ == "__main__":
    main(ROOT / sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "")
