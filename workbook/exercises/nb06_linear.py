"""Exercises of notebook 06, linear."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from reference.linear import linear
from workbook.exercise import Case, Exercise, Mistake
from workbook.mojo_run import from_bfloat16, to_bfloat16


def random(shape: tuple[int, ...], seed: int) -> Any:
    """Values around 0.3 that bfloat16 holds exactly, as float32."""
    generator = np.random.default_rng(seed)
    return from_bfloat16(to_bfloat16((generator.standard_normal(shape) + 0.3).astype(np.float32)))


def packed(w: Any) -> Any:
    """packed[b, p, i, j] = w[16 b + i, 2 p + j], zeros beyond w, element by element."""
    n, k = w.shape
    out = np.zeros((-(-n // 16), -(-k // 2), 16, 2), w.dtype)
    for row in range(n):
        for column in range(k):
            out[row // 16, column // 2, row % 16, column % 2] = w[row, column]
    return out


def cost_cases() -> Iterator[Case]:
    for rows, n, k, size in ((1, 6144, 1024, 2), (512, 6144, 1024, 2), (3, 7, 5, 4)):
        expected = {"moved": (n * k + rows * k + rows * n) * size, "flops": 2 * rows * n * k}
        yield Case(f"{rows} x {k} times {n} outputs", {"rows": rows, "n": n, "k": k, "size": size}, expected)


def pack_cases() -> Iterator[Case]:
    for n, k in ((16, 6), (37, 5), (1, 1), (48, 34)):
        w = random((n, k), n + k)
        yield Case(f"[{n}, {k}]", {"w": w}, {"packed": packed(w)})


def naive_cases() -> Iterator[Case]:
    for rows, n, k in ((2, 5, 7), (1, 17, 33), (3, 1, 16), (4, 9, 1)):
        x, w = random((rows, k), rows + k), random((n, k), n)
        inputs = {"x": x, "w": w, "rows": rows, "n": n, "k": k}
        yield Case(f"{rows} rows, N = {n}, K = {k}", inputs, {"y": linear(x, w)}, atol=1e-5)


def widen_cases() -> Iterator[Case]:
    for count in (16, 48, 32):
        even, odd = random((count,), count), random((count,), count + 1)
        pairs = np.stack([to_bfloat16(even), to_bfloat16(odd)], axis=1).view(np.int32).reshape(-1)
        yield Case(f"{count} pairs", {"pairs": pairs, "count": count}, {"even": even, "odd": odd}, rtol=0, atol=0)


def block_cases() -> Iterator[Case]:
    for rows, n, k in ((3, 32, 6), (1, 16, 34), (8, 48, 10), (2, 16, 2)):
        x, w = random((rows, k), rows + k), random((n, k), n)
        bits = to_bfloat16(packed(w)).view(np.int32).reshape(-1)
        inputs = {"x": x, "w": bits, "rows": rows, "n": n, "k": k}
        yield Case(f"{rows} rows, N = {n}, K = {k}", inputs, {"y": linear(x, w)}, atol=1e-5)


def halves(pairs: Any) -> tuple[Any, Any]:
    """The pairs' even and odd numbers as float32."""
    both = from_bfloat16(pairs.view(np.uint16).reshape(-1, 2))
    return both[:, 0].copy(), both[:, 1].copy()


