"""A linear layer without bias, and the embedding: the two ways in which a model reads a matrix."""

from reference.arrays import FloatArray, IntArray


def linear(x: FloatArray, weight: FloatArray) -> FloatArray:
    """Multiply every row of x with a matrix stored one output a row, as checkpoints store them.

    Args:
        x: [..., K].
        weight: [N, K].

    Returns:
        y [..., N] with y[n] = sum_k x[k] * weight[n, k].
    """
    return x @ weight.T


def embedding(tokens: IntArray, table: FloatArray) -> FloatArray:
    """Look up the vector of each token.

    Args:
        tokens: Token ids, [T], each from 0 to V - 1.
        table: [V, E].

    Returns:
        [T, E].
    """
    return table[tokens]
