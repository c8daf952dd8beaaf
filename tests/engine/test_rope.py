"""The table of cosines and sines, against its definition, the reference and transformers."""

import copy
import math

import numpy as np
import pytest

from mili.config import Qwen3Config
from mili.rope import RopeConfig, cos_sin_table, inverse_frequencies
from reference.rope import cos_sin_table as reference_table
from tests.tiny_models import CASES


def test_layout_and_values_of_the_definition() -> None:
    config = Qwen3Config.from_dict(CASES["qwen3_long_theta"])
    table = cos_sin_table(config, 300)
    dim = config.head_dim
    assert table.shape == (300, dim)
    assert table.dtype == np.float32
    for position, pair in ((0, 0), (1, 0), (299, 0), (299, 5), (123, dim // 2 - 1)):
        angle = position * 5e7 ** (-2 * pair / dim)
        assert table[position, pair] == np.float32(math.cos(angle))
        assert table[position, dim // 2 + pair] == np.float32(math.sin(angle))


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_reference(name: str) -> None:
    config, data = Qwen3Config.from_dict(CASES[name]), CASES[name]
    scaling = data["rope_scaling"]
    if scaling:
        scaling = {"original_max_position_embeddings": data["max_position_embeddings"], **scaling}
    cos, sin = np.split(reference_table(100, config.head_dim, data["rope_theta"], scaling), 2, axis=-1)
    table = cos_sin_table(config, 100)
    np.testing.assert_allclose(table[:, : config.head_dim // 2], cos, atol=2e-5)
    np.testing.assert_allclose(table[:, config.head_dim // 2 :], sin, atol=2e-5)


def test_factors_divide_each_frequency() -> None:
    plain = inverse_frequencies(RopeConfig(1e4), 8)
    divided = inverse_frequencies(RopeConfig(1e4, "factors", frequency_factors=(1.0, 2.0, 4.0, 8.0)), 8)
    np.testing.assert_allclose(divided, plain / [1, 2, 4, 8], rtol=0)


def test_yarn_attention_factor_scales_the_whole_table() -> None:
    config = Qwen3Config.from_dict(CASES["llama_yarn_attention_factor"])
    table = cos_sin_table(config, 50)
    squares = table[:, :32] ** 2 + table[:, 32:] ** 2
    np.testing.assert_allclose(squares, 1.25**2, rtol=1e-6)


ORACLE = dict(CASES)
ORACLE["qwen3_yarn_all_settings"] = CASES["qwen3_yarn"] | {
    "rope_scaling": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 64,
        "truncate": False,
        "beta_fast": 16.0,
        "beta_slow": 2.0,
        "mscale": 0.7,
        "mscale_all_dim": 1.3,
    }
}
ORACLE["qwen3_yarn_trained_length_outside"] = CASES["qwen3_yarn"] | {"original_max_position_embeddings": 32}
ORACLE["qwen3_yarn_no_trained_length"] = CASES["qwen3_yarn"] | {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}


@pytest.mark.oracle
@pytest.mark.parametrize("name", ORACLE)
def test_agrees_with_transformers(name: str) -> None:
    import torch
    from transformers import LlamaConfig
    from transformers import Qwen3Config as TheirConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
    from transformers.models.qwen3.modeling_qwen3 import Qwen3RotaryEmbedding

    data = copy.deepcopy(ORACLE[name])  # transformers writes into the settings of RoPE
    qwen3 = data["model_type"] == "qwen3"
    rotary = Qwen3RotaryEmbedding(TheirConfig(**data)) if qwen3 else LlamaRotaryEmbedding(LlamaConfig(**data))
    cos, sin = rotary(torch.zeros(1), torch.arange(200)[None])
    config = Qwen3Config.from_dict(data)
    half = config.head_dim // 2
    table = cos_sin_table(config, 200)
    np.testing.assert_allclose(table[:, :half], cos[0, :, :half].numpy(), atol=5e-5)  # theirs: float32 angles
    np.testing.assert_allclose(table[:, half:], sin[0, :, half:].numpy(), atol=5e-5)
