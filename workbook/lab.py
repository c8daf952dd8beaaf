"""What a notebook imports: `from workbook.lab import check, show`. Importing it makes the %%mojo magic known.

%%mojo 03.2                      an exercise: compiled; `check("03.2")` checks it
%%mojo                           any Mojo: each function that Python can call becomes a Python function
%%mojo --set dtype=DType.bfloat16    with values for compile-time parameters
%%mojo --run                     a program with a main function; what it prints is shown
%%mojo --ptx sm_90a --name code  compiled for that GPU; `code` is a dictionary from kernel to PTX
"""

import argparse
import hashlib
import re
import shlex
from pathlib import Path
from typing import Any

from IPython.core.getipython import get_ipython
from IPython.display import Markdown

from workbook import learner
from workbook import notebook_files as files
from workbook.checks import check_source, without_magic
from workbook.compare import CheckFailed
from workbook.exercises import registry
from workbook.mojo_build import MojoError, build, diagnostics, mojo, toolchain
from workbook.mojo_run import functions
from workbook.paths import CACHE, LEARN, ROOT

RUN: dict[str, str] = {}  # the text of each exercise cell as it was last run


def check(identifier: str) -> None:
    """Check an exercise as it was last run in this notebook. Raises CheckFailed, which says what differs."""
    exercise = registry()[identifier]
    source = last_run(identifier)
    count = check_source(exercise, source)
    print(f"{identifier} {exercise.title}: passed ({count} cases)")
    if Path.cwd().resolve().is_relative_to(LEARN):
        learner.record(exercise, source)


def last_run(identifier: str) -> str:
    """The text of an exercise's cell as it was last run. Raises CheckFailed when it was not."""
    if identifier not in RUN:
        raise CheckFailed(f"run the cell of exercise {identifier} first")
    return RUN[identifier]


def remember(info: Any) -> None:
    """Before a cell runs: note its text, if it is an exercise."""
    identifier = files.identify(info.raw_cell)
    if identifier is not None:
        RUN[identifier] = info.raw_cell


def show(path: str, name: str) -> Markdown:
    """A function, struct, class or "Class.method" of a file, as it is now. path: from the repository's root.

    Raises ValueError if it is absent.
    """
    lines = (ROOT / path).read_text().split("\n")
    first, last = 0, len(lines)
    indent = ""
    for part in name.split("."):
        pattern = re.compile(rf"^{indent}(async def|def|struct|class) {re.escape(part)}\b")
        starts = [number for number in range(first, last) if pattern.match(lines[number])]
        if not starts:
            raise ValueError(f"{path} defines no {name}")
        first, last = starts[0], definition_end(lines, starts[0], indent)
        indent += "    "
    indent = indent[4:]
    while first and lines[first - 1].startswith(f"{indent}@"):
        first -= 1
    marks = ("# BEGIN SOLUTION", "# END SOLUTION")
    kept = [line.removeprefix(indent) for line in lines[first:last] if not line.strip().startswith(marks)]
    text = "\n".join(kept).rstrip()
    return Markdown(f"`{path}`\n```{'python' if path.endswith('.py') else 'mojo'}\n{text}\n```")


def definition_end(lines: list[str], start: int, indent: str) -> int:
    """The line after the definition that starts there: the first that is indented no further, past its signature."""
    end = start + 1
    body = lines[start].endswith(":")
    while end < len(lines):
        line = lines[end].removeprefix(indent) if lines[end].startswith(indent) or not lines[end] else "x"
        if body and line and line[0] not in " )]":
            break
        body = body or line.startswith("    ") or line.endswith(":")
        end += 1
    return end


def mojo_magic(line: str, cell: str) -> None:
    """The %%mojo cell magic; the module's docstring lists its forms."""
    parser = argparse.ArgumentParser(prog="%%mojo", add_help=False)
    parser.add_argument("exercise", nargs="?")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--run", action="store_true")
    parser.add_argument("--ptx", metavar="ARCH")
    parser.add_argument("--name", default="ptx")
    options = parser.parse_args(shlex.split(line))
    shell = get_ipython()
    assert shell is not None
    if options.run:
        print(run_program("\n" + cell), end="")
        return
    if options.ptx:
        shell.user_ns[options.name] = compile_ptx("\n" + cell, options.ptx)
        return
    specialize = dict(item.split("=", 1) for item in options.set)
    if options.exercise:
        specialize = dict(registry()[options.exercise].specialize) | specialize
    library = build({"cell": without_magic("%%mojo\n" + cell)}, specialize)
    if library.warnings:
        print(library.warnings)
    found = functions(library)
    for (_, name), function in found.items():
        shell.user_ns[name] = function
    print("compiled: " + (", ".join(name for _, name in found) or "nothing that Python can call"))


def cached(kind: str, source: str) -> Path:
    """A folder for what is made of this source."""
    digest = hashlib.sha256("\0".join([toolchain(), kind, source]).encode()).hexdigest()[:24]
    folder = CACHE / f"{kind}-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def run_program(source: str) -> str:
    """Compile and run a Mojo program, once for each text. Returns what it prints. Raises MojoError."""
    folder = cached("run", source)
    (folder / "cell.mojo").write_text(source)
    binary = folder / "cell"
    if not binary.exists():
        arguments = ["build", "--diagnostic-format", "json", "-I", str(ROOT), str(folder / "cell.mojo")]
        done = mojo([*arguments, "-o", str(binary)], cwd=folder)
        if done.returncode != 0:
            raise MojoError(diagnostics(done.stdout + done.stderr, folder, 1) or done.stderr)
    return execute(binary)


def execute(binary: Path) -> str:
    """Run a compiled program for at most a minute. Raises MojoError when it fails."""
    import subprocess

    done = subprocess.run([binary], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise MojoError(f"{done.stdout}{done.stderr}\nthe program ended with status {done.returncode}")
    return done.stdout


def compile_ptx(source: str, architecture: str) -> dict[str, str]:
    """Compile a Mojo program for a GPU, which need not be present. Returns the PTX of each kernel by name."""
    folder = cached(f"ptx-{architecture}", source)
    (folder / "cell.mojo").write_text(source)
    if not (folder / "cell.s").exists():
        arguments = ["build", "--diagnostic-format", "json", "-I", str(ROOT), "--target-accelerator", architecture]
        done = mojo([*arguments, "--emit", "asm", str(folder / "cell.mojo"), "-o", str(folder / "cell.s")], cwd=folder)
        if done.returncode != 0:
            raise MojoError(diagnostics(done.stdout + done.stderr, folder, 1) or done.stderr)
    names = re.findall(r"^def (\w+)", source, re.MULTILINE)
    kernels = {}
    for path in sorted(folder.glob("*.ptx")):
        short = [name for name in names if f"_{name}_" in path.stem]  # file names carry the mangled types as well
        kernels[max(short, key=len) if short else path.stem] = path.read_text()
    return kernels


def register() -> None:
    """Make the magic known to the running notebook, if there is one, and note what it runs."""
    shell = get_ipython()
    if shell is not None:
        shell.register_magic_function(mojo_magic, magic_kind="cell", magic_name="mojo")
        shell.events.register("pre_run_cell", remember)


register()
