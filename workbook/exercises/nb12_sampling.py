"""Exercises of notebook 12, sampling."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from mili.text import TextStream
from reference import sampling as reference
from workbook.compare import CheckFailed
from workbook.exercise import Case, Exercise, Mistake

BLOCK = 256  # of kernels/sample.mojo


def random(size: int, seed: int, scale: float = 3.0) -> Any:
    """Logits, float32."""
    return (scale * np.random.default_rng(seed).standard_normal(size)).astype(np.float32)


def softmax_cases() -> Iterator[Case]:
    for label, logits, temperature in (
        ("five tokens at temperature 0.5", random(5, 1), 0.5),
        ("33 tokens at temperature 1.7", random(33, 2), 1.7),
        ("logits around 1000", random(7, 3) + np.float32(1000), 0.8),
        ("a forbidden token, -inf", np.array([1, -np.inf, 2], np.float32), 1.2),
        ("one token", np.array([3], np.float32), 2.0),
    ):
        scaled = logits.astype(np.float64) / temperature
        weights = np.exp(scaled - scaled.max())
        expected = (weights / weights.sum()).astype(np.float32)
        yield Case(label, {"logits": logits, "temperature": temperature}, {"probabilities": expected})


def top_p_cases() -> Iterator[Case]:
    first = np.log(np.array([0.1, 0.5, 0.05, 0.2, 0.15], np.float32)) + np.float32(2)
    for label, logits, p in (
        ("probabilities 0.1 0.5 0.05 0.2 0.15, p = 0.8", first, 0.8),
        ("the same, p = 0.05: one token always stays", first, 0.05),
        ("the same, p = 0.99", first, 0.99),
        ("100 tokens, p = 0.9", random(100, 4), 0.9),
        ("100 tokens, nearly equal, p = 0.5", random(100, 5, 0.01), 0.5),
        ("some forbidden already", np.where(random(9, 6) > 0, random(9, 7), np.float32(-np.inf)), 0.7),
    ):
        yield Case(label, {"logits": logits, "p": p}, {"filtered": reference.keep_top_p(logits, p)})


def draw_cases() -> Iterator[Case]:
    logits = np.array([-np.inf, 1.0, 3.0, -np.inf, 2.0, 2.5], np.float32)
    for u in (0.1, 0.55, 0.0, 0.3, 0.9, 0.999999):
        yield Case(
            f"forbidden tokens 0 and 3, u = {u}", {"logits": logits, "u": u}, {"token": reference.draw(logits, u)}
        )
    flat = random(1000, 8)
    for u in (0.0, 0.123, 0.5, 0.87654):
        yield Case(f"1000 tokens, u = {u}", {"logits": flat, "u": u}, {"token": reference.draw(flat, u)})


def rows() -> Iterator[tuple[str, Any]]:
    """(label, logits [V]): ties within a register, across registers and in the tail; odd sizes; all negative."""
    for size, places in (
        (50, (37, 21, 5)),
        (50, (30, 4)),
        (50, (49, 48)),
        (100, (35, 19, 97)),
        (64, (16, 0)),
        (7, (6, 2)),
        (1, (0,)),
        (33, (32,)),
    ):
        logits = random(size, size) - np.float32(50)
        logits[list(places)] = -1.5
        yield f"{size} values, the greatest at {sorted(places)}", logits
    yield "infinities", np.array([-np.inf] * 20 + [0, np.inf, np.inf], np.float32)


def argmax_cases() -> Iterator[Case]:
    for label, logits in rows():
        yield Case(label, {"logits": logits, "width": len(logits)}, {"value": float(np.argmax(logits))})


def last_greatest(logits: Any, width: int) -> float:
    return float(width - 1 - np.argmax(logits[::-1]))


def kernel_draw_cases() -> Iterator[Case]:
    generator = np.random.default_rng(9)
    for blocks in (3, 1, 7):
        w = generator.random(BLOCK * blocks).astype(np.float32)
        w[generator.random(len(w)) < 0.7] = 0  # what the filters took away
        for random_number in (0.75, 0.0, 0.2, 0.5, 0.99):
            # A target in the middle of a token's share: rounding of the sums cannot move it into the next.
            sums = np.cumsum(w.astype(np.float64))
            token = int(np.searchsorted(sums, random_number * sums[-1], side="right"))
            u = (sums[token] - 0.5 * float(w[token])) / sums[-1]
            inputs = {"w": w, "padded": len(w), "random": float(np.float32(u))}
            yield Case(f"{blocks} blocks, random {u:.3f}", inputs, {"value": float(token)})
    one = np.zeros(2 * BLOCK, np.float32)
    one[300] = 1
    yield Case("a single token is left", {"w": one, "padded": len(one), "random": 0.5}, {"value": 300.0})
    yield Case("no token is left", {"w": np.zeros(BLOCK, np.float32), "padded": BLOCK, "random": 0.5}, {"value": -1.0})


class Pieces:
    """A decoder whose tokens are the numbers of given pieces of text."""

    def __init__(self, pieces: list[str]) -> None:
        self.pieces = pieces

    def push(self, token_id: int) -> str:
        """The piece with this number."""
        return self.pieces[token_id]

    def flush(self) -> str:
        """Nothing is ever unfinished."""
        return ""


def judge_stops(stop_class: Any) -> int:
    """Examine StopText(stops): push by push against the engine's TextStream, by hand first, then at random."""
    fixed: list[tuple[tuple[str, ...], list[str]]] = [
        (("The End",), [" fox. ", "The", " En", "d", ". And"]),
        (("The End",), ["The", " E", "vening", " came"]),
        (("aab",), ["a", "a", "a", "b", "c"]),
        (("abab", "ba"), ["x", "a", "b", "c"]),
        (("xyz", "z"), ["w", "xy", "z"]),
        (("no", "never"), ["It was n", "ever", " no"]),
    ]
    generator = np.random.default_rng(13)
    for _ in range(300):
        stops = tuple({"".join(generator.choice(list("ab"), generator.integers(1, 5))) for _ in range(2)})
        pieces = ["".join(generator.choice(list("abc"), generator.integers(1, 4))) for _ in range(8)]
        fixed.append((stops, pieces))
    for stops, pieces in fixed:
        ours, theirs = stop_class(list(stops)), TextStream(Pieces(pieces), stops)
        for number, piece in enumerate(pieces):
            wanted, given = theirs.push(number), ours.push(piece)
            where = f"stop strings {list(stops)}, pieces {pieces[: number + 1]}"
            if given != wanted:
                raise CheckFailed(f"{where}: the last push gives {given!r} but should give {wanted!r}")
            if bool(ours.stopped) != theirs.stopped:
                raise CheckFailed(f"{where}: stopped is {ours.stopped} but should be {theirs.stopped}")
            if theirs.stopped:
                break
    return len(fixed)


