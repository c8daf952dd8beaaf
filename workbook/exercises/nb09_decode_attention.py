"""Exercises of notebook 09, decode attention."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from reference.attention import attention
from workbook.exercise import Case, Exercise, Mistake

WIDTH = 32  # weighted sums in a state of exercise 09.5
LANES = 16


def random(shape: tuple[int, ...], seed: int) -> Any:
    """Standard normal float32."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def part(q: Any, k: Any, v: Any, scale: float, shift: bool = True) -> tuple[Any, Any, Any]:
    """(greatest [H], total [H], acc [H, D]) of a range of keys; q [H, D], k and v [S, KH, D]."""
    group = len(q) // k.shape[1]
    scores = np.einsum("hd,shd->hs", q, np.repeat(k, group, axis=1)) * np.float32(scale)
    greatest = scores.max(axis=1) if shift else np.zeros(len(q), np.float32)
    with np.errstate(over="ignore"):
        weights = np.exp(scores - greatest[:, None])
    return greatest, weights.sum(axis=1), np.einsum("hs,shd->hd", weights, np.repeat(v, group, axis=1))


def cost_cases() -> Iterator[Case]:
    for context, heads, kv_heads, head_dim, size in ((100, 8, 2, 64, 2), (1, 4, 4, 16, 4), (4096, 16, 8, 128, 2)):
        expected = {
            "moved": 2 * context * kv_heads * head_dim * size + 2 * heads * head_dim * size,
            "flops": 4 * context * heads * head_dim,
        }
        inputs = {"context": context, "heads": heads, "kv_heads": kv_heads, "head_dim": head_dim, "size": size}
        yield Case(f"{context} tokens, {heads} heads over {kv_heads} of {head_dim}", inputs, expected)


def partial_cases() -> Iterator[Case]:
    for keys, heads, kv_heads, size in ((9, 4, 2, 8), (1, 3, 3, 5), (17, 8, 1, 4)):
        q, k, v = 2 * random((heads, size), 1), random((keys, kv_heads, size), 2), random((keys, kv_heads, size), 3)
        greatest, total, acc = part(q, k, v, size**-0.5)
        label = f"{keys} keys, {heads} heads over {kv_heads}"
        expected = {"greatest": greatest, "total": total, "acc": acc}
        yield Case(label, {"q": q, "k": k, "v": v, "scale": size**-0.5}, expected, 1e-4, 1e-5)


def combine_cases() -> Iterator[Case]:
    for label, cuts, heads, spread in (
        ("ranges of 5, 9 and 2 keys", (0, 5, 14, 16), 3, 2.0),
        ("heads whose scores lie hundreds apart", (0, 4, 8), 2, 200.0),
        ("one range", (0, 7), 4, 1.0),
        ("an empty range between two others", (0, 3, 3, 8), 2, 2.0),
    ):
        q = random((heads, 8), 1) * (np.array([1.0] + [spread] * (heads - 1), np.float32)[:, None])
        k, v = np.abs(random((cuts[-1], 1, 8), 2)), random((cuts[-1], 1, 8), 3)
        q = np.abs(q)
        parts = []
        for first, last in pairwise(cuts):
            if first < last:
                parts.append(part(q, k[first:last], v[first:last], 1.0))
            else:
                nothing = np.zeros(heads, np.float32)
                parts.append((nothing - np.inf, nothing, np.zeros((heads, 8), np.float32)))
        greatest, total, acc = (np.stack(x) for x in zip(*parts, strict=True))
        o = attention(q[None], k, v, scale=1.0)[0]
        yield Case(label, {"greatest": greatest, "total": total, "acc": acc}, {"o": o}, 1e-3, 1e-5)


def range_cases() -> Iterator[Case]:
    """Rising scores first, so that every correction matters; scores around 100; ranges that begin in the middle."""
    for seed, (first, last, group, head_dim, stride, slope) in enumerate(
        ((2, 9, 2, 16, 32, 0.5), (0, 6, 1, 32, 32, 20.0), (5, 6, 8, 16, 48, 0.0), (3, 40, 4, 16, 16, -0.1))
    ):
        q, k = random((group, head_dim), seed), random((last + 2, stride), seed + 10)
        v = random((last + 2, stride), seed + 20)
        q[:, 0], k[:, 0] = 4.0, slope * np.arange(last + 2)
        scale = head_dim**-0.5
        heads = (k[first:last, None, :head_dim], v[first:last, None, :head_dim])
        greatest, total, acc = part(q, *heads, scale)
        inputs = {"q": q, "k": k, "v": v, "first": first, "last": last, "group": group}
        inputs |= {"stride": stride, "head_dim": head_dim, "scale": scale}
        label = f"keys {first} to {last - 1}, {group} heads of {head_dim}, stride {stride}"
        yield Case(label, inputs, {"acc": acc, "state": np.stack([greatest, total], axis=1)}, 1e-3, 1e-4)


