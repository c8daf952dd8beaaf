"""Rotary position embedding (RoPE): turn pairs of a head's entries by angles that grow with the position.

Entry i and entry i + D/2 of a head form a pair ("half-split", as in Qwen3 and Llama checkpoints). At position p the
pair turns by the angle p * f[i], where the frequencies fall from 1 towards 1/theta:

    f[i] = theta^(-2i/D),  i = 0 .. D/2 - 1
    (a, b) -> (a cos - b sin, b cos + a sin)

The dot product of a turned query and a turned key then depends on the two vectors and the distance between them.
Source: Su et al., "RoFormer", arXiv:2104.09864.

A scaling kind changes the frequencies, so that a model reads contexts longer than those it was trained on. Angles are
float32 products of position and frequency, as in the libraries the checkpoints were trained with.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from reference.arrays import FloatArray, IntArray


def default_frequencies(head_dim: int, theta: float) -> FloatArray:
    """f[i] = theta^(-2i/D), [D/2], float64."""
    frequencies: FloatArray = theta ** (-np.arange(0, head_dim, 2) / head_dim)
    return frequencies


def blend(kept: FloatArray, scaled: FloatArray, keep: FloatArray) -> FloatArray:
    """keep * kept + (1 - keep) * scaled, entry by entry, [D/2]."""
    return keep * kept + (1 - keep) * scaled


def linear_frequencies(head_dim: int, theta: float, scaling: Mapping[str, Any]) -> FloatArray:
    """All frequencies divided by `factor`: positions are squeezed together (arXiv:2306.15595)."""
    return default_frequencies(head_dim, theta) / float(scaling["factor"])


def llama3_frequencies(head_dim: int, theta: float, scaling: Mapping[str, Any]) -> FloatArray:
    """Low frequencies divided by `factor`, high ones kept, those between blended (Llama 3.1's model code).

    A frequency is high when it turns more than `high_freq_factor` times within the training context and low when it
    turns less than `low_freq_factor` times.
    """
    frequencies = default_frequencies(head_dim, theta)
    turns = scaling["original_max_position_embeddings"] * frequencies / (2 * math.pi)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    keep = np.clip((turns - low) / (high - low), 0, 1)
    return blend(frequencies, frequencies / scaling["factor"], keep)


def yarn_frequencies(head_dim: int, theta: float, scaling: Mapping[str, Any]) -> FloatArray:
    """As llama3, but the blend is linear in the index i, between two indices (YaRN, arXiv:2309.00071).

    The indices are those at which a frequency turns `beta_fast` (32) and `beta_slow` (1) times within the training
    context, rounded outwards unless `truncate` is false.
    """
    frequencies = default_frequencies(head_dim, theta)

    def index_of(turns: float) -> float:
        context = scaling["original_max_position_embeddings"]
        return head_dim * math.log(context / (turns * 2 * math.pi)) / (2 * math.log(theta))

    first = index_of(scaling.get("beta_fast") or 32)
    last = index_of(scaling.get("beta_slow") or 1)
    if scaling.get("truncate", True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, head_dim - 1)
    if first == last:
        last += 0.001  # a step, not a division by zero
    keep = 1 - np.clip((np.arange(head_dim // 2) - first) / (last - first), 0, 1)
    return blend(frequencies, frequencies / scaling["factor"], keep)


def yarn_attention_factor(scaling: Mapping[str, Any]) -> float:
    """What cosines and sines are multiplied with under YaRN: scores grow by its square, which sharpens attention.

    It is `attention_factor` where that is given, else 0.1 ln(factor) + 1; `mscale` and `mscale_all_dim` (DeepSeek)
    weigh the logarithm.
    """
    if scaling.get("attention_factor") is not None:
        return float(scaling["attention_factor"])

    def magnitude(weight: float) -> float:
        factor = scaling["factor"]
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    if scaling.get("mscale") and scaling.get("mscale_all_dim"):
        return magnitude(scaling["mscale"]) / magnitude(scaling["mscale_all_dim"])
    return magnitude(1.0)


def rope_frequencies(head_dim: int, theta: float, scaling: Mapping[str, Any] | None = None) -> tuple[FloatArray, float]:
    """The frequencies and the attention factor of a scaling kind.

    Args:
        head_dim: D, even.
        theta: The base of the frequencies: 10,000 in Llama 2, 1,000,000 in Qwen3.
        scaling: None or `rope_scaling` of config.json: `rope_type` (or `type`) is default, linear, llama3 or yarn.

    Returns:
        Frequencies [D/2] in float32, radians a token, and the attention factor (1 except for yarn).

    Raises:
        ValueError: The scaling kind is none of these.
    """
    scaling = scaling or {}
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    attention_factor = 1.0
    if kind == "default":
        frequencies = default_frequencies(head_dim, theta)
    elif kind == "linear":
        frequencies = linear_frequencies(head_dim, theta, scaling)
    elif kind == "llama3":
        frequencies = llama3_frequencies(head_dim, theta, scaling)
    elif kind == "yarn":
        frequencies = yarn_frequencies(head_dim, theta, scaling)
        attention_factor = yarn_attention_factor(scaling)
    else:
        raise ValueError(f"RoPE scaling {kind!r} is not one of default, linear, llama3, yarn")
    return frequencies.astype(np.float32), attention_factor


def cos_sin_table(positions: int, head_dim: int, theta: float, scaling: Mapping[str, Any] | None = None) -> FloatArray:
    """Cosines and sines of every position from 0.

    Args:
        positions: How many.
        head_dim, theta, scaling: As in `rope_frequencies`.

    Returns:
        [positions, D], float32: D/2 cosines, then D/2 sines, times the attention factor.
    """
    frequencies, attention_factor = rope_frequencies(head_dim, theta, scaling)
    angles = np.arange(positions, dtype=np.float32)[:, None] * frequencies
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=-1) * np.float32(attention_factor)


def apply_rope(x: FloatArray, cos_sin: FloatArray, positions: IntArray) -> FloatArray:
    """Turn each head of each token by the angles of the token's position.

    Args:
        x: Queries or keys, [T, heads, D].
        cos_sin: As from `cos_sin_table`, [positions, D].
        positions: [T].

    Returns:
        [T, heads, D].
    """
    cos, sin = np.split(cos_sin[positions][:, None, :], 2, axis=-1)  # [T, 1, D/2] each: all heads turn alike
    first, second = np.split(x, 2, axis=-1)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
