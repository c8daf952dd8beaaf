"""Exercises of notebook 04, RoPE."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from reference.rms_norm import rms_norm
from reference.rope import apply_rope, default_frequencies
from workbook.exercise import Case, Exercise, Mistake

EPS = 1e-6
HEAD = 48  # of exercise 04.5: a half is three registers of eight lanes


def random(shape: tuple[int, ...], seed: int, scale: float = 1.0) -> Any:
    """Values around 0.3 with the given spread: neither constant nor of mean zero."""
    generator = np.random.default_rng(seed)
    return (scale * (generator.standard_normal(shape) + 0.3)).astype(np.float32)


def table(positions: int, head_dim: int, theta: float) -> Any:
    """Cosines, then sines of each position, [positions, D], float32."""
    angles = np.outer(np.arange(positions), default_frequencies(head_dim, theta))
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def table_cases() -> Iterator[Case]:
    for positions, head_dim, theta in ((9, 6, 10000.0), (1, 8, 10000.0), (17, 128, 1000000.0), (40, 2, 500.0)):
        yield Case(
            f"{positions} positions, heads of {head_dim}, theta {theta:g}",
            {"positions": positions, "head_dim": head_dim, "theta": theta},
            {"cos_sin": table(positions, head_dim, theta)},
        )


def heads() -> Iterator[tuple[str, Any, Any, Any]]:
    """(label, x [T, heads, D], cos_sin, positions [T]): positions that are no row numbers, one row, odd sizes."""
    for tokens, count, head_dim, first in ((3, 2, 6, 5), (1, 1, 8, 3), (4, 8, 16, 0), (5, 3, 10, 19)):
        positions = np.arange(first, first + tokens, dtype=np.int32)
        label = f"{tokens} x {count} heads of {head_dim} from position {first}"
        yield label, random((tokens, count, head_dim), head_dim), table(32, head_dim, 100.0), positions
    mixed = np.array([7, 0, 31, 1, 1], np.int32)
    yield "tokens of several requests", random((5, 2, 12), 7), table(32, 12, 10000.0), mixed


def rotate_cases() -> Iterator[Case]:
    for label, x, cos_sin, positions in heads():
        inputs = {"x": x, "cos_sin": cos_sin, "positions": positions}
        yield Case(label, inputs, {"y": apply_rope(x, cos_sin, positions)})


def naive_cases() -> Iterator[Case]:
    for label, x, cos_sin, positions in heads():
        sizes = dict(zip(("rows", "heads", "width"), x.shape, strict=True))
        inputs = {"x": x, "cos_sin": cos_sin, "positions": positions, **sizes}
        yield Case(label, inputs, {"y": apply_rope(x, cos_sin, positions)})


def half_split_order(head_dim: int) -> Any:
    """Where entry i of a half-split head stands in an interleaved one."""
    return np.concatenate([np.arange(0, head_dim, 2), np.arange(1, head_dim, 2)])


def layout_cases() -> Iterator[Case]:
    for count, head_dim, width in ((2, 6, 5), (1, 8, 3), (3, 2, 4), (8, 16, 7)):
        weight = random((count * head_dim, width), head_dim)
        expected = weight.reshape(count, head_dim, width)[:, half_split_order(head_dim)].reshape(weight.shape)
        inputs = {"weight": weight, "head_dim": head_dim}
        yield Case(f"{count} heads of {head_dim}, E = {width}", inputs, {"converted": expected})


def head_cases() -> Iterator[Case]:
    cos_sin = table(64, HEAD, 10000.0)
    for position in (5, 1, 63, 0):
        x, weight = random((HEAD,), position, 3.0), random((HEAD,), position + 100)
        yield Case(
            f"position {position}",
            {"x": x, "weight": weight, "eps": EPS, "cos_sin": cos_sin[position]},
            {"y": turned(rms_norm(x, weight, EPS), cos_sin[position]), "plain": turned(x, cos_sin[position])},
            atol=1e-5,
        )


def turned(head: Any, angles: Any) -> Any:
    """One head [D] turned by one row of the table [D]."""
    return apply_rope(head[None, None], angles[None], np.array([0]))[0, 0]


def by_row(x: Any, cos_sin: Any, positions: Any, rows: int, heads: int, width: int) -> Any:
    return apply_rope(x, cos_sin, np.arange(rows))


def backwards(x: Any, cos_sin: Any, positions: Any, rows: int, heads: int, width: int) -> Any:
    return apply_rope(x, cos_sin * np.repeat(np.array([1, -1], np.float32), width // 2), positions)


def neighbours(x: Any, cos_sin: Any, positions: Any, rows: int, heads: int, width: int) -> Any:
    order = half_split_order(width)
    out = np.empty_like(x)
    out[..., order] = apply_rope(x[..., order], cos_sin, positions)
    return out


def both(head: Any, x: Any, cos_sin: Any) -> tuple[Any, Any]:
    """The two results of exercise 04.5, when `head` is turned instead of the normalised head."""
    return turned(head, cos_sin), turned(x, cos_sin)


TURN = "a' = a cos - b sin and b' = b cos + a sin: look at the signs."
POSITION = "row t of x stands at positions[t], which need not be t."
PAIRS = "entry i goes with entry i + D/2, not with its neighbour: that is the interleaved layout."

EXERCISES = [
    Exercise(
        id="04.1",
        title="the table of angles",
        kind="python",
        function="cos_sin_table",
        lines=3,
        cases=table_cases,
        mistakes=[
            Mistake(
                "halves the exponent",
                "the exponent is -2i/D: the last pair is almost theta times slower than the first.",
                [("np.arange(0, head_dim, 2)", "np.arange(head_dim // 2)")],
            ),
            Mistake(
                "grows with i",
                "frequencies fall with i: the exponent is negative.",
                [("theta ** (-np", "theta ** (np")],
            ),
            Mistake(
                "interleaves cosines and sines",
                "a row holds all D/2 cosines first, then the sines.",
                [
                    ("np.concatenate(", "np.stack("),
                    ("axis=1)", "axis=2).reshape(positions, head_dim)"),
                ],
            ),
            Mistake(
                "sines first",
                "cosines come first in a row, then sines.",
                [("np.cos(angles), np.sin(angles)", "np.sin(angles), np.cos(angles)")],
            ),
        ],
    ),
    Exercise(
        id="04.2",
        title="turning heads in NumPy",
        kind="python",
        function="rotate",
        lines=3,
        cases=rotate_cases,
        mistakes=[
            Mistake(
                "turns the other way", TURN, [("a * cos - b * sin, b * cos + a", "a * cos + b * sin, b * cos - a")]
            ),
            Mistake("takes the row for the position", POSITION, [("cos_sin[positions]", "cos_sin[: len(x)]")]),
            Mistake(
                "pairs neighbours",
                PAIRS,
                [
                    ("a, b = np.split(x, 2, axis=-1)", "a, b = x[..., ::2], x[..., 1::2]"),
                    ("np.concatenate([", "np.stack(["),
                    ("a * sin], axis=-1)", "a * sin], axis=-1).reshape(x.shape)"),
                ],
            ),
            Mistake("mirrors instead of turning", TURN, [("b * cos + a * sin", "b * cos - a * sin")]),
        ],
    ),
    Exercise(
        id="04.3",
        title="from interleaved to half-split",
        kind="python",
        function="to_half_split",
        lines=2,
        cases=layout_cases,
        mistakes=[
            Mistake(
                "converts backwards",
                "that turns half-split into interleaved: the pair index comes before the 2 in the old layout.",
                [("head_dim // 2, 2, weight", "2, head_dim // 2, weight")],
            ),
            Mistake(
                "mixes the heads",
                "each head is reordered by itself: the first axis counts heads.",
                [("(-1, head_dim // 2, 2,", "(1, -1, 2,")],
            ),
            Mistake("leaves the order", "nothing has moved: swap the axes.", [(".transpose(0, 2, 1, 3)", "")]),
        ],
    ),
    Exercise(
        id="04.4",
        title="a naive rotation",
        kind="mojo",
        function="rope_naive",
        lines=12,
        cases=naive_cases,
        mistakes=[
            Mistake(
                "takes the row for the position",
                POSITION,
                [("Int(positions[unsafe_offset=t])", "t")],
                by_row,
            ),
            Mistake(
                "turns the other way",
                TURN,
                [("a * c - b * s", "a * c + b * s"), ("b * c + a * s", "b * c - a * s")],
                backwards,
            ),
            Mistake(
                "pairs neighbours",
                PAIRS,
                [("start + i]", "start + 2 * i]"), ("start + half + i]", "start + 2 * i + 1]")],
                neighbours,
            ),
            Mistake(
                "forgets the heads",
                "head h of token t begins at (t * heads + h) * width.",
                [("(t * heads + h) * width", "(t + h) * width")],
            ),
        ],
    ),
    Exercise(
        id="04.5",
        title="norm and rotation of one head",
        kind="mojo",
        function="both_kinds",
        lines=14,
        cases=head_cases,
        kernel="rope.mojo",
        mistakes=[
            Mistake(
                "forgets the weight",
                "the norm ends with a product with `weight`.",
                [(" * load_float32[width=W](weight, i + half)", ""), (" * load_float32[width=W](weight, i)", "")],
                lambda x, weight, eps, cos_sin: both(rms_norm(x, np.ones_like(x), eps), x, cos_sin),
            ),
            Mistake(
                "one weight for both halves",
                "the second half has weights of its own, from offset i + half.",
                [("(weight, i + half)", "(weight, i)")],
                lambda x, weight, eps, cos_sin: both(rms_norm(x, np.tile(weight[: HEAD // 2], 2), eps), x, cos_sin),
            ),
            Mistake(
                "normalises always",
                "without `norm` (a Llama model) the head is only turned: `plain` is wrong.",
                [("comptime if norm", "comptime if True")],
                lambda x, weight, eps, cos_sin: (turned(rms_norm(x, weight, eps), cos_sin),) * 2,
            ),
            Mistake(
                "turns the second half with the new first half",
                TURN,
                [
                    ("store_rounded(y, i, a * c - b * s)", "a = a * c - b * s"),
                    (
                        "store_rounded(y, i + half, b * c + a * s)",
                        "store_rounded(y, i, a)\n        store_rounded(y, i + half, b * c + a * s)",
                    ),
                ],
            ),
            Mistake(
                "turns one register only",
                "a half has D/2 elements: the loop goes over all of them, W at a time.",
                [("range(0, half, W)", "range(0, W, W)")],
            ),
        ],
    ),
]
