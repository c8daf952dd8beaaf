"""Exercises of notebook 08, FlashAttention."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from reference.attention import attention
from reference.softmax import online_weighted_sum
from workbook.exercise import Case, Exercise, Mistake

LOWEST = float(np.finfo(np.float32).min)


def random(shape: tuple[int, ...], seed: int) -> Any:
    """Standard normal float32."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def online_cases() -> Iterator[Case]:
    for label, keys, size, block, slope in (
        ("11 rising scores, blocks of 4", 11, 3, 4, 0.7),
        ("12 falling scores, blocks of 4", 12, 5, 4, -0.7),
        ("7 scores, one block", 7, 2, 16, 0.1),
        ("5 scores, blocks of 1", 5, 2, 1, 0.0),
    ):
        scores = 3 * random((keys,), keys) + slope * np.arange(keys, dtype=np.float32)
        values = random((keys, size), size)
        inputs = {"scores": scores.astype(np.float32), "values": values, "block": block}
        yield Case(label, inputs, {"o": online_weighted_sum(inputs["scores"], values, block)}, 1e-4, 1e-6)
    scores = np.array([500.0, 900.0, 100.0, 901.0], np.float32)
    values = random((4, 3), 9)
    o = online_weighted_sum(scores, values, 2)
    yield Case("scores of 500 and more", {"scores": scores, "values": values, "block": 2}, {"o": o}, 1e-4)


def traffic_cases() -> Iterator[Case]:
    for tokens, heads, kv_heads, head_dim, size, rows in (
        (100, 8, 2, 64, 2, 32),
        (4096, 16, 8, 128, 2, 64),
        (1, 2, 1, 16, 4, 64),
    ):
        ends = [min(first + rows, tokens) for first in range(0, tokens, rows)]
        outer = 2 * tokens * heads * head_dim * size
        plain = outer + 2 * tokens * kv_heads * head_dim * size + 4 * 4 * heads * tokens * tokens
        tiled = outer + 2 * sum(ends) * kv_heads * head_dim * size
        inputs = {"tokens": tokens, "heads": heads, "kv_heads": kv_heads, "head_dim": head_dim}
        label = f"{tokens} tokens, tiles of {rows}, {heads} heads over {kv_heads} of {head_dim}"
        yield Case(label, inputs | {"size": size, "rows": rows}, {"plain": plain, "tiled": tiled})


def flash_cases() -> Iterator[Case]:
    for label, queries, context, size, rows, keys in (
        ("10 tokens, tiles of 4 rows and 3 keys", 10, 10, 8, 4, 3),
        ("the last 5 of 23 tokens, tiles of 4 rows and 8 keys", 5, 23, 4, 4, 8),
        ("8 tokens, tiles of 4 and 4", 8, 8, 16, 4, 4),
        ("one token of 9", 1, 9, 4, 16, 2),
        ("7 tokens, one tile", 7, 7, 4, 16, 16),
    ):
        q, k, v = 3 * random((queries, size), 1), random((context, size), 2), random((context, size), 3)
        o = attention(q[:, None], k[:, None], v[:, None])[:, 0]
        yield Case(label, {"q": q, "k": k, "v": v, "rows": rows, "keys": keys}, {"o": o}, 1e-4, 1e-5)


def block_step(
    acc: Any,
    state: Any,
    q: Any,
    k: Any,
    v: Any,
    keys: int,
    stride: int,
    head_dim: int,
    scale: float,
    rescale_acc: bool = True,
    rescale_sum: bool = True,
    running: bool = True,
) -> Any:
    """(acc, state) after a block of keys; the switches leave steps out."""
    scores = k[:keys, :head_dim] @ q * np.float32(scale)
    now = max(state[0], scores.max()) if running else scores.max()
    with np.errstate(over="ignore", under="ignore"):
        factor = np.exp(state[0] - now)
        p = np.exp(scores - now)
        total = state[1] * (factor if rescale_sum else 1) + p.sum()
        acc = acc * (factor if rescale_acc else 1) + p @ v[:keys, :head_dim]
    return acc.astype(np.float32), np.array([now, total], np.float32)


