"""Drawing tokens from logits: a counter-based random number for each row, and the filters top-k, top-p and min-p.

Everything here works on rows that do not know of one another: the token drawn for a row is a function of its logits,
its parameters and its random number alone. The random number is Philox4x32-10 (Salmon et al. 2011, "Parallel random
numbers: as easy as 1, 2, 3") of the request's seed and the number of the token: there is no state to keep or to lose.
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float32]
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
FIRST_CANDIDATES = 1024  # looked at for top_p and min_p, unless they turn out too few


def philox(key: NDArray[np.uint64], counter: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], ...]:
    """Philox4x32-10 of 64-bit keys [n] at 64-bit counters [n]: four arrays [n] of 32-bit words."""
    k0, k1 = key & _LOW, key >> _SHIFT
    c0, c1 = counter & _LOW, counter >> _SHIFT
    c2, c3 = np.zeros_like(c0), np.zeros_like(c0)
    for _ in range(10):
        product0, product1 = _M0 * c0, _M1 * c2
        c0, c2 = (product1 >> _SHIFT) ^ c1 ^ k0, (product0 >> _SHIFT) ^ c3 ^ k1
        c1, c3 = product1 & _LOW, product0 & _LOW
        k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    return c0, c1, c2, c3


def uniform(seeds: NDArray[np.uint64], counters: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Random numbers [n] in [0, 1) with 53 bits, one for each pair of a seed and a counter."""
    c0, c1, _, _ = philox(seeds, counters)
    bits: NDArray[np.uint64] = (c0 >> np.uint64(5)) * np.uint64(2**26) + (c1 >> np.uint64(6))
    return bits.astype(np.float64) * 2.0**-53


def draw(
    logits: FloatArray,
    temperature: FloatArray,
    top_k: NDArray[np.int32],
    top_p: FloatArray,
    min_p: FloatArray,
    random: NDArray[np.float64],
) -> NDArray[np.int32]:
    """One token a row of `logits` [n, V]; the parameters are [n], temperature above 0, top_k 0 for all tokens.

    Filters come in this order: top_k, then top_p of what that left, then min_p. A row without a finite logit, or with
    a NaN, gives -1. Equal to `reference.sampling` with the same random number, up to rounding.
    """
    rows, vocab = logits.shape
    scaled = logits / temperature[:, None]
    with np.errstate(invalid="ignore"):  # infinities less infinities: rows that give -1 below
        scaled -= scaled.max(axis=1, keepdims=True)
    tokens = np.full(rows, -1, np.int32)
    finite = np.isfinite(scaled.max(axis=1))
    limited = (top_k > 0) & (top_k < vocab)
    filtered = limited | (top_p < 1) | (min_p > 0)
    plain = np.flatnonzero(~filtered & finite)
    if len(plain):
        tokens[plain] = _inverse(np.exp(scaled[plain]), random[plain])
    # How many of the likeliest tokens to look at depends on the row alone: what is drawn must not depend on others.
    widths = np.where(limited, 2 ** np.ceil(np.log2(top_k.clip(1) + 1.0)), FIRST_CANDIDATES).astype(np.int64)
    todo = np.flatnonzero(filtered & finite)
    while len(todo):
        width = int(widths[todo].min())
        group = todo[widths[todo] == width]
        tokens[group] = _filtered(scaled[group], width, top_k[group], top_p[group], min_p[group], random[group])
        widths[group] = np.minimum(16 * widths[group], vocab)  # flat distributions have to be seen wider
        todo = todo[tokens[todo] < 0]
    return tokens


def _filtered(
    scaled: FloatArray,
    width: int,
    top_k: NDArray[np.int32],
    top_p: FloatArray,
    min_p: FloatArray,
    random: NDArray[np.float64],
) -> NDArray[np.int32]:
    """Draw among the `width` likeliest tokens of each row (maximum 0); -1 where they do not settle what is kept."""
    vocab = scaled.shape[1]
    width = min(width, vocab)
    if width < vocab:
        ids = np.sort(np.argpartition(scaled, vocab - width, axis=1)[:, vocab - width :], axis=1)
        values = np.take_along_axis(scaled, ids, axis=1)
    else:
        ids, values = np.broadcast_to(np.arange(vocab), scaled.shape), scaled
    order = np.argsort(-values, axis=1, kind="stable")  # of equal tokens the lowest id first
    values = np.take_along_axis(values, order, axis=1)
    weight = np.exp(values).astype(np.float64)
    limited = (top_k > 0) & (top_k < vocab)
    weight[limited] *= np.arange(width) < top_k[limited, None]
    sums = weight.cumsum(axis=1)
    total = sums[:, -1].copy()
    unseen = ~limited & (top_p < 1)
    if width < vocab and unseen.any():
        total[unseen] = np.exp(scaled[unseen]).sum(axis=1, dtype=np.float64)
    # The fewest tokens that reach top_p: one stays if those before it have not reached it.
    kept = (
        (weight > 0) & (weight >= min_p[:, None]) & ((sums - weight < (top_p * total)[:, None]) | (top_p >= 1)[:, None])
    )
    kept[:, 0] = True
    last = np.take_along_axis(values, kept.sum(axis=1, keepdims=True) - 1, axis=1)[:, 0]
    np.put_along_axis(weight, order, np.where(kept, weight, 0.0), axis=1)  # back to the order of ids
    tokens: NDArray[np.int32] = np.take_along_axis(ids, _inverse(weight, random)[:, None], axis=1)[:, 0].astype(
        np.int32
    )
    if width < vocab:
        # What is kept must end before the candidates do, and not among equals of which some were not seen.
        tokens[last <= values[:, -1]] = -1
    return tokens


def _inverse(weight: NDArray[np.floating[Any]], random: NDArray[np.float64]) -> NDArray[np.int64]:
    """The first column of each row at which the running sum of `weight` exceeds `random` times the total."""
    sums = weight.cumsum(axis=1, dtype=np.float64)
    whole = sums[:, -1]
    target = np.minimum(random * whole, np.nextafter(whole, 0))
    index: NDArray[np.int64] = (sums > target[:, None]).argmax(axis=1)
    return index


def log_softmax_at(row: FloatArray, token: int, count: int) -> tuple[float, list[tuple[int, float]]]:
    """Log-probability of `token` under `row` [V], and the `count` likeliest tokens with theirs, likeliest first."""
    top = float(row.max())
    normaliser = top + float(np.log(np.exp(row - top).sum(dtype=np.float64)))
    best: list[tuple[int, float]] = []
    if count:
        ids = np.argpartition(row, len(row) - count)[len(row) - count :] if count < len(row) else np.arange(len(row))
        ids = np.sort(ids)
        ids = ids[np.argsort(-row[ids], kind="stable")]
        best = [(int(i), float(row[i]) - normaliser) for i in ids]
    return float(row[token]) - normaliser, best
