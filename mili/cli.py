"""The console script `mili`: `mili COMMAND ...` is `python -m mili.COMMAND ...`."""

import importlib.util
import runpy
import sys
from importlib import metadata

from mili.console import run

COMMANDS = {
    "serve": "serve a model over HTTP",
    "generate": "complete one prompt",
    "chat": "talk to a model in the terminal",
    "models": "list and fetch models",
    "bench": "measure speed on this machine",
    "doctor": "print versions, device and settings, and what is wrong with them",
}


def available() -> dict[str, str]:
    """The commands whose module is installed, with their one-line description."""
    return {name: text for name, text in COMMANDS.items() if importlib.util.find_spec(f"mili.{name}") is not None}


def usage() -> str:
    """The text of `mili --help`."""
    rows = [f"  {name:<10}{text}" for name, text in available().items()]
    return "\n".join(
        [
            "usage: mili COMMAND [options]",
            "",
            "The Mojo Inference Language Engine: language models through Mojo kernels.",
            "",
            "commands:",
            *rows,
            "",
            "`mili COMMAND --help` lists the options of a command; `mili --version` prints versions.",
        ]
    )


def version() -> str:
    """Versions of MILI and of the toolchain it is pinned to, one line."""
    parts = []
    for name in ("mili", "mojo", "max"):
        try:
            parts.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            parts.append(f"{name} (not installed as a package)")
    return ", ".join(parts)


def dispatch(arguments: list[str]) -> int:
    """Run one command. Returns its exit status; 2 when the command is unknown."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if arguments else 2
    name, *rest = arguments
    if name in ("-V", "--version", "version"):
        print(version())
        return 0
    if name not in available():
        print(f"mili: unknown command {name!r}; one of: {', '.join(available())}", file=sys.stderr)
        return 2
    sys.argv = [f"mili {name}", *rest]
    runpy.run_module(f"mili.{name}", run_name="__main__")
    return 0


def main() -> None:
    """Entry point of the console script."""
    run(lambda: dispatch(sys.argv[1:]))


if __name__ == "__main__":
    main()
