"""Compiling Mojo from notebook cells to libraries that Python can call, once for each text.

A cell is compiled as it stands, in a file of its own, next to a generated file that gives each of its functions a C
entry point. That takes about 3 s of processor time (Python bindings would take 8, a MAX graph 15), and the result is
kept under .cache/workbook, named after a hash of everything that went into it: notebooks, tests and `workbook check`
share it.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

import mili  # first: it turns the toolchain's usage reports off
from workbook.mojo_signature import FLOATS, Signature, signatures
from workbook.paths import CACHE, KERNELS, ROOT

del mili
POINTER = "Pointer[Scalar[DType.{dtype}], MutAnyOrigin](unsafe_from_address={name})"
TIMES_AT = 1024  # where the times begin in the memory for results; `workbook.worker` knows it too


class MojoError(Exception):
    """Mojo code that does not compile. The text points at lines of the cell."""

    def _render_traceback_(self, *_: object) -> list[str]:
        """What IPython shows: the message alone."""
        return [str(self)]


@dataclass(frozen=True)
class Library:
    """A compiled library. `functions` maps (module, function) to (C symbol, signature)."""

    path: Path
    functions: dict[tuple[str, str], tuple[str, Signature]]
    warnings: str


@cache
def toolchain() -> str:
    """Names the compiler and the processor: compiled code is for both."""
    cpu = Path("/proc/cpuinfo")
    flags = re.search(r"^(?:flags|Features)\s*:.*$", cpu.read_text(), re.MULTILINE) if cpu.exists() else None
    return f"{metadata.version('mojo')} {platform.machine()} {flags[0] if flags else platform.processor()}"


def mojo(arguments: list[str], timeout: float = 300.0, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the installed `mojo` with the toolchain's own environment."""
    from mojo.run import subprocess_run_mojo

    done: subprocess.CompletedProcess[str] = subprocess_run_mojo(
        arguments, capture_output=True, text=True, timeout=timeout, cwd=cwd
    )
    return done


def stub(functions: Mapping[tuple[str, str], tuple[str, Signature]]) -> str:
    """The Mojo source of the C entry points: call(arguments..., result, repeats), each timed inside.

    `result` is memory: the function's number, a status (0, or 1 when it raised), the text of what it raised, then the
    nanoseconds of each of the repeats + 1 calls; `workbook.worker` reads it. The calls are made in a task of the
    runtime's thread pool, as in the engine: kernels that ask how many threads there are need to be in one.
    """
    modules = sorted({module for module, _ in functions})
    lines = [*(f"import {module}" for module in modules), "from max.algorithm import sync_parallelize"]
    lines += ["from std.time import perf_counter_ns", ""]
    for (module, _), (symbol, signature) in functions.items():
        declared, passed = [], []
        for number, p in enumerate(signature.parameters):
            name = f"a{number}"
            if p.dtype is not None:
                declared.append(f"{name}: Int")
                passed.append(POINTER.format(dtype=p.dtype, name=name))
            elif p.type in FLOATS:
                declared.append(f"{name}: Float64")
                passed.append(f"{p.type}({name})")
            else:
                declared.append(f"{name}: Int")
                passed.append(f"{name} != 0" if p.type == "Bool" else f"{p.type}({name})")
        call = f"{module}.{signature.name}{signature.arguments}({', '.join(passed)})"
        if signature.returns == "Bool":
            call = f"numbers[unsafe_offset=0] = Float64(1) if {call} else Float64(0)"
        elif signature.returns is not None:
            call = f"numbers[unsafe_offset=0] = Float64({call})"
        captured = ", ".join(f"var {name.split(':')[0]}" for name in [*declared, "result", "repeats"])
        lines += [
            "",
            "@export",
            f'def {symbol}({", ".join([*declared, "result: Int", "repeats: Int"])}) abi("C"):',
            f"    def body(task: Int) {{{captured}}}:",
            "        if task != 0:",
            "            return",
            "        var numbers = Pointer[Float64, MutAnyOrigin](unsafe_from_address=result)",
            "        try:",
            "            for k in range(repeats + 1):",
            "                var start = perf_counter_ns()",
            f"                {call}",
            f"                numbers[unsafe_offset={TIMES_AT // 8} + k] = Float64(perf_counter_ns() - start)",
            "        except error:",
            "            numbers[unsafe_offset=1] = 1",
            "            var text = Pointer[UInt8, MutAnyOrigin](unsafe_from_address=result + 16)",
            "            var message = String(error)",
            "            var bytes = message.as_bytes()",
            f"            for i in range(min(len(bytes), {TIMES_AT - 17})):",
            "                text[unsafe_offset=i] = bytes[i]",
            "",
            "    sync_parallelize(body, 2)",
            "",
        ]
    return "\n".join(lines)