def range_answer(
    q: Any, k: Any, v: Any, first: int, last: int, group: int, stride: int, head_dim: int, scale: float, skip: str = ""
) -> Any:
    """(acc, state) of a range walked key by key, leaving out the correction of "acc" or of "sum"."""
    acc, state = np.zeros((group, head_dim)), np.array([[-1e30, 0.0]] * group)
    for s in range(first, last):
        for g in range(group):
            score = float(k[s, :head_dim] @ q[g]) * scale
            now = max(state[g, 0], score)
            rescale, weight = np.exp(state[g, 0] - now), np.exp(score - now)
            state[g] = now, state[g, 1] * (1 if skip == "sum" else rescale) + weight
            acc[g] = acc[g] * (1 if skip == "acc" else rescale) + weight * v[s, :head_dim]
    return acc.astype(np.float32), state.astype(np.float32)


def joined(total: Any, span: Any, factor: float, values: bool = True, sums: bool = True, greatest: bool = True) -> Any:
    """The state after joining a span; the switches leave steps out."""
    now = max(total[WIDTH], span[WIDTH])
    a, b = (2.0 ** ((float(x[WIDTH]) - float(now)) * factor) for x in (total, span))
    out = total.copy()
    out[:WIDTH] = total[:WIDTH] * a + span[:WIDTH] * b if values else total[:WIDTH] + span[:WIDTH]
    out[WIDTH + 1] = total[WIDTH + 1] * a + span[WIDTH + 1] * b if sums else total[WIDTH + 1] + span[WIDTH + 1]
    if greatest:
        out[WIDTH] = now
    return out


def join_cases() -> Iterator[Case]:
    lowest = np.finfo(np.float32).min
    for label, before, here in (
        ("the span is greater", 1.0, 6.0),
        ("the span is smaller", 5.0, -2.0),
        ("equal", 3.0, 3.0),
        ("nothing before", lowest, 2.0),
        ("the span saw nothing", 2.0, lowest),
    ):
        total, span = random((WIDTH + LANES,), 1), random((WIDTH + LANES,), 2)
        for state, greatest in ((total, before), (span, here)):
            state[WIDTH] = greatest
            state[WIDTH + 1] = 2.5
            if greatest == lowest:
                state[:WIDTH] = state[WIDTH + 1] = 0
        inputs = {"total": total, "span": span, "factor": 0.25}
        yield Case(label, inputs, {"total": joined(**inputs)}, 1e-5, 1e-6)