EXERCISES = [
    Exercise(
        id="12.1",
        title="probabilities at a temperature",
        kind="python",
        function="probabilities",
        lines=3,
        cases=softmax_cases,
        mistakes=[
            Mistake(
                "multiplies by the temperature",
                "logits are divided by the temperature: a high one makes them more alike.",
                [("logits / temperature", "logits * temperature")],
            ),
            Mistake(
                "does not subtract the greatest",
                "exp overflows for large logits: subtract the greatest first, which changes no ratio.",
                [("scaled - scaled.max()", "scaled")],
            ),
            Mistake("does not normalise", "probabilities sum to one: divide by their sum.", [(" / weights.sum()", "")]),
        ],
    ),
    Exercise(
        id="12.2",
        title="top-p",
        kind="python",
        function="keep_top_p",
        lines=7,
        cases=top_p_cases,
        mistakes=[
            Mistake(
                "stops one token early",
                "the token that reaches p belongs to those that are kept: look at what the likelier ones sum to.",
                [("np.cumsum(share) - share", "np.cumsum(share)")],
            ),
            Mistake(
                "begins with the unlikeliest",
                "the likeliest tokens come first: sort from the greatest logit down.",
                [("np.argsort(-logits", "np.argsort(logits")],
            ),
            Mistake(
                "sums weights, not probabilities",
                "p is a share of the whole: divide the weights by their sum.",
                [("weights / weights.sum()", "weights")],
            ),
            Mistake(
                "gives probabilities",
                "the result has logits, unchanged where they are kept.",
                [("= logits[kept]", "= share[before < p]")],
            ),
        ],
    ),
    Exercise(
        id="12.3",
        title="a draw with a given random number",
        kind="python",
        function="draw",
        lines=3,
        cases=draw_cases,
        mistakes=[
            Mistake(
                "takes the likeliest",
                "that is greedy: it does not use u.",
                [('np.searchsorted(sums, u * sums[-1], side="right")', "np.argmax(weights)")],
            ),
            Mistake(
                "forgets that weights do not sum to one",
                "the target is u times the sum of the weights.",
                [("u * sums[-1]", "u")],
            ),
            Mistake(
                "can draw a forbidden token",
                "with u = 0 the sum has to pass the target, not only reach it: use side='right'.",
                [('side="right"', 'side="left"')],
            ),
        ],
    ),
    Exercise(
        id="12.4",
        title="stop strings that span tokens",
        kind="python",
        function="StopText",
        lines=11,
        judge=judge_stops,
        mistakes=[
            Mistake(
                "looks at each piece alone",
                "a stop string may begin in one piece and end in another.",
                [("text = self.held + piece", "text = piece")],
            ),
            Mistake(
                "lets the beginning out",
                "text that may be the beginning of a stop string has to wait.",
                [("keep = max(keep, n)", "keep = 0")],
            ),
            Mistake(
                "stops at the last one",
                "the text ends at the stop string that comes first.",
                [("min(found)", "max(found)")],
            ),
            Mistake(
                "holds back too much",
                "only what could be the beginning of a stop string waits, not every text of that length.",
                [("if text.endswith(stop[:n]):", "if len(text) >= n:")],
            ),
        ],
    ),
    Exercise(
        id="12.5",
        title="argmax, sixteen at a time",
        kind="mojo",
        function="argmax_row",
        lines=17,
        cases=argmax_cases,
        kernel="argmax.mojo",
        mistakes=[
            Mistake(
                "takes the last of equals",
                "of equal values the one with the lowest index wins: replace only what is smaller.",
                [
                    ("v.gt(best)", "v.ge(best)"),
                    (".reduce_min()", ".reduce_max()"),
                    ("(place, SIMD[DType.int32, LANES](Int32.MAX))", "(place, SIMD[DType.int32, LANES](-1))"),
                    ("if logits[unsafe_offset=i] > top:", "if logits[unsafe_offset=i] >= top:"),
                ],
                last_greatest,
            ),
            Mistake(
                "asks the lanes in the wrong order",
                "several lanes may hold the greatest value: the lowest of their indices counts.",
                [
                    (".reduce_min()", ".reduce_max()"),
                    ("(place, SIMD[DType.int32, LANES](Int32.MAX))", "(place, SIMD[DType.int32, LANES](-1))"),
                ],
            ),
            Mistake(
                "forgets the tail",
                "the last width % LANES values are not a whole register.",
                [("for i in range(full, width)", "for i in range(width, width)")],
            ),
            Mistake(
                "notes the index within the register",
                "the index of a lane is its place in the register plus i.",
                [("index + Int32(i)", "index")],
            ),
        ],
    ),
    Exercise(
        id="12.6",
        title="the draw, block by block",
        kind="mojo",
        function="draw_weights",
        lines=14,
        cases=kernel_draw_cases,
        kernel="sample.mojo",
        mistakes=[
            Mistake(
                "forgets the blocks before",
                "`passed` must hold the sum of all weights before the block.",
                [("        passed = after\n", "")],
            ),
            Mistake(
                "does not add up inside the block",
                "inside the block the sum goes on from weight to weight.",
                [("passed += Float64(w[unsafe_offset=i])", "passed += 0")],
            ),
            Mistake(
                "takes the first weight of the block",
                "inside the block, go on until the sum has passed the target.",
                [("if passed > target:", "if passed > -1:")],
            ),
            Mistake(
                "gives the index within the block",
                "the index counts from the beginning of the row.",
                [("last = Int32(i)", "last = Int32(i - start)")],
            ),
        ],
    ),
]
