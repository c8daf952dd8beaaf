"""Each component of the reference, against values worked out another way."""

import math

import numpy as np
import pytest

from reference.attention import attention, qk_norm_rope, visible
from reference.kv_cache import DenseKVCache
from reference.linear import embedding, linear
from reference.rms_norm import add_rms_norm, rms_norm
from reference.rope import apply_rope, cos_sin_table, rope_frequencies
from reference.softmax import online_weighted_sum, softmax
from reference.swiglu import silu, swiglu


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_rms_norm_gives_weighted_entries_of_mean_square_one() -> None:
    x, weight = normal(5, 33), normal(33, seed=1)
    y = rms_norm(x, weight, eps=0.0)
    assert y.dtype == np.float32
    for row, out in zip(x, y, strict=True):
        root = math.sqrt(sum(float(v) ** 2 for v in row) / 33)
        np.testing.assert_allclose(out, [v / root * w for v, w in zip(row, weight, strict=True)], rtol=1e-5)


def test_rms_norm_eps_counts_where_the_row_is_small() -> None:
    np.testing.assert_allclose(rms_norm(np.full((1, 4), 3e-4, np.float32), np.ones(4, np.float32), 1.6e-7), 0.6)
    assert np.all(rms_norm(np.zeros((1, 4), np.float32), np.ones(4, np.float32), 1e-6) == 0)


def test_add_rms_norm_normalises_the_sum() -> None:
    x, residual, weight = normal(3, 8), normal(3, 8, seed=1), normal(8, seed=2)
    y, total = add_rms_norm(x, residual, weight, 1e-6)
    np.testing.assert_array_equal(total, x + residual)
    np.testing.assert_array_equal(y, rms_norm(x + residual, weight, 1e-6))


def test_linear_and_embedding_read_rows() -> None:
    weight = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    np.testing.assert_array_equal(linear(np.array([[1, 0, -1]], np.float32), weight), [[-2, -2]])
    np.testing.assert_array_equal(embedding(np.array([1, 0, 1]), weight), weight[[1, 0, 1]])


def test_silu_is_right_and_finite_at_any_size() -> None:
    z = np.array([-1e4, -100, -1, 0, 1, 100, 1e4], np.float32)
    with np.errstate(over="raise", invalid="raise"):
        out = silu(z)
    expected = [-0.0, -100 * math.exp(-100), -1 / (1 + math.e), 0, 1 / (1 + math.exp(-1)), 100, 1e4]
    np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-40)


def test_swiglu_gates_the_second_half_with_the_first() -> None:
    gate, up = normal(4, 7), normal(4, 7, seed=1)
    out = swiglu(np.concatenate([gate, up], axis=-1))
    np.testing.assert_allclose(out, gate / (1 + np.exp(-gate.astype(np.float64))) * up, rtol=1e-5)


def test_softmax_sums_to_one_and_stands_large_and_masked_scores() -> None:
    x = np.array([[1e3, 1e3, -np.inf, 999.0], [0, 0, 0, 0], [-1e3, -np.inf, -np.inf, -np.inf]], np.float32)
    out = softmax(x)
    third = 1 / (2 + math.exp(-1))
    np.testing.assert_allclose(out, [[third, third, 0, third / math.e], [0.25] * 4, [1, 0, 0, 0]], rtol=1e-5)


@pytest.mark.parametrize("block", [1, 3, 8, 100])
def test_online_softmax_equals_the_plain_one(block: int) -> None:
    scores, values = 20 * normal(41), normal(41, 6, seed=1)
    scores[:9] = -np.inf  # whole blocks masked at the start
    np.testing.assert_allclose(online_weighted_sum(scores, values, block), softmax(scores) @ values, rtol=1e-4)


def test_rope_turns_pairs_as_complex_numbers() -> None:
    x = normal(3, 2, 10)
    positions = np.array([0, 7, 100])
    out = apply_rope(x, cos_sin_table(128, 10, 10000.0), positions)
    angles = positions[:, None] * 10000.0 ** (-np.arange(5) / 5)
    turned = (x[..., :5] + 1j * x[..., 5:]) * np.exp(1j * angles)[:, None, :]
    np.testing.assert_allclose(out, np.concatenate([turned.real, turned.imag], axis=-1), atol=1e-5)
    np.testing.assert_array_equal(out[0], x[0])


def test_rope_scores_depend_on_distance_alone() -> None:
    q, k = normal(1, 1, 32), normal(1, 1, 32, seed=1)
    table = cos_sin_table(600, 32, 1e6)

    def score(query_position: int, key_position: int) -> float:
        turned_q = apply_rope(q, table, np.array([query_position]))
        return float(np.sum(turned_q * apply_rope(k, table, np.array([key_position]))))

    assert score(12, 5) == pytest.approx(score(507, 500), abs=1e-3)
    assert score(12, 5) != pytest.approx(score(12, 6), abs=1e-3)