def block_cases() -> Iterator[Case]:
    """A greatest score before that is a little lower, far higher, and none at all."""
    for label, keys, head_dim, stride, before, total in (
        ("5 keys, greatest score before 0.5", 5, 32, 64, 0.5, 2.5),
        ("5 keys, greatest score before 40", 5, 16, 16, 40.0, 3.0),
        ("64 keys, none before", 64, 64, 128, LOWEST, 0.0),
        ("one key", 1, 16, 48, -3.0, 1.0),
    ):
        q, k, v = random((head_dim,), 1), random((keys + 1, stride), 2), random((keys + 1, stride), 3)
        acc = random((head_dim,), 4) if total else np.zeros(head_dim, np.float32)
        state = np.array([before, total], np.float32)
        inputs = {"acc": acc, "state": state, "q": q, "k": k, "v": v}
        inputs |= {"keys": keys, "stride": stride, "head_dim": head_dim, "scale": head_dim**-0.5}
        after, then = block_step(**inputs)
        yield Case(label, inputs, {"acc": after, "state": then}, 1e-4, 1e-5)


def register_step(
    scores: Any,
    factor: float,
    state: Any,
    sums: Any,
    p: Any = None,
    rescaled: bool = True,
    added: bool = True,
    scaled: bool = True,
) -> Any:
    """(sums, p, state, value) of one row's step with 64 scores; the switches leave steps out."""
    now = max(float(state[0]), float(scores.max()))
    rescale = 2.0 ** ((float(state[0]) - now) * factor)
    weights = 2.0 ** ((scores.astype(np.float64) - now) * (factor if scaled else 1.0))
    total = sums * (rescale if rescaled else 1.0)
    if added:
        total = total + weights.reshape(4, 16).sum(0)
    return total.astype(np.float32), weights.astype(np.float32), np.array([now], np.float32), rescale


def register_cases() -> Iterator[Case]:
    for label, before, spread in (
        ("greatest score before 0.5", 0.5, 1.0),
        ("greatest score before 30", 30.0, 4.0),
        ("no score before", LOWEST, 2.0),
    ):
        sums = np.zeros(16, np.float32) if before == LOWEST else 1 + np.abs(random((16,), 5))
        inputs = {"scores": spread * random((64,), 6), "factor": 0.18, "state": np.array([before], np.float32)}
        inputs["sums"] = sums
        total, p, state, rescale = register_step(**inputs)
        yield Case(label, inputs, {"sums": total, "p": p, "state": state, "value": rescale}, 1e-5, 1e-6)