def unpacked(w: Any, n: int, k: int) -> Any:
    """w [n, k] of a packed matrix that is handed over as pairs."""
    values = from_bfloat16(w.view(np.uint16)).reshape(n // 16, k // 2, 16, 2)
    return values.transpose(0, 2, 1, 3).reshape(n, k)


def even_only(x: Any, w: Any, rows: int, n: int, k: int) -> Any:
    return linear(x[:, ::2], unpacked(w, n, k)[:, ::2])


def crossed(x: Any, w: Any, rows: int, n: int, k: int) -> Any:
    neighbours = x.reshape(rows, -1, 2)[:, :, ::-1].reshape(x.shape)
    return linear(neighbours, unpacked(w, n, k))


EXERCISES = [
    Exercise(
        id="06.1",
        title="what a linear layer moves and computes",
        kind="python",
        function="cost",
        lines=3,
        cases=cost_cases,
        mistakes=[
            Mistake(
                "forgets the weights",
                "w, N x K, is by far the largest of the three arrays.",
                [("n * k + rows", "rows")],
            ),
            Mistake(
                "reads the weights for every row",
                "at best w is read once, for all rows together.",
                [("(n * k +", "(rows * n * k +")],
            ),
            Mistake(
                "counts a multiply-add once",
                "a product and a sum are two FLOPs.",
                [("2 * rows * n * k", "rows * n * k")],
            ),
            Mistake("counts elements", "bytes: multiply by the size of an element.", [(") * size", ")")]),
        ],
    ),
    Exercise(
        id="06.2",
        title="packing",
        kind="python",
        function="pack",
        lines=4,
        cases=pack_cases,
        mistakes=[
            Mistake(
                "keeps rows apart",
                "the lanes are outputs: inside a block all 16 rows of a pair of columns come first.",
                [(".transpose(0, 2, 1, 3)", "")],
            ),
            Mistake(
                "pads in front",
                "the zeros come after the matrix, beyond N and K.",
                [("padded[: w.shape[0], : w.shape[1]]", "padded[-w.shape[0] :, -w.shape[1] :]")],
            ),
            Mistake(
                "parts the pairs",
                "two neighbouring columns stay neighbours: they are the last axis.",
                [(".transpose(0, 2, 1, 3)", ".transpose(0, 2, 3, 1).reshape(-1, padded.shape[1] // 2, 16, 2)")],
            ),
        ],
    ),
    Exercise(
        id="06.3",
        title="the definition",
        kind="mojo",
        function="linear_naive",
        lines=9,
        cases=naive_cases,
        mistakes=[
            Mistake(
                "reads w by columns",
                "w is [N, K]: output `column` has row `column` of w, which begins at column * k.",
                [("w[unsafe_offset=column * k + i]", "w[unsafe_offset=i * n + column]")],
                lambda x, w, rows, n, k: x @ w.reshape(k, n),
            ),
            Mistake(
                "takes the first row of x",
                "row `row` of x begins at row * k.",
                [("x[unsafe_offset=row * k + i]", "x[unsafe_offset=i]")],
                lambda x, w, rows, n, k: np.repeat(linear(x[:1], w), rows, axis=0),
            ),
            Mistake(
                "never starts the sum again",
                "each output has a sum of its own that starts at zero.",
                [
                    (
                        "        for column in range(n):\n            var total = Float32(0)",
                        "        var total = Float32(0)\n        for column in range(n):",
                    )
                ],
                lambda x, w, rows, n, k: np.cumsum(linear(x, w), axis=1),
            ),
            Mistake(
                "writes y by columns",
                "y is [rows, N]: row `row` begins at row * n.",
                [("row * n + column", "column * rows + row")],
                lambda x, w, rows, n, k: linear(x, w).T.reshape(rows, n),
            ),
        ],
    ),
    Exercise(
        id="06.4",
        title="two numbers from one lane",
        kind="mojo",
        function="widen",
        lines=2,
        cases=widen_cases,
        kernel="linear_tile.mojo",
        mistakes=[
            Mistake(
                "swaps the two",
                "the even one is in the lower 16 bits (memory is little-endian), the odd one in the upper.",
                [
                    ("pairs << 16", "pairs ?"),
                    ("pairs & Units(-65536)", "pairs << 16"),
                    ("pairs ?", "pairs & Units(-65536)"),
                ],
                lambda pairs, count: halves(pairs)[::-1],
            ),
            Mistake(
                "leaves the other's bits",
                "the odd number is nearly right: the even one's bits are still below it.",
                [("pairs & Units(-65536)", "pairs")],
                lambda pairs, count: (halves(pairs)[0], pairs.view(np.float32)),
            ),
            Mistake(
                "converts the integer",
                "bits are to be reinterpreted (bitcast), not the integer converted.",
                [("bitcast[DType.float32, LANES](pairs << 16)", "(pairs << 16).cast[DType.float32]()")],
                lambda pairs, count: ((pairs << 16).astype(np.float32), halves(pairs)[1]),
            ),
        ],
    ),
    Exercise(
        id="06.5",
        title="a few rows times a packed block",
        kind="mojo",
        function="linear_few",
        lines=12,
        cases=block_cases,
        mistakes=[
            Mistake(
                "uses even columns only",
                "the odd half of each pair is missing.",
                [("            sums[r] = odd.fma(Sums(b), sums[r])\n", "")],
                even_only,
            ),
            Mistake(
                "crosses the pair",
                "the even weight goes with x[2 p], the odd one with x[2 p + 1].",
                [("even.fma(Sums(a)", "even.fma(Sums(b)"), ("odd.fma(Sums(b)", "odd.fma(Sums(a)")],
                crossed,
            ),
            Mistake(
                "takes the first row of x",
                "row r of x begins at r * k.",
                [("r * k + 2 * p", "2 * p")],
                lambda x, w, rows, n, k: np.repeat(linear(x[:1], unpacked(w, n, k)), rows, axis=0),
            ),
            Mistake(
                "writes rows of 16",
                "row r of y begins at r * n: a block is only 16 of its columns.",
                [("y.unsafe_store(r * n", "y.unsafe_store(r * LANES")],
            ),
        ],
    ),
]
