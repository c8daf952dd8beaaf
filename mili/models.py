"""Where models come from: `python -m mili.models list`, `python -m mili.models pull NAME`.

A name is a folder, a `.gguf` file, `mili-tiny` (part of MILI), `smollm2`, or a model of the Hugging Face hub such as
`Qwen/Qwen3-0.6B`. The environment variable MILI_CACHE moves the folder of fetched models.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mili import hub, smollm2
from mili.cache import cache_folder
from mili.console import run
from mili.errors import ModelNotFoundError

EMBEDDED = "mili-tiny"


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model on this machine: `path` is a folder or a `.gguf` file, `origin` says where it came from."""

    name: str
    origin: str
    path: Path

    @property
    def nbytes(self) -> int:
        """Size of its files in bytes."""
        files = [self.path] if self.path.is_file() else [file for file in self.path.iterdir() if file.is_file()]
        return sum(file.stat().st_size for file in files)


def embedded() -> Path | None:
    """The folder of the model that MILI brings along: inside the installed package, or in the repository."""
    package = Path(__file__).resolve().parent
    for folder in (package / "embedded" / EMBEDDED, package.parent / "models" / EMBEDDED):
        if hub.is_complete(folder):
            return folder
    return None


def find(name: str) -> ModelSource | None:
    """A model that is on this machine already, None if it would have to be fetched.

    Raises ModelNotFoundError if `name` is a path that holds no model.
    """
    path = Path(name).expanduser()
    if name not in (EMBEDDED, "smollm2") and path.exists():
        return ModelSource(name, "local", _local(path))
    if name == EMBEDDED:
        folder = embedded()
        return None if folder is None else ModelSource(name, "part of MILI", folder)
    if name == "smollm2":
        file = smollm2.find()
        return None if file is None else ModelSource(name, "Python package index", file)
    if path.suffix != ".gguf" and hub.is_name(name):
        folder = hub.find(name)
        return None if folder is None else ModelSource(name, "hub", folder)
    raise ModelNotFoundError(
        f"{name!r} is no folder, no .gguf file and no model's name; known names: {EMBEDDED}, smollm2, "
        "or owner/model of the Hugging Face hub."
    )


def _local(path: Path) -> Path:
    """The model at an existing path: itself, or the only .gguf file in a folder without config.json."""
    if path.is_file():
        if path.suffix != ".gguf":
            raise ModelNotFoundError(f"{path} is a file, but no .gguf; give the folder that holds config.json.")
        return path
    if (path / "config.json").is_file():
        return path
    files = sorted(path.glob("*.gguf"))
    if len(files) == 1:
        return files[0]
    if files:
        raise ModelNotFoundError(
            f"{path} holds {len(files)} .gguf files; give the path of one, such as {files[0].name}."
        )
    raise ModelNotFoundError(f"{path} holds neither config.json nor a .gguf file; it is no model's folder.")


def resolve(name: str) -> ModelSource:
    """The model called `name`, fetched if it is not here yet (progress on stderr).

    Raises ModelNotFoundError if it cannot be had, WeightError if what arrived is damaged.
    """
    found = find(name)
    if found is not None:
        return found
    if name == EMBEDDED:
        raise ModelNotFoundError(f"This installation of MILI does not include {EMBEDDED}; use smollm2.")
    print(f"Fetching {name} into {cache_folder()}", file=sys.stderr)
    if name == "smollm2":
        return ModelSource(name, "Python package index", smollm2.fetch())
    return ModelSource(name, "hub", hub.fetch(name))


def listing() -> list[dict[str, Any]]:
    """The models that have names, and whether they are here: name, origin, present, path and nbytes."""
    rows: list[dict[str, Any]] = []
    for name, origin in ((EMBEDDED, "part of MILI"), ("smollm2", "Python package index")):
        rows.append(_row(name, origin, find(name)))
    rows += [_row(name, "hub", ModelSource(name, "hub", folder)) for name, folder in hub.fetched()]
    return rows


def _row(name: str, origin: str, source: ModelSource | None) -> dict[str, Any]:
    here = {"path": None, "nbytes": None} if source is None else {"path": str(source.path), "nbytes": source.nbytes}
    return {"name": name, "origin": origin, "present": source is not None, **here}


def _print_listing(rows: list[dict[str, Any]]) -> None:
    print(f"{'name':<32} {'size':>9}  from")
    for row in rows:
        size = f"{row['nbytes'] / 1e6:,.0f} MB" if row["present"] else "-"
        absent = f"not here yet: python -m mili.models pull {row['name']}"
        here = row["path"] or ("not in this installation" if row["name"] == EMBEDDED else absent)
        print(f"{row['name']:<32} {size:>9}  {row['origin']}; {here}")
    print(f"\nFetched models are kept in {cache_folder()} (MILI_CACHE moves it).")
    print("Any model of the hub can be pulled by name, such as Qwen/Qwen3-0.6B.")


def main(arguments: list[str] | None = None) -> int:
    """The command line; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m mili.models", description="List and fetch models.")
    commands = parser.add_subparsers(dest="command", required=True)
    lister = commands.add_parser("list", help="named models, and which are here")
    puller = commands.add_parser("pull", help="fetch a model")
    puller.add_argument("name", help="smollm2, or owner/model of the Hugging Face hub, or owner/model@revision")
    for command in (lister, puller):
        command.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    if options.command == "list":
        rows = listing()
        print(json.dumps(rows, indent=2)) if options.json else _print_listing(rows)
        return 0
    source = resolve(options.name)
    print(json.dumps({key: str(value) for key, value in asdict(source).items()}) if options.json else source.path)
    return 0


if __name__ == "__main__":
    run(main)