def test_rope_scaling_kinds_by_hand() -> None:
    plain, factor = rope_frequencies(8, 10000.0)
    np.testing.assert_allclose(plain, [1, 0.1, 0.01, 0.001], rtol=1e-6)
    assert factor == 1.0

    linear_scaled, _ = rope_frequencies(8, 10000.0, {"type": "linear", "factor": 4.0})
    np.testing.assert_allclose(linear_scaled, plain / 4, rtol=1e-6)

    # 1000 / (2 pi) * f = 159, 15.9, 1.59, 0.159 turns: two kept, one blended, one divided.
    llama3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    llama3_scaled, _ = rope_frequencies(8, 10000.0, {**llama3, "original_max_position_embeddings": 1000})
    keep = (1000 * 0.01 / (2 * math.pi) - 1) / 3
    np.testing.assert_allclose(llama3_scaled, [1, 0.1, 0.01 * (keep + (1 - keep) / 8), 0.001 / 8], rtol=1e-6)

    # 32 turns at index 0.7, one at 2.2: rounded outwards, the ramp runs from 0 to 3.
    yarn = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 1000}
    yarn_scaled, yarn_factor = rope_frequencies(8, 10000.0, yarn)
    expected = [1, 0.1 * (2 / 3 + 1 / 24), 0.01 * (1 / 3 + 2 / 24), 0.001 / 8]
    np.testing.assert_allclose(yarn_scaled, expected, rtol=1e-6)
    assert yarn_factor == pytest.approx(0.1 * math.log(8) + 1)
    assert cos_sin_table(2, 8, 10000.0, yarn)[0, 0] == pytest.approx(yarn_factor)
    assert rope_frequencies(8, 10000.0, {**yarn, "attention_factor": 1.5})[1] == 1.5
    deepseek = rope_frequencies(8, 10000.0, {**yarn, "mscale": 0.7, "mscale_all_dim": 1.0})[1]
    assert deepseek == pytest.approx((0.07 * math.log(8) + 1) / (0.1 * math.log(8) + 1))


def test_rope_refuses_an_unknown_scaling_kind() -> None:
    with pytest.raises(ValueError, match="'longrope'"):
        rope_frequencies(8, 10000.0, {"rope_type": "longrope"})


def test_visible_is_causal_and_keeps_to_the_window() -> None:
    np.testing.assert_array_equal(visible(2, 4), [[1, 1, 1, 0], [1, 1, 1, 1]])
    np.testing.assert_array_equal(visible(2, 4, window=2), [[0, 1, 1, 0], [0, 0, 1, 1]])
    np.testing.assert_array_equal(visible(1, 3, window=1), [[0, 0, 1]])


@pytest.mark.parametrize(("heads", "kv_heads"), [(3, 3), (4, 2), (8, 1)])
@pytest.mark.parametrize("window", [0, 1, 4])
def test_attention_is_the_sum_over_visible_keys(heads: int, kv_heads: int, window: int) -> None:
    q, k, v = normal(3, heads, 6), normal(9, kv_heads, 6, seed=1), normal(9, kv_heads, 6, seed=2)
    out = attention(q, k, v, window=window)
    assert out.dtype == np.float32
    for token in range(3):
        position = 6 + token
        first = max(0, position - window + 1) if window else 0
        for head in range(heads):
            kv_head = head // (heads // kv_heads)
            keys, values = k[first : position + 1, kv_head], v[first : position + 1, kv_head]
            weights = np.exp(keys.astype(np.float64) @ q[token, head] / math.sqrt(6))
            np.testing.assert_allclose(out[token, head], weights @ values / weights.sum(), atol=1e-5)


def test_qk_norm_rope_splits_heads_in_order() -> None:
    qkv, q_weight, k_weight = normal(2, 4 * 6), normal(6, seed=1), normal(6, seed=2)
    table, positions = cos_sin_table(16, 6, 100.0), np.array([0, 9])
    q, k, v = qk_norm_rope(qkv, 1, 6, table, positions, q_weight, k_weight, 1e-6)
    heads = qkv.reshape(2, 4, 6)
    np.testing.assert_array_equal(v, heads[:, 3:])
    np.testing.assert_array_equal(q, apply_rope(rms_norm(heads[:, :2], q_weight, 1e-6), table, positions))
    np.testing.assert_array_equal(k, apply_rope(rms_norm(heads[:, 2:3], k_weight, 1e-6), table, positions))
    q, k, _ = qk_norm_rope(qkv, 1, 6, table, positions)
    np.testing.assert_array_equal(q[0], heads[0, :2])
    np.testing.assert_array_equal(k[0], heads[0, 2:3])


def test_cache_returns_the_whole_context_and_refuses_more_than_it_holds() -> None:
    cache = DenseKVCache(layers=2, capacity=5, kv_heads=1, head_dim=4)
    first, second = normal(3, 1, 4), normal(2, 1, 4, seed=1)
    for layer in range(2):
        keys, values = cache.append(layer, first + layer, first - layer)
        np.testing.assert_array_equal(keys, first + layer)
        np.testing.assert_array_equal(values, first - layer)
    cache.advance(3)
    keys, values = cache.append(1, second, -second)
    np.testing.assert_array_equal(keys, np.concatenate([first + 1, second]))
    np.testing.assert_array_equal(values, np.concatenate([first - 1, -second]))
    cache.advance(2)
    with pytest.raises(ValueError, match="6 tokens does not fit a cache of 5"):
        cache.append(0, first[:1], first[:1])
