"""SwiGLU: the feed-forward block's nonlinearity, one half gating the other.

    silu(z) = z * sigmoid(z) = z / (1 + exp(-z))
    swiglu(gate, up) = silu(gate) * up

Source: Shazeer, "GLU Variants Improve Transformer", arXiv:2002.05202.
"""

import numpy as np

from reference.arrays import FloatArray


def silu(z: FloatArray) -> FloatArray:
    """z * sigmoid(z), elementwise.

    The sigmoid is written with exp(-|z|), which never exceeds one: exp(-z) would overflow for a very negative z.

    Args:
        z: Any shape.

    Returns:
        The same shape.
    """
    small = np.exp(-np.abs(z))
    sigmoid: FloatArray = np.where(z >= 0, 1, small) / (1 + small)
    return (z * sigmoid).astype(z.dtype, copy=False)


def swiglu(gate_up: FloatArray) -> FloatArray:
    """Gate the second half of each row with the first.

    Args:
        gate_up: [T, 2 I]: the outputs of `gate_proj`, then those of `up_proj`.

    Returns:
        [T, I].
    """
    gate, up = np.split(gate_up, 2, axis=-1)
    return silu(gate) * up
