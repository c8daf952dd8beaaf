"""Exercises of notebook 07, attention."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from reference.attention import attention, visible
from reference.softmax import softmax
from workbook.exercise import Case, Exercise, Mistake

# (label, T, S, H, KH, D, window)
SHAPES = (
    ("5 of 9 tokens, heads 4 over 2, window 3", 5, 9, 4, 2, 8, 3),
    ("7 tokens, heads 3 over 3", 7, 7, 3, 3, 5, 0),
    ("1 of 12 tokens, heads 8 over 1", 1, 12, 8, 1, 16, 0),
    ("one token, heads 2 over 1", 1, 1, 2, 1, 4, 0),
    ("6 of 17 tokens, heads 6 over 3, window 1", 6, 17, 6, 3, 3, 1),
)


def random(shape: tuple[int, ...], seed: int) -> Any:
    """Standard normal float32."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def softmax_cases() -> Iterator[Case]:
    x = random((3, 7), 0) + np.array([[0.0], [200.0], [-300.0]], np.float32)
    yield Case("rows around 0, 200 and -300", {"x": x}, {"y": softmax(x)})
    hidden = random((4, 5), 1)
    hidden[np.triu_indices(4, 1, 5)] = -np.inf
    yield Case("entries of minus infinity", {"x": hidden}, {"y": softmax(hidden)})
    for shape in ((1, 1), (2, 3, 17)):
        yield Case(f"shape {shape}", {"x": 3 * random(shape, 2)}, {"y": softmax(3 * random(shape, 2))})


def mask_cases() -> Iterator[Case]:
    for queries, context, window in ((3, 8, 4), (3, 8, 0), (5, 5, 0), (5, 5, 1), (1, 6, 0), (4, 7, 100)):
        label = f"the last {queries} of {context} tokens, window {window}"
        inputs = {"queries": queries, "context": context, "window": window}
        yield Case(label, inputs, {"mask": visible(queries, context, window)})