EXERCISES = [
    Exercise(
        id="08.1",
        title="softmax and its weighted sum in one pass",
        kind="python",
        function="online",
        lines=9,
        cases=online_cases,
        mistakes=[
            Mistake(
                "does not rescale the weighted values",
                "when the greatest score rises, what was gathered so far is too large: scale `acc` too.",
                [("acc * rescale", "acc")],
            ),
            Mistake(
                "does not rescale the sum",
                "when the greatest score rises, the sum so far is too large: scale `total` too.",
                [("total * rescale", "total")],
            ),
            Mistake(
                "takes the greatest of the block",
                "the greatest score is that of all blocks so far, not of this one.",
                [("now = max(greatest, part.max())", "now = part.max()"), ("np.exp(greatest - now)", "1.0")],
            ),
            Mistake("does not divide", "at the end the weighted values are divided by the sum.", [(" / total", "")]),
        ],
    ),
    Exercise(
        id="08.2",
        title="bytes moved, plain and tiled",
        kind="python",
        function="traffic",
        lines=5,
        cases=traffic_cases,
        mistakes=[
            Mistake(
                "moves the scores once",
                "scores are written and read, then shares are written and read: four times.",
                [("4 * 4 * heads", "4 * heads")],
            ),
            Mistake(
                "reads every key for each tile",
                "a tile needs the keys up to its own last token only.",
                [("sum(ends)", "len(ends) * tokens")],
            ),
            Mistake(
                "reads keys and values once",
                "nothing is kept between tiles: each reads its keys and values again.",
                [("sum(ends)", "tokens")],
            ),
            Mistake(
                "lets every query head read",
                "the query heads of a group share a tile: keys are read once for each key/value head.",
                [("sum(ends) * kv_heads", "sum(ends) * heads")],
            ),
        ],
    ),
    Exercise(
        id="08.3",
        title="tiles in NumPy",
        kind="python",
        function="flash",
        lines=19,
        cases=flash_cases,
        mistakes=[
            Mistake(
                "does not mask the diagonal",
                "tiles on the diagonal hold pairs that are hidden: mask them.",
                [("scores[hidden] = -np.inf", "pass")],
            ),
            Mistake(
                "stops a tile too early",
                "the tile that the diagonal crosses is needed: go up to the position of the last row.",
                [("positions[-1] + 1", "positions[0]")],
            ),
            Mistake(
                "does not rescale the weighted values",
                "when a row's greatest score rises, its `acc` so far is too large.",
                [("acc * rescale", "acc")],
            ),
            Mistake(
                "forgets the cached tokens",
                "the queries are the last tokens: row t stands at position len(k) - len(q) + t.",
                [("len(k) - len(q) + ", "")],
            ),
            Mistake("forgets the scale", "scores are divided by the root of D.", [(" / q.shape[1] ** 0.5", "")]),
        ],
    ),
    Exercise(
        id="08.4",
        title="one query, one block of keys",
        kind="mojo",
        function="attend_block",
        lines=19,
        cases=block_cases,
        mistakes=[
            Mistake(
                "does not rescale the weighted values",
                "when the greatest score rises, what was gathered so far is too large: scale `acc` too.",
                [("acc[unsafe_offset=d] *= rescale", "acc[unsafe_offset=d] *= 1")],
                lambda **inputs: block_step(**inputs, rescale_acc=False),
            ),
            Mistake(
                "does not rescale the sum",
                "when the greatest score rises, the sum so far is too large: scale `state[1]` too.",
                [("state[unsafe_offset=1] *= rescale", "state[unsafe_offset=1] *= 1")],
                lambda **inputs: block_step(**inputs, rescale_sum=False),
            ),
            Mistake(
                "takes the greatest of the block",
                "start from the greatest score so far, `state[0]`: a block may lie below it.",
                [("var now = state[unsafe_offset=0]", "var now = Float32.MIN")],
                lambda **inputs: block_step(**inputs, running=False),
            ),
            Mistake(
                "forgets the scale",
                "the scores are not multiplied by `scale`.",
                [("lanes.reduce_add() * scale", "lanes.reduce_add()")],
                lambda **inputs: block_step(**(inputs | {"scale": 1.0})),
            ),
        ],
    ),
    Exercise(
        id="08.5",
        title="sums and weights of 64 scores in registers",
        kind="mojo",
        function="softmax_block",
        lines=5,
        cases=register_cases,
        kernel="attention_softmax.mojo",
        mistakes=[
            Mistake(
                "does not rescale the sums",
                "the sums of the blocks before refer to the old greatest score: multiply them by `rescale`.",
                [("unsafe_load[width=LANES](0) * rescale", "unsafe_load[width=LANES](0)")],
                lambda **inputs: register_step(**inputs, rescaled=False),
            ),
            Mistake(
                "forgets the factor",
                "scores are not scaled yet: multiply the difference by `factor`.",
                [("(scores[b] - now) * factor", "scores[b] - now")],
                lambda **inputs: register_step(**inputs, scaled=False),
            ),
            Mistake(
                "does not add the weights",
                "the weights of this block belong to the sums too.",
                [("        total += p[b]\n", "")],
                lambda **inputs: register_step(**inputs, added=False),
            ),
        ],
    ),
]
