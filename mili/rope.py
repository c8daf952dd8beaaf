"""Rotary position embedding (RoFormer, arXiv:2104.09864): the settings of a checkpoint and the table of angles.

The scaling kinds stretch a trained context: `linear` (arXiv:2306.15595), `llama3` (Llama 3.1 model card), `yarn`
(arXiv:2309.00071), and `factors`, the per-frequency divisors that GGUF files store instead of the Llama 3 settings.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mili.errors import ConfigError

if TYPE_CHECKING:
    from mili.config import Qwen3Config

RopeKind: TypeAlias = Literal["default", "linear", "llama3", "yarn", "factors"]
SUPPORTED_KINDS = ("default", "linear", "llama3", "yarn")
_KEYS = {
    "default": set(),
    "linear": {"factor"},
    "llama3": {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"},
    "yarn": {
        "factor",
        "original_max_position_embeddings",
        "attention_factor",
        "beta_fast",
        "beta_slow",
        "mscale",
        "mscale_all_dim",
        "truncate",
    },
}


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """RoPE settings with every default resolved; a kind reads only the fields it needs.

    `attention_factor` multiplies cosines and sines (yarn; 1 otherwise). `frequency_factors` [D / 2] divide the
    frequencies of kind `factors`.
    """

    theta: float = 10000.0
    kind: RopeKind = "default"
    factor: float = 1.0
    original_max_position_embeddings: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    attention_factor: float = 1.0
    frequency_factors: tuple[float, ...] = ()


def _number(values: Mapping[str, Any], key: str, default: float | None, source: str) -> float:
    value = values.get(key)
    if value is None:
        value = default
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise ConfigError(f"{source}: rope {key} is {value!r}; it must be a number above 0.")
    return float(value)


def parse_rope(data: Mapping[str, Any], max_position_embeddings: int, source: str) -> RopeConfig:
    """RoPE settings from a `config.json`: `rope_theta` with `rope_scaling` (old) or `rope_parameters` (new).

    Raises ConfigError for a kind other than default, linear, llama3 and yarn, and for a setting nothing here reads.
    """
    old, new = data.get("rope_scaling") or {}, data.get("rope_parameters") or {}
    for name, value in (("rope_scaling", old), ("rope_parameters", new)):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{source}: {name} is {value!r}; it must be an object.")
    values = dict(old or new)  # both: the order transformers uses
    nested = [key for key, value in values.items() if isinstance(value, Mapping)]
    if nested:
        raise ConfigError(
            f"{source}: rope_parameters has settings for {', '.join(nested)} separately; "
            "MILI supports one RoPE setting for all layers."
        )
    legacy = values.pop("type", None)
    kind = values.pop("rope_type", None) or legacy or "default"
    if kind not in SUPPORTED_KINDS:
        raise ConfigError(f"{source}: rope_type {kind!r} is not supported; supported: {', '.join(SUPPORTED_KINDS)}.")
    partial = values.pop("partial_rotary_factor", None) or data.get("partial_rotary_factor") or 1.0
    if partial != 1.0:
        raise ConfigError(f"{source}: partial_rotary_factor {partial!r} is not supported; MILI rotates whole heads.")
    theta_key = {"rope_theta": values.pop("rope_theta", None) or data.get("rope_theta")}
    theta = _number(theta_key, "rope_theta", 10000.0, source)
    if theta <= 1:
        raise ConfigError(f"{source}: rope_theta is {theta}; it must be above 1.")
    unknown = sorted(key for key, value in values.items() if key not in _KEYS[kind] and value is not None)
    if unknown:
        settings = ", ".join(f"{key}={values[key]!r}" for key in unknown)
        raise ConfigError(f"{source}: rope_type {kind!r} with {settings} is not supported; nothing would read it.")
    if kind == "default":
        return RopeConfig(theta)
    outer = data.get("original_max_position_embeddings")  # outside the object it wins, as in transformers
    trained = values if outer is None else {"original_max_position_embeddings": outer}
    original = 0
    if kind != "linear":
        original = int(_number(trained, "original_max_position_embeddings", max_position_embeddings, source))
    if kind == "yarn" and values.get("factor") is None:
        values["factor"] = max_position_embeddings / original
    factor = _number(values, "factor", None, source)
    if kind == "linear":
        return RopeConfig(theta, "linear", factor)
    if kind == "llama3":
        low = _number(values, "low_freq_factor", None, source)
        high = _number(values, "high_freq_factor", None, source)
        if high <= low:
            raise ConfigError(f"{source}: rope high_freq_factor {high} must be above low_freq_factor {low}.")
        return RopeConfig(theta, "llama3", factor, original, low_freq_factor=low, high_freq_factor=high)
    fast = _number(values, "beta_fast", 32.0, source)
    slow = _number(values, "beta_slow", 1.0, source)
    if fast < slow:
        raise ConfigError(f"{source}: rope beta_fast {fast} must not be below beta_slow {slow}.")
    attention = _yarn_attention_factor(values, factor, source)
    truncate = bool(values.get("truncate", True))
    return RopeConfig(
        theta, "yarn", factor, original, beta_fast=fast, beta_slow=slow, truncate=truncate, attention_factor=attention
    )


def _yarn_attention_factor(values: Mapping[str, Any], factor: float, source: str) -> float:
    """What multiplies cosines and sines: given, or 0.1 ln(factor) + 1 (YaRN, section 3.4), or a ratio of two such."""
    if values.get("attention_factor") is not None:
        return _number(values, "attention_factor", None, source)

    def mscale(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    if values.get("mscale") and values.get("mscale_all_dim"):
        return mscale(_number(values, "mscale", None, source)) / mscale(_number(values, "mscale_all_dim", None, source))
    return mscale(1.0)


def inverse_frequencies(rope: RopeConfig, head_dim: int) -> NDArray[np.float64]:
    """Radians per position of each pair (i, i + D / 2): float64 [D / 2]."""
    inverse: NDArray[np.float64] = rope.theta ** -(np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    if rope.kind == "linear":
        return inverse / rope.factor
    if rope.kind == "factors":
        return inverse / np.asarray(rope.frequency_factors, np.float64)
    if rope.kind == "llama3":
        # Long waves are stretched by `factor`, short ones left alone, those between blended.
        turns = rope.original_max_position_embeddings * inverse / (2 * math.pi)
        keep: NDArray[np.float64] = np.clip(
            (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor),
            0.0,
            1.0,
        )
        return (1 - keep) * inverse / rope.factor + keep * inverse
    if rope.kind == "yarn":

        def pair_with(turns: float) -> float:
            """The (fractional) pair that makes this many turns within the trained context."""
            length = rope.original_max_position_embeddings / (2 * math.pi * turns)
            return head_dim * math.log(length) / (2 * math.log(rope.theta))

        low, high = pair_with(rope.beta_fast), pair_with(rope.beta_slow)
        if rope.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, head_dim - 1)
        if low == high:
            high += 0.001
        stretch: NDArray[np.float64] = np.clip((np.arange(head_dim // 2) - low) / (high - low), 0.0, 1.0)
        return stretch * inverse / rope.factor + (1 - stretch) * inverse
    return inverse


def cos_sin_table(config: "Qwen3Config", positions: int) -> NDArray[np.float32]:
    """Cosines then sines of positions 0 to `positions` - 1: float32 [positions, D], computed in float64.

    Row p holds D / 2 cosines, then D / 2 sines; scaling and attention factor are applied.
    """
    angles = np.outer(np.arange(positions, dtype=np.float64), inverse_frequencies(config.rope, config.head_dim))
    table = np.concatenate([np.cos(angles), np.sin(angles)], axis=1) * config.rope.attention_factor
    return table.astype(np.float32)