def build(sources: Mapping[str, str], specialize: Mapping[str, str] | None = None, first_line: int = 1) -> Library:
    """Compile modules (name to source) into one library; each may import `kernels`.

    specialize: values of compile-time parameters by name. first_line: the cell's line at which the source begins, for
    error messages. Raises MojoError when a module does not compile, or defines nothing that Python can call.
    """
    functions: dict[tuple[str, str], tuple[str, Signature]] = {}
    for module, source in sources.items():
        for signature in signatures(source, specialize or {}):
            functions[module, signature.name] = (f"call{len(functions)}", signature)
    entry = stub(functions)
    parts = [toolchain(), entry, *(f"{name}\n{source}" for name, source in sorted(sources.items()))]
    parts += [path.read_text() for path in imported(sources)]
    folder = CACHE / hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
    if not (folder / "library.so").exists():
        compile_into(folder, sources, entry, first_line)
    return Library(folder / "library.so", functions, (folder / "warnings.txt").read_text())


def imported(sources: Mapping[str, str]) -> list[Path]:
    """The kernel files that modules import, directly or through one another."""
    found: set[Path] = set()
    new = {KERNELS / f"{name}.mojo" for text in sources.values() for name in re.findall(r"\bkernels\.(\w+)", text)}
    while new:
        path = new.pop()
        if path in found or not path.exists():
            continue
        found.add(path)
        new |= {
            KERNELS / f"{name}.mojo" for name in re.findall(r"^from \.(\w+) import", path.read_text(), re.MULTILINE)
        }
    return sorted(found)


def compile_into(folder: Path, sources: Mapping[str, str], entry: str, first_line: int) -> None:
    """Compile in a temporary folder, then move it into place: two processes may build the same thing at once."""
    CACHE.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=CACHE, prefix="building."))
    try:
        for name, source in sources.items():
            (work / f"{name}.mojo").write_text(source)
        (work / "entry.mojo").write_text(entry)
        arguments = ["build", "--emit", "shared-lib", "--diagnostic-format", "json", "-I", str(ROOT)]
        done = mojo([*arguments, str(work / "entry.mojo"), "-o", str(work / "library.so")], cwd=work)
        report = diagnostics(done.stdout + done.stderr, work, first_line)
        if done.returncode != 0:
            raise MojoError(report or (done.stderr or done.stdout).strip())
        (work / "warnings.txt").write_text(report)
        try:
            work.rename(folder)
        except OSError:
            if not (folder / "library.so").exists():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def diagnostics(output: str, work: Path, first_line: int) -> str:
    """The compiler's messages about the cell: its own line numbers, the line, a caret, and the message."""
    shown = []
    for line in output.splitlines():
        try:
            message = json.loads(line)
        except ValueError:
            continue
        place = message.get("diagnostic", {})
        file = Path(place.get("file", ""))
        if not place or message["kind"] not in ("error", "warning"):
            continue
        if file.parent.resolve() != work.resolve():
            where = os.path.relpath(file, ROOT) if file.is_relative_to(ROOT) else file.name
            shown.append(f"{message['kind']} in {where}, line {place['location']['line']}: {message['message']}")
        elif file.name != "entry.mojo":
            number, column = place["location"]["line"], place["location"]["column"]
            shown.append(
                f"line {number + first_line - 1}: {message['kind']}: {message['message']}\n"
                f"    {place.get('text', '')}\n    {' ' * column}^"
            )
        elif message["kind"] == "error":
            shown.append(f"error: the functions of this cell cannot be called from Python: {message['message']}")
    return "\n".join(shown)