EXERCISES = [
    Exercise(
        id="09.1",
        title="what one decoded token reads",
        kind="python",
        function="cost",
        lines=3,
        cases=cost_cases,
        mistakes=[
            Mistake(
                "reads for every query head",
                "the query heads of a group read the same keys: count key/value heads.",
                [("2 * context * kv_heads", "2 * context * heads")],
            ),
            Mistake(
                "forgets the values", "keys and values are read.", [("2 * context * kv_heads", "context * kv_heads")]
            ),
            Mistake(
                "computes for key heads",
                "every query head has its own scores: count query heads.",
                [("4 * context * heads", "4 * context * kv_heads")],
            ),
            Mistake(
                "forgets query and output",
                "the query is read and the output written.",
                [(" + 2 * heads", " + 0 * heads")],
            ),
        ],
    ),
    Exercise(
        id="09.2",
        title="the part of a range",
        kind="python",
        function="partial",
        lines=7,
        cases=partial_cases,
        mistakes=[
            Mistake("forgets the scale", "the scores are not multiplied by `scale`.", [(" * scale", "")]),
            Mistake(
                "divides already",
                "do not divide by the sum: only the join knows the sum over all ranges.",
                [
                    (
                        'np.einsum("hs,shd->hd", weights, values)',
                        'np.einsum("hs,shd->hd", weights, values) / weights.sum(1)[:, None]',
                    )
                ],
            ),
            Mistake(
                "interleaves the heads",
                "query head h reads key head h // group: repeat each head, not the whole list.",
                [("np.repeat(k, group, axis=1)", "np.tile(k, (1, group, 1))")],
            ),
            Mistake(
                "one greatest score for all heads",
                "each head has its own greatest score.",
                [("scores.max(axis=1)", "np.full(len(q), scores.max())")],
            ),
        ],
    ),
    Exercise(
        id="09.3",
        title="joining the parts",
        kind="python",
        function="combine",
        lines=4,
        cases=combine_cases,
        mistakes=[
            Mistake(
                "averages the outputs",
                "ranges do not count alike: each enters with its sum and its greatest score.",
                [
                    (
                        "(acc * weights[:, :, None]).sum(axis=0) / (total * weights).sum(axis=0)[:, None]",
                        "(acc / total[:, :, None]).mean(axis=0)",
                    )
                ],
            ),
            Mistake(
                "forgets the greatest scores",
                "each part refers to its own greatest score: bring all to the greatest of all first.",
                [("np.exp(greatest - top)", "np.ones_like(greatest)")],
            ),
            Mistake(
                "does not correct the sums",
                "the sums refer to the greatest score of their range too.",
                [("(total * weights)", "total")],
            ),
            Mistake(
                "one greatest score for all heads",
                "each head has its own greatest score: the maximum goes over the ranges only.",
                [("greatest.max(axis=0)", "greatest.max()")],
            ),
        ],
    ),
    Exercise(
        id="09.4",
        title="a range for a group of heads",
        kind="mojo",
        function="attend_range",
        lines=20,
        cases=range_cases,
        mistakes=[
            Mistake(
                "does not rescale the weighted values",
                "when the greatest score rises, what was gathered so far is too large: scale `acc` too.",
                [("load_float32(acc, at + d) * rescale", "load_float32(acc, at + d)")],
                lambda **inputs: range_answer(**inputs, skip="acc"),
            ),
            Mistake(
                "does not rescale the sum",
                "when the greatest score rises, the sum so far is too large.",
                [("state[unsafe_offset=2 * g + 1] * rescale", "state[unsafe_offset=2 * g + 1]")],
                lambda **inputs: range_answer(**inputs, skip="sum"),
            ),
            Mistake(
                "begins at key 0",
                "a range begins at `first`: other workers have the keys before.",
                [("for s in range(first, last)", "for s in range(last)")],
                lambda **inputs: range_answer(**(inputs | {"first": 0})),
            ),
            Mistake(
                "forgets the scale",
                "the scores are not multiplied by `scale`.",
                [("lanes.reduce_add() * scale", "lanes.reduce_add()")],
                lambda **inputs: range_answer(**(inputs | {"scale": 1.0})),
            ),
        ],
    ),
    Exercise(
        id="09.5",
        title="joining a span, as the engine does",
        kind="mojo",
        function="join_state",
        lines=14,
        cases=join_cases,
        kernel="attention_tile.mojo",
        specialize={"WIDTH": str(WIDTH)},
        mistakes=[
            Mistake(
                "adds the weighted sums as they are",
                "both sides are brought to the greater score first: multiply by the factors.",
                [("old.fma(a, new * b)", "old + new")],
                lambda **inputs: joined(**inputs, values=False),
            ),
            Mistake(
                "adds the sums as they are",
                "the sums at WIDTH + 1 refer to the greatest scores too: multiply by the factors.",
                [
                    (
                        "sum.fma(\n        a[0], span[unsafe_offset=WIDTH + 1] * b[0]\n    )",
                        "sum + span[unsafe_offset=WIDTH + 1]",
                    ),
                ],
                lambda **inputs: joined(**inputs, sums=False),
            ),
            Mistake(
                "keeps the old greatest score",
                "the greatest score at WIDTH must become that of both.",
                [("    total[unsafe_offset=WIDTH] = now\n", "")],
                lambda **inputs: joined(**inputs, greatest=False),
            ),
            Mistake(
                "forgets the factor",
                "scores are not scaled: multiply the differences by `factor`.",
                [("(before - now) * factor", "before - now"), ("(here - now) * factor", "here - now")],
                lambda **inputs: joined(**(inputs | {"factor": 1.0})),
            ),
        ],
    ),
]