def attention_cases() -> Iterator[Case]:
    for seed, (label, queries, context, heads, kv_heads, size, window) in enumerate(SHAPES):
        q, k = random((queries, heads, size), seed), random((context, kv_heads, size), seed + 10)
        v = random((context, kv_heads, size), seed + 20)
        keys = np.repeat(k, heads // kv_heads, axis=1)
        scores = np.einsum("thd,shd->hts", q, keys) / np.sqrt(np.float32(size))
        p = softmax(np.where(visible(queries, context, window), scores, -np.inf).astype(np.float32))
        expected = {"o": attention(q, k, v, window=window), "p": p}
        yield Case(label, {"q": q, "k": k, "v": v, "window": window}, expected, 1e-4, 1e-5)


def cost_cases() -> Iterator[Case]:
    for tokens, heads, kv_heads, head_dim, size in ((512, 8, 2, 64, 2), (1, 4, 4, 16, 4), (77, 16, 2, 128, 2)):
        expected = {
            "flops": 2 * heads * head_dim * tokens * (tokens + 1),
            "score_bytes": 4 * heads * tokens * tokens,
            "cache_bytes": 2 * tokens * kv_heads * head_dim * size,
        }
        inputs = {"tokens": tokens, "heads": heads, "kv_heads": kv_heads, "head_dim": head_dim, "size": size}
        yield Case(f"{tokens} tokens, {heads} heads over {kv_heads} of {head_dim}", inputs, expected)


def row_cases() -> Iterator[Case]:
    """Scores around 100, around -200 and around 0; more keys in memory than may be seen; keys apart by a stride."""
    for seed, (keys, head_dim, stride, centre) in enumerate(((9, 8, 24, 100.0), (6, 5, 5, -200.0), (1, 3, 9, 0.0))):
        q, k = random((head_dim,), seed), random((keys + 2, stride), seed + 10)
        q[0], k[:, 0] = 4.0, centre / 2
        scale = 0.5
        v = random((keys + 2, stride), seed + 20)
        scores = k[:keys, :head_dim] @ q * np.float32(scale)
        p = softmax(scores)
        inputs = {"q": q, "k": k, "v": v, "keys": keys, "stride": stride, "head_dim": head_dim, "scale": scale}
        expected = {"o": p @ v[:keys, :head_dim], "p": p}
        label = f"{keys} keys of {head_dim}, stride {stride}, scores around {centre:.0f}"
        yield Case(label, inputs, expected, 1e-3, 1e-5)


def wrong_row(
    q: Any, k: Any, v: Any, keys: int, stride: int, head_dim: int, scale: float, shift: bool = True, divide: bool = True
) -> Any:
    """(o, p) of a row that leaves out the greatest score, or the division by the sum."""
    with np.errstate(over="ignore", invalid="ignore"):
        scores = k[:keys, :head_dim] @ q * np.float32(scale)
        p = np.exp(scores - scores.max() if shift else scores)
        if divide:
            p = p / p.sum()
        return p @ v[:keys, :head_dim], p


def without_scale(q: Any, k: Any, v: Any, keys: int, stride: int, head_dim: int, scale: float) -> Any:
    return wrong_row(q, k, v, keys, stride, head_dim, 1.0)


def without_stride(q: Any, k: Any, v: Any, keys: int, stride: int, head_dim: int, scale: float) -> Any:
    near = k.reshape(-1)[: keys * head_dim].reshape(keys, head_dim)
    return wrong_row(q, near, v, keys, stride, head_dim, scale)


EXERCISES = [
    Exercise(
        id="07.1",
        title="softmax that does not overflow",
        kind="python",
        function="softmax",
        lines=2,
        cases=softmax_cases,
        mistakes=[
            Mistake(
                "one maximum for all rows",
                "each row has its own greatest score: a row far below the greatest of all would become zeros.",
                [("np.max(x, axis=-1, keepdims=True)", "np.max(x)")],
            ),
            Mistake(
                "sums over all rows",
                "each row sums to one: the sum goes over the last axis only.",
                [("np.sum(weights, axis=-1, keepdims=True)", "np.sum(weights)")],
            ),
            Mistake("does not divide", "the weights are not divided by their sum.", [(" / np.sum", " + 0 * np.sum")]),
            Mistake(
                "subtracts nothing",
                "exp overflows float32 above 88: subtract the greatest of the row first.",
                [(" - np.max(x, axis=-1, keepdims=True)", "")],
            ),
        ],
    ),
    Exercise(
        id="07.2",
        title="what a token may see",
        kind="python",
        function="visible",
        lines=6,
        cases=mask_cases,
        mistakes=[
            Mistake(
                "counts queries from position 0",
                "the queries are the last tokens: the first of them stands at position context - queries.",
                [("np.arange(context - queries, context)", "np.arange(queries)")],
            ),
            Mistake("does not see itself", "a token sees itself too.", [("columns <= rows", "columns < rows")]),
            Mistake(
                "a window one too wide",
                "a window of W holds W keys, the token's own included.",
                [("> rows - window", ">= rows - window")],
            ),
            Mistake(
                "takes window 0 for a width",
                "window 0 means that there is none.",
                [("    if window:\n        mask", "    mask")],
            ),
        ],
    ),
    Exercise(
        id="07.3",
        title="causal attention with grouped queries",
        kind="python",
        function="attention",
        lines=8,
        cases=attention_cases,
        context={"softmax": softmax, "visible": visible},
        mistakes=[
            Mistake(
                "interleaves the heads",
                "query head h reads key head h // group: neighbours share, so repeat each head, not the whole list.",
                [("np.repeat(k, group, axis=1)", "np.tile(k, (1, group, 1))")],
            ),
            Mistake("forgets the scale", "scores are divided by the root of D.", [(" / head_dim**0.5", "")]),
            Mistake("divides by D", "scores are divided by the root of D, not by D.", [("head_dim**0.5", "head_dim")]),
            Mistake(
                "sees the future",
                "hidden scores must become minus infinity before the softmax.",
                [("np.where(visible(queries, len(k), window), scores, -np.inf)", "scores")],
            ),
            Mistake(
                "masks after the softmax",
                "hidden weights took their share of the sum: mask the scores, before the softmax.",
                [
                    ("np.where(visible(queries, len(k), window), scores, -np.inf)", "scores"),
                    ("p = softmax(scores)", "p = softmax(scores) * visible(queries, len(k), window)"),
                ],
            ),
        ],
    ),
    Exercise(
        id="07.4",
        title="what attention computes and stores",
        kind="python",
        function="cost",
        lines=5,
        cases=cost_cases,
        mistakes=[
            Mistake(
                "counts the hidden half",
                "token t sees t + 1 keys: the pairs are tokens (tokens + 1) / 2, not the square.",
                [("tokens * (tokens + 1) // 2", "tokens * tokens")],
            ),
            Mistake(
                "counts one product",
                "there are two products, with keys and with values, of 2 D FLOPs a pair each.",
                [("4 * head_dim * heads * pairs", "2 * head_dim * heads * pairs")],
            ),
            Mistake(
                "caches every query head",
                "the cache holds key/value heads: that is what grouping saves.",
                [("tokens * kv_heads", "tokens * heads")],
            ),
            Mistake(
                "caches keys only", "keys and values are cached.", [("2 * tokens * kv_heads", "tokens * kv_heads")]
            ),
        ],
    ),
    Exercise(
        id="07.5",
        title="one query row, naively",
        kind="mojo",
        function="attend_row",
        lines=17,
        cases=row_cases,
        mistakes=[
            Mistake(
                "does not subtract the greatest score",
                "exp overflows above 88: subtract the greatest score first.",
                [(" - greatest)", ")")],
                lambda **inputs: wrong_row(**inputs, shift=False),
            ),
            Mistake(
                "forgets the scale", "the scores are not multiplied by `scale`.", [(" * scale", "")], without_scale
            ),
            Mistake(
                "takes the keys as neighbours",
                "key s begins at s * stride: the other heads of the same token lie between.",
                [("k[unsafe_offset=s * stride + d]", "k[unsafe_offset=s * head_dim + d]")],
                without_stride,
            ),
            Mistake(
                "does not divide by the sum",
                "the weights are not divided by their sum.",
                [("p[unsafe_offset=s] /= total", "p[unsafe_offset=s] /= 1")],
                lambda **inputs: wrong_row(**inputs, divide=False),
            ),
            Mistake(
                "starts the greatest score at zero",
                "all scores may lie below zero: start below every number, at Float32.MIN.",
                [("var greatest = Float32.MIN", "var greatest = Float32(0)")],
            ),
        ],
    ),
]
