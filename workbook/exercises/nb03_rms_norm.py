"""Exercises of notebook 03, RMSNorm."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from reference.rms_norm import rms_norm
from workbook.exercise import Case, Exercise, Mistake

EPS = 1e-6
SHAPES = ((1, 17), (3, 33), (5, 64), (2, 1), (4, 129))


def random(shape: tuple[int, ...], seed: int, scale: float = 1.0) -> Any:
    """Values around 0.3 with the given spread: neither constant nor of mean zero."""
    generator = np.random.default_rng(seed)
    return (scale * (generator.standard_normal(shape) + 0.3)).astype(np.float32)


def matrices() -> Iterator[tuple[str, Any, Any]]:
    """(label, x [T, E], weight [E]) at odd sizes, one row, one column, large and tiny values."""
    for rows, width in SHAPES:
        yield f"{rows} x {width}", random((rows, width), rows + width), random((width,), width)
    yield "tiny values, 2 x 19, where eps matters", random((2, 19), 1, 1e-3), random((19,), 2)
    yield "large values, 2 x 19", random((2, 19), 3, 1e4), random((19,), 4)
    yield "a row of zeros", np.zeros((1, 19), np.float32), random((19,), 5)


def numpy_cases() -> Iterator[Case]:
    for label, x, weight in matrices():
        yield Case(label, {"x": x, "weight": weight, "eps": EPS}, {"y": rms_norm(x, weight, EPS)})


def matrix_cases() -> Iterator[Case]:
    for label, x, weight in matrices():
        inputs = {"x": x, "weight": weight, "rows": x.shape[0], "width": x.shape[1], "eps": EPS}
        yield Case(label, inputs, {"y": rms_norm(x, weight, EPS)})


def scale_cases() -> Iterator[Case]:
    for label, x, _ in matrices():
        row = x[-1].copy()
        inverse = 1 / np.sqrt(np.mean(row.astype(np.float64) ** 2) + EPS)
        yield Case(f"the last row of {label}", {"x": row, "width": len(row), "eps": EPS}, {"value": inverse})


def row_cases() -> Iterator[Case]:
    for label, x, weight in matrices():
        inputs = {"x": x[-1].copy(), "weight": weight, "width": x.shape[1], "eps": EPS}
        yield Case(f"the last row of {label}", inputs, {"y": rms_norm(x[-1], weight, EPS)})


def cost_cases() -> Iterator[Case]:
    for rows, width, size in ((512, 1024, 2), (1, 1024, 2), (7, 33, 4)):
        cost = {"bytes_moved": (2 * rows + 1) * width * size, "flops": 4 * rows * width}
        yield Case(f"{rows} x {width}, {size} bytes each", {"rows": rows, "width": width, "size": size}, cost)


def without_eps(x: Any, weight: Any, rows: int, width: int, eps: float) -> Any:
    with np.errstate(invalid="ignore"):
        return rms_norm(x, weight, 0.0)


def without_weight(x: Any, weight: Any, rows: int, width: int, eps: float) -> Any:
    return rms_norm(x, np.ones_like(weight), eps)


def sum_not_mean(x: Any, weight: Any, rows: int, width: int, eps: float) -> Any:
    return x / np.sqrt(np.sum(x * x, axis=-1, keepdims=True) + np.float32(eps)) * weight


def inverse_of(squares: float, eps: float) -> float:
    return float(1 / np.sqrt(squares + eps))


FORGOT_TAIL = "The last width % LANES elements are not a whole register: they need a loop of their own."

EXERCISES = [
    Exercise(
        id="03.1",
        title="RMSNorm in NumPy",
        kind="python",
        function="rms_norm",
        lines=2,
        cases=numpy_cases,
        mistakes=[
            Mistake("forgets eps", "eps is missing: look at a row of very small values.", [(" + eps", "")]),
            Mistake(
                "normalises over all rows",
                "each row has its own mean: it is taken over the last axis only.",
                [("axis=-1, ", "")],
            ),
            Mistake(
                "subtracts the mean",
                "that is LayerNorm: RMSNorm does not subtract the mean.",
                [("np.mean(x * x, axis=-1, keepdims=True)", "np.var(x, axis=-1, keepdims=True)")],
            ),
            Mistake("forgets the weight", "the result is not multiplied by `weight`.", [(" * weight", "")]),
        ],
    ),
    Exercise(
        id="03.2",
        title="what RMSNorm moves and computes",
        kind="python",
        function="cost",
        lines=3,
        cases=cost_cases,
        mistakes=[
            Mistake("counts the write only", "x is read as well as y written.", [("2 * rows + 1", "rows + 1")]),
            Mistake("forgets the weight", "the weight is read too, once.", [("2 * rows + 1", "2 * rows")]),
            Mistake("counts elements", "bytes: multiply by the size of an element.", [(" * width * size", " * width")]),
        ],
    ),
    Exercise(
        id="03.3",
        title="a naive kernel",
        kind="mojo",
        function="rms_norm_naive",
        lines=8,
        cases=matrix_cases,
        mistakes=[
            Mistake("forgets eps", "eps is missing under the root.", [(" + eps", "")], without_eps),
            Mistake(
                "forgets the weight",
                "the result is not multiplied by `weight`.",
                [(" * weight[unsafe_offset=i]", "")],
                without_weight,
            ),
            Mistake(
                "sums instead of averaging",
                "the squares are summed but not divided by `width`.",
                [(" / Float32(width)", "")],
                sum_not_mean,
            ),
            Mistake(
                "always reads the first row",
                "the row's offset is t * width: every row but the first is wrong.",
                [("var start = t * width", "var start = 0 * t")],
            ),
        ],
    ),
    Exercise(
        id="03.4",
        title="the sum of squares, sixteen at a time",
        kind="mojo",
        function="inverse_rms",
        lines=9,
        cases=scale_cases,
        kernel="rms_norm.mojo",
        mistakes=[
            Mistake(
                "drops the tail",
                FORGOT_TAIL,
                [("for i in range(full, width)", "for i in range(width, width)")],
                lambda x, width, eps: inverse_of(np.sum(x[: width // 16 * 16] ** 2) / width, eps),
            ),
            Mistake(
                "reads past the end",
                FORGOT_TAIL,
                [("var full = width // LANES * LANES", "var full = (width + LANES - 1) // LANES * LANES")],
            ),
            Mistake(
                "divides by the rounded width",
                "the mean is over `width` elements, not over the whole registers only.",
                [("Float32(width)", "Float32(max(full, 1))")],
                lambda x, width, eps: inverse_of(np.sum(x**2) / max(width // 16 * 16, 1), eps),
            ),
            Mistake(
                "forgets the root",
                "the scale is one over the root of the mean square.",
                [("1 / sqrt(total / Float32(width) + eps)", "1 / (total / Float32(width) + eps)")],
                lambda x, width, eps: 1 / (np.mean(x**2) + eps),
            ),
        ],
    ),
    Exercise(
        id="03.5",
        title="one row in two passes",
        kind="mojo",
        function="norm_row",
        lines=13,
        cases=row_cases,
        kernel="rms_norm.mojo",
        mistakes=[
            Mistake(
                "leaves the tail unwritten",
                FORGOT_TAIL,
                [("for i in range(full, width)", "for i in range(width, width)")],
            ),
            Mistake(
                "writes past the end",
                FORGOT_TAIL,
                [("var full = width // LANES * LANES", "var full = (width + LANES - 1) // LANES * LANES")],
            ),
            Mistake(
                "weight of the first register everywhere",
                "weight moves along with x: its offset is i, not 0.",
                [("load_float32(weight, i)", "load_float32(weight, 0)")],
            ),
        ],
    ),
]
