"""RMSNorm: scale a vector so that its root mean square is one, then weigh each entry.

    y[i] = x[i] / sqrt(mean_j(x[j]^2) + eps) * weight[i]

LayerNorm also subtracts the mean; leaving that out saves a pass over the data and costs no quality.
Source: Zhang and Sennrich, "Root Mean Square Layer Normalization", arXiv:1910.07467.
"""

import numpy as np

from reference.arrays import FloatArray


def rms_norm(x: FloatArray, weight: FloatArray, eps: float) -> FloatArray:
    """Normalise each row by its root mean square.

    Args:
        x: [..., E].
        weight: [E].
        eps: Added to the mean square, so that a row of zeros stays finite; 1e-6 in Qwen3.

    Returns:
        [..., E], in the type of x.
    """
    mean_square = np.mean(x * x, axis=-1, keepdims=True)
    normalised: FloatArray = x / np.sqrt(mean_square + x.dtype.type(eps))
    return normalised * weight


def add_rms_norm(x: FloatArray, residual: FloatArray, weight: FloatArray, eps: float) -> tuple[FloatArray, FloatArray]:
    """Add a block's output to the residual stream and normalise the sum, which the next block reads.

    Args:
        x: A block's output, [T, E].
        residual: The residual stream before it, [T, E].
        weight: [E].
        eps: As in `rms_norm`.

    Returns:
        The normalised sum [T, E] and the sum [T, E].
    """
    total = residual + x
    return rms_norm(total, weight, eps), total
