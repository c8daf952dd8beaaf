"""Reading the signatures of Mojo functions, so that Python can call them.

A function can be called from Python when each parameter is a pointer to elements (`Ptr[DType.float32]`, `Ptr[dtype]`),
an integer, a float or a Bool, and it returns nothing or one number. Compile-time parameters come in square brackets; a
DType among them is float32 unless something else is asked for.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

DTYPES = ("float16", "bfloat16", "float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64")
INTEGERS = ("Int", "UInt", "Int32", "Int64", "UInt32", "UInt64")
FLOATS = ("Float32", "Float64")


@dataclass(frozen=True)
class Parameter:
    """One run-time parameter: `dtype` is the element type of a pointer, None for a number."""

    name: str
    type: str
    dtype: str | None


@dataclass(frozen=True)
class Signature:
    """A Mojo function that Python can call. `arguments` are its compile-time arguments, in brackets, or empty."""

    name: str
    arguments: str
    parameters: tuple[Parameter, ...]
    returns: str | None

    def __str__(self) -> str:
        shown = ", ".join(f"{p.name}: {'Ptr[' + p.dtype + ']' if p.dtype else p.type}" for p in self.parameters)
        return f"{self.name}({shown})" + (f" -> {self.returns}" if self.returns else "")


def signatures(source: str, specialize: Mapping[str, str]) -> list[Signature]:
    """The top-level functions of a Mojo source that Python can call; names that begin with _ are left out."""
    found = []
    code = "\n".join(line.split("#")[0].rstrip() for line in source.split("\n"))
    for match in re.finditer(r"^def (\w+)", code, re.MULTILINE):
        signature = parse(match[1], code[match.end() :], specialize)
        if signature is not None and not signature.name.startswith("_"):
            found.append(signature)
    return found


def parse(name: str, rest: str, specialize: Mapping[str, str]) -> Signature | None:
    """The signature whose text follows the name, or None when Python cannot call such a function."""
    values: dict[str, str] = {}
    arguments = []
    rest = rest.lstrip()
    if rest.startswith("["):
        inner, rest = balanced(rest)
        for item in split(inner):
            if item in ("//", "/", "*"):
                return None  # functions with inferred or keyword parameters are helpers: Python does not call them
            parameter, _, kind = (part.strip() for part in item.partition(":"))
            value = specialize.get(parameter, "DType.float32" if kind == "DType" else "")
            if not value:
                return None
            values[parameter] = value
            arguments.append(value)
    inner, rest = balanced(rest.lstrip())
    parameters: list[Parameter] = []
    for item in split(inner):
        spelled, _, kind = (part.strip() for part in item.partition(":"))
        read = parse_parameter(spelled.split()[-1], kind.split("=")[0].strip(), values)
        if read is None:
            return None
        parameters.append(read)
    returns = re.match(r"\s*(?:raises)?\s*(?:->\s*([\w.\[\]]+))?\s*:", rest)
    if returns is None or (returns[1] is not None and returns[1] not in (*INTEGERS, *FLOATS, "Bool")):
        return None
    return Signature(name, f"[{', '.join(arguments)}]" if arguments else "", tuple(parameters), returns[1])


def parse_parameter(name: str, kind: str, values: Mapping[str, str]) -> Parameter | None:
    """A run-time parameter, or None when Python cannot pass one of this type."""
    pointer = re.fullmatch(r"(?:Ptr|MutPtr)\[\s*(.+?)\s*\]", kind)
    if pointer is not None:
        dtype = values.get(pointer[1], pointer[1]).removeprefix("DType.")
        return Parameter(name, "pointer", dtype) if dtype in DTYPES else None
    return Parameter(name, kind, None) if kind in (*INTEGERS, *FLOATS, "Bool") else None


def balanced(text: str) -> tuple[str, str]:
    """What is inside the bracket that text begins with, and what follows it."""
    depth = 0
    for position, character in enumerate(text):
        depth += (character in "[({") - (character in "])}")
        if depth == 0:
            return text[1:position], text[position + 1 :]
    return text[1:], ""


def split(text: str) -> list[str]:
    """Split at the commas that are not inside brackets; empty items (a trailing comma) are dropped."""
    items, depth, start = [], 0, 0
    for position, character in enumerate(text):
        depth += (character in "[({") - (character in "])}")
        if character == "," and depth == 0:
            items.append(text[start:position])
            start = position + 1
    return [item.strip() for item in [*items, text[start:]] if item.strip()]
