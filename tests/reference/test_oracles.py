"""Components of the reference against PyTorch and transformers, live (`-m oracle`)."""

from typing import Any

import numpy as np
import pytest

from reference import sampling
from reference.attention import attention
from reference.rms_norm import rms_norm
from reference.rope import apply_rope, cos_sin_table
from reference.swiglu import swiglu

pytestmark = pytest.mark.oracle

SCALINGS: list[dict[str, Any]] = [
    {"rope_type": "default"},
    {"rope_type": "linear", "factor": 3.0},
    {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
    {"rope_type": "yarn", "factor": 40.0, "original_max_position_embeddings": 4096, "truncate": False},
    {"rope_type": "yarn", "factor": 40.0, "original_max_position_embeddings": 4096, "mscale": 0.7, "mscale_all_dim": 1},
    {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 64, "attention_factor": 0.9},
]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("head_dim", [32, 80, 128])
@pytest.mark.parametrize("scaling", SCALINGS, ids=str)
@pytest.mark.parametrize("theta", [1e4, 1e6])
def test_rope_is_that_of_transformers_at_long_positions(head_dim: int, scaling: dict[str, Any], theta: float) -> None:
    import torch
    from transformers import Qwen3Config
    from transformers.models.qwen3.modeling_qwen3 import Qwen3RotaryEmbedding, apply_rotary_pos_emb

    positions = np.array([0, 1, 17, 1000, 8191, 40000])
    x = normal(len(positions), 3, head_dim)
    config = Qwen3Config(
        head_dim=head_dim, max_position_embeddings=65536, rope_parameters={"rope_theta": theta, **scaling}
    )
    q = torch.from_numpy(x.transpose(1, 0, 2)[None].copy())
    cos, sin = Qwen3RotaryEmbedding(config)(q, torch.from_numpy(positions)[None])
    expected = apply_rotary_pos_emb(q, q, cos, sin)[0][0].numpy().transpose(1, 0, 2)
    out = apply_rope(x, cos_sin_table(40001, head_dim, theta, scaling), positions)
    # One unit in the last place of a frequency turns position 40,000 by up to 40000 * 2^-24 = 0.0024 radians.
    np.testing.assert_allclose(out[:4], expected[:4], atol=5e-4)
    np.testing.assert_allclose(out, expected, atol=2e-2)


@pytest.mark.parametrize(("heads", "kv_heads"), [(2, 2), (6, 2), (8, 1)])
def test_attention_is_that_of_pytorch(heads: int, kv_heads: int) -> None:
    import torch

    q, k, v = normal(5, heads, 16), normal(12, kv_heads, 16, seed=1), normal(12, kv_heads, 16, seed=2)
    mask = torch.ones(5, 12, dtype=torch.bool).tril(7)
    tensors = [torch.from_numpy(part.transpose(1, 0, 2).copy()) for part in (q, k, v)]
    expected = torch.nn.functional.scaled_dot_product_attention(*tensors, attn_mask=mask, enable_gqa=True)
    np.testing.assert_allclose(attention(q, k, v), expected.numpy().transpose(1, 0, 2), atol=1e-5)


def test_norm_and_activation_are_those_of_pytorch() -> None:
    import torch

    x, weight = 30 * normal(4, 50), normal(50, seed=1)
    expected = torch.nn.functional.rms_norm(torch.from_numpy(x), (50,), torch.from_numpy(weight), 1e-5)
    np.testing.assert_allclose(rms_norm(x, weight, 1e-5), expected.numpy(), rtol=1e-5, atol=1e-6)
    gate, up = torch.from_numpy(x).chunk(2, dim=-1)
    expected = torch.nn.functional.silu(gate) * up
    np.testing.assert_allclose(swiglu(x), expected.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_filters_and_penalty_are_those_of_transformers(seed: int) -> None:
    import torch
    from transformers import generation

    scores = 3 * normal(101, seed=seed)
    seen = np.random.default_rng(seed).integers(0, 101, 20)
    ids, batch = torch.from_numpy(seen)[None], torch.from_numpy(scores)[None]
    ours = {
        "top-k": sampling.keep_top_k(scores, 7),
        "top-p": sampling.keep_top_p(scores, 0.8),
        "min-p": sampling.keep_min_p(scores, 0.1),
        "temperature": sampling.scale_temperature(scores, 0.6),
        "repetition": sampling.penalise_repetition(scores, seen.tolist(), 1.3),
    }
    theirs = {
        "top-k": generation.TopKLogitsWarper(7),
        "top-p": generation.TopPLogitsWarper(0.8),
        "min-p": generation.MinPLogitsWarper(0.1),
        "temperature": generation.TemperatureLogitsWarper(0.6),
        "repetition": generation.RepetitionPenaltyLogitsProcessor(1.3),
    }
    for step, processor in theirs.items():
        np.testing.assert_allclose(ours[step], processor(ids, batch.clone())[0].numpy(), rtol=1e-6, err_msg=step)
