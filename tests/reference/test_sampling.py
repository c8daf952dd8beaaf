"""Sampling: each filter by hand, and the whole against its distribution."""

import numpy as np
import pytest

from reference.sampling import (
    bias_logits,
    draw,
    greedy,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    penalise_frequency,
    penalise_repetition,
    sample,
    scale_temperature,
)

INF = float("inf")


def log(*probabilities: float) -> np.ndarray:
    return np.log(np.array(probabilities, np.float32))


def kept(logits: np.ndarray) -> list[int]:
    return np.flatnonzero(logits > -INF).tolist()


def test_greedy_takes_the_lowest_id_among_equals() -> None:
    assert greedy(np.array([1, 3, 2, 3], np.float32)) == 1


def test_top_k_keeps_the_largest_and_the_lowest_ids_among_equals() -> None:
    logits = np.array([2, 5, 2, 1, 2], np.float32)
    assert kept(keep_top_k(logits, 1)) == [1]
    assert kept(keep_top_k(logits, 3)) == [0, 1, 2]
    assert kept(keep_top_k(logits, 0)) == kept(keep_top_k(logits, 9)) == [0, 1, 2, 3, 4]
    assert keep_top_k(logits, 3)[2] == 2


@pytest.mark.parametrize(
    ("p", "expected"), [(0.0, [2]), (0.49, [2]), (0.51, [1, 2]), (0.79, [1, 2]), (0.81, [0, 1, 2]), (1.0, [0, 1, 2, 3])]
)
def test_top_p_keeps_the_fewest_that_reach_it(p: float, expected: list[int]) -> None:
    assert kept(keep_top_p(log(0.15, 0.3, 0.5, 0.05), p)) == expected


def test_top_p_counts_what_top_k_left() -> None:
    logits = log(0.4, 0.3, 0.2, 0.1)
    assert kept(keep_top_p(logits, 0.5)) == [0, 1]
    assert kept(keep_top_p(keep_top_k(logits, 2), 0.5)) == [0]  # 0.4 of 0.7


def test_min_p_is_relative_to_the_likeliest() -> None:
    logits = log(0.5, 0.26, 0.14, 0.1)
    assert kept(keep_min_p(logits, 0.5)) == [0, 1]
    assert kept(keep_min_p(logits, 0.25)) == [0, 1, 2]
    assert kept(keep_min_p(logits, 0.0)) == [0, 1, 2, 3]
    assert kept(keep_min_p(logits, 1.0)) == [0]


def test_penalties_and_bias_by_hand() -> None:
    logits = np.array([2, -2, 1, 3], np.float32)
    np.testing.assert_allclose(penalise_repetition(logits, [0, 1, 1], 2.0), [1, -4, 1, 3])
    np.testing.assert_allclose(penalise_frequency(logits, [3, 0, 3], 0.5, 0.25), [1.25, -2, 1, 1.75])
    np.testing.assert_allclose(bias_logits(logits, {3: -100.0, 1: 1.5}), [2, -0.5, 1, -97])
    np.testing.assert_allclose(scale_temperature(logits, 0.5), [4, -4, 2, 6])
    np.testing.assert_array_equal(logits, [2, -2, 1, 3])


def test_draw_walks_the_running_sum_in_the_order_of_ids() -> None:
    logits = np.concatenate([log(0.25, 0.5), [-INF], log(0.25)]).astype(np.float32)
    assert [draw(logits, u) for u in (0.0, 0.24, 0.26, 0.74, 0.76, 1 - 1e-12)] == [0, 0, 1, 1, 3, 3]


def test_draws_follow_the_filtered_distribution() -> None:
    probabilities = np.array([0.05, 0.35, 0.2, 0.3, 0.1])
    logits = np.log(probabilities).astype(np.float32)
    rng = np.random.default_rng(5)
    counts = np.bincount([sample(logits, rng, temperature=0.7, top_k=4, top_p=0.9) for _ in range(4000)], minlength=5)
    warm = probabilities ** (1 / 0.7)
    warm[[0, 4]] = 0  # top-k removes 0; then 1, 3 and 2 sum to 0.93, so top-p removes 4
    np.testing.assert_allclose(counts / 4000, warm / warm.sum(), atol=0.03)
    assert counts[0] == counts[4] == 0


def test_same_seed_same_tokens() -> None:
    logits = np.random.default_rng(0).standard_normal(50).astype(np.float32)

    def run(seed: int) -> list[int]:
        rng = np.random.default_rng(seed)
        return [sample(logits, rng, temperature=1.5) for _ in range(20)]

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_temperature_zero_is_greedy_after_bias_and_penalties() -> None:
    logits = np.array([1.0, 3.0, 2.5], np.float32)
    rng = np.random.default_rng(0)
    assert sample(logits, rng, temperature=0) == 1
    assert sample(logits, rng, temperature=0, output=[1], presence_penalty=1.0) == 2
    assert sample(logits, rng, temperature=0, prompt=[1], repetition_penalty=2.0) == 2
    assert sample(logits, rng, temperature=0, prompt=[1], presence_penalty=1.0) == 1
    assert sample(logits, rng, temperature=0, logit_bias={0: 5.0}) == 0
