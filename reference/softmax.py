"""Softmax, and the online form that needs one pass and no room for all the scores.

    softmax(x)[i] = exp(x[i]) / sum_j exp(x[j])

exp overflows float32 above 88, so the maximum is subtracted first, which leaves the result the same.
Source of the online form: Milakov and Gimelshein, "Online normalizer calculation for softmax", arXiv:1805.02867.
"""

import numpy as np

from reference.arrays import FloatArray


def softmax(x: FloatArray) -> FloatArray:
    """Softmax over the last axis; entries of -inf get 0.

    Args:
        x: [..., N]; each row has at least one finite entry.

    Returns:
        [..., N], each row summing to 1.
    """
    weights = np.exp(x - np.max(x, axis=-1, keepdims=True))
    shares: FloatArray = weights / np.sum(weights, axis=-1, keepdims=True)
    return shares


def online_weighted_sum(scores: FloatArray, values: FloatArray, block: int) -> FloatArray:
    """softmax(scores) @ values, reading both block by block and only once.

    Three things are carried from block to block: the largest score so far, the sum of exp(score - largest), and the
    sum of exp(score - largest) * value. When a block raises the maximum, both sums are scaled down to the new one.
    This is the heart of FlashAttention.

    Args:
        scores: [S], at least one finite.
        values: [S, D].
        block: Scores taken at a time.

    Returns:
        [D].
    """
    largest = scores.dtype.type(-np.inf)
    total = scores.dtype.type(0)
    accumulated = np.zeros(values.shape[1], values.dtype)
    for start in range(0, len(scores), block):
        part = scores[start : start + block]
        new_largest = max(largest, part.max())
        if new_largest == -np.inf:
            continue  # everything so far is masked
        correction = np.exp(largest - new_largest)
        weights = np.exp(part - new_largest)
        total = total * correction + weights.sum()
        accumulated = accumulated * correction + weights @ values[start : start + block]
        largest = new_largest
    return accumulated / total
