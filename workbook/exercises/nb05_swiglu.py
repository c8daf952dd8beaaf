"""Exercises of notebook 05, SwiGLU and fusion."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from reference.swiglu import silu, swiglu
from workbook.compare import CheckFailed, compare
from workbook.exercise import Case, Exercise, Mistake

SHAPES = ((2, 17), (1, 33), (3, 64), (5, 1), (4, 40))


def random(rows: int, width: int, scale: float = 3.0) -> Any:
    """[rows, width], around 0.5 with the given spread: neither constant nor of mean zero."""
    generator = np.random.default_rng(rows * 1000 + width)
    return (scale * generator.standard_normal((rows, width)) + 0.5).astype(np.float32)


SILU_VALUES = {
    "ordinary values": np.array([-3.0, -0.5, 0.25, 1.0, 4.0], np.float32),
    "large values, both signs": np.array([1000.0, 90.0, -90.0, -1000.0], np.float32),
    "zero": np.zeros(1, np.float32),
    "a matrix": random(3, 5),
}


def judge_silu(candidate: Callable[[Any], Any]) -> int:
    """As with cases, but an overflow on the way is an error even where the result comes out right."""
    for label, z in SILU_VALUES.items():
        try:
            with np.errstate(over="raise", invalid="raise", divide="raise"):
                y = candidate(z.copy())
        except FloatingPointError as error:
            raise CheckFailed(f"case '{label}': {error}. Let no exponent be positive") from None
        try:
            compare("y", y, silu(z), 1e-5, 1e-6, label)
        except CheckFailed as failure:
            sigmoid = 1 / (1 + np.exp(-z.astype(np.float64)))
            known = {"silu is z times the sigmoid of z.": sigmoid, SIGN: z * (1 - sigmoid)}
            same_shape = np.shape(failure.actual) == z.shape
            hints = [h for h, wrong in known.items() if same_shape and np.allclose(failure.actual, wrong, atol=1e-6)]
            raise CheckFailed("\nHint: ".join([failure.text, *hints])) from None
    return len(SILU_VALUES)


def matrices() -> Iterator[tuple[str, Any]]:
    for rows, width in SHAPES:
        yield f"{rows} rows, I = {width}", random(rows, 2 * width)
    yield "large values, 2 rows, I = 19", random(2, 38, 60.0)


def numpy_cases() -> Iterator[Case]:
    for label, gate_up in matrices():
        yield Case(label, {"gate_up": gate_up}, {"y": swiglu(gate_up)})


def kernel_cases() -> Iterator[Case]:
    for label, gate_up in matrices():
        rows, width = gate_up.shape[0], gate_up.shape[1] // 2
        yield Case(
            label,
            {"gate_up": gate_up, "rows": rows, "width": width, "tasks": min(2, rows)},
            {"y": swiglu(gate_up)},
            rtol=2e-5,
            atol=1e-5,
        )


def traffic_cases() -> Iterator[Case]:
    for rows, width, size in ((512, 3072, 2), (1, 3072, 2), (7, 33, 4)):
        expected = {"apart": 8 * rows * width * size, "fused": 3 * rows * width * size}
        yield Case(f"{rows} x {width}, {size} bytes each", {"rows": rows, "width": width, "size": size}, expected)


def halves(gate_up: Any) -> tuple[Any, Any]:
    gate, up = np.split(gate_up, 2, axis=-1)
    return gate, up


def swapped(gate_up: Any, rows: int, width: int, tasks: int = 1) -> Any:
    gate, up = halves(gate_up)
    return silu(up) * gate


def sigmoid_only(gate_up: Any, rows: int, width: int, tasks: int = 1) -> Any:
    gate, up = halves(gate_up)
    return up / (1 + np.exp(-gate.astype(np.float64)))


def silu_only(gate_up: Any, rows: int, width: int, tasks: int = 1) -> Any:
    return silu(halves(gate_up)[0])


SWAPPED = "the first half of a row is the gate, which goes through silu; the second half is multiplied."
SIGN = "the exponent is -z: silu of a large positive number is about that number."
ROW = "a row of gate_up has 2 * width elements: row t begins at 2 * t * width."
TAIL = "The last width % LANES elements are not a whole register: they need a loop of their own."

EXERCISES = [
    Exercise(
        id="05.1",
        title="silu",
        kind="python",
        function="silu",
        lines=3,
        judge=judge_silu,
        mistakes=[
            Mistake(
                "divides infinity by infinity",
                "exp(1000) is infinite, and infinity over infinity is no number: let no exponent be positive.",
                [("np.where(z >= 0, 1, small) / (1 + small)", "np.exp(z) / (1 + np.exp(z))")],
            ),
            Mistake(
                "gives the sigmoid", "silu is z times the sigmoid of z.", [("return z * sigmoid", "return sigmoid")]
            ),
            Mistake("turns the sign", SIGN, [("z >= 0", "z < 0")]),
            Mistake(
                "forgets the negative side",
                "for negative z the sigmoid is exp(z) / (1 + exp(z)): the numerator is not 1 there.",
                [("np.where(z >= 0, 1, small)", "1")],
            ),
        ],
    ),
    Exercise(
        id="05.2",
        title="SwiGLU in NumPy",
        kind="python",
        function="swiglu",
        lines=2,
        cases=numpy_cases,
        context={"silu": silu},
        mistakes=[
            Mistake("gates with the wrong half", SWAPPED, [("silu(gate) * up", "silu(up) * gate")]),
            Mistake(
                "takes every second element",
                "gate and up are the two halves of a row; they do not alternate.",
                [("np.split(gate_up, 2, axis=-1)", "gate_up[:, ::2], gate_up[:, 1::2]")],
            ),
            Mistake(
                "gates with itself only", "the second half, `up`, is missing.", [("silu(gate) * up", "silu(gate)")]
            ),
            Mistake("forgets silu", "the gate goes through silu first.", [("silu(gate) * up", "gate * up")]),
        ],
    ),
    Exercise(
        id="05.3",
        title="traffic of three passes and of one",
        kind="python",
        function="traffic",
        lines=3,
        cases=traffic_cases,
        mistakes=[
            Mistake(
                "counts one input for a product",
                "a product reads two arrays and writes one.",
                [("2 + 3 + 3", "2 + 2 + 2")],
            ),
            Mistake("forgets the writes", "what is computed has to be written, too.", [("2 + 3 + 3", "1 + 2 + 2")]),
            Mistake("reads the gate only", "the fused pass reads gate and up.", [("fused = 3", "fused = 2")]),
            Mistake(
                "counts elements",
                "bytes: multiply by the size of an element.",
                [("rows * width * size", "rows * width")],
            ),
        ],
    ),
    Exercise(
        id="05.4",
        title="a naive fused kernel",
        kind="mojo",
        function="swiglu_naive",
        lines=6,
        cases=kernel_cases,
        mistakes=[
            Mistake(
                "gates with the wrong half",
                SWAPPED,
                [("row + i]", "row + ?]"), ("row + width + i]", "row + i]"), ("row + ?]", "row + width + i]")],
                swapped,
            ),
            Mistake("forgets the factor z", "silu is g times its sigmoid.", [("g / (1 +", "1 / (1 +")], sigmoid_only),
            Mistake("forgets up", "the second half, `up`, is missing.", [(" * up", "")], silu_only),
            Mistake("takes rows of width", ROW, [("2 * t * width", "t * width")]),
        ],
    ),
    Exercise(
        id="05.5",
        title="one task of the engine's kernel",
        kind="mojo",
        function="swiglu_tasks",
        lines=20,
        cases=kernel_cases,
        kernel="swiglu.mojo",
        mistakes=[
            Mistake(
                "leaves the tail unwritten",
                TAIL,
                [("for i in range(full, self.width)", "for i in range(self.width, self.width)")],
            ),
            Mistake(
                "writes past the end",
                TAIL,
                [("self.width // LANES * LANES", "(self.width + LANES - 1) // LANES * LANES")],
            ),
            Mistake(
                "every task does the first rows",
                "task number `task` has the rows first to last: let the loop begin at `first`.",
                [("for t in range(first, last)", "for t in range(0, last - first)")],
            ),
            Mistake("takes rows of width", ROW, [("2 * t * self.width", "t * self.width")]),
            Mistake(
                "gates with the wrong half",
                SWAPPED,
                [
                    (
                        "silu(load_float32(gate, i)) * load_float32(up, i)",
                        "silu(load_float32(up, i)) * load_float32(gate, i)",
                    ),
                    ("silu(load_float32[width=1](gate, i))", "silu(load_float32[width=1](up, i))"),
                    ("* load_float32[width=1](up, i)", "* load_float32[width=1](gate, i)"),
                ],
                swapped,
            ),
        ],
    ),
]
