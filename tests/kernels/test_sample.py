"""The sampling kernel against the NumPy reference: same logits, parameters and random number, same token."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reference import sampling as reference
from tests.kernels.harness import Kernels

FILTERS = [
    (0, 0, 1, 0),
    (1, 0, 1, 0),
    (1, 1, 1, 0),
    (1, 5, 1, 0),
    (1, 0, 0.9, 0),
    (1, 0, 0.999, 0),
    (1, 0, 1e-6, 0),
    (1, 0, 1, 0.1),
    (1, 0, 1, 1),
    (1, 40, 0.7, 0),
    (1, 0, 0.8, 0.02),
    (0.6, 3, 0.95, 0.2),
    (7, 0, 0.95, 0),
]


def draw(kernels: Kernels, logits: np.ndarray, fields: np.ndarray) -> np.ndarray:
    (tokens,) = kernels.run("sample", logits=logits, fields=fields)
    return tokens


@given(
    rows=st.integers(1, 30),
    width=st.one_of(st.integers(1, 80), st.sampled_from([255, 256, 257, 1000, 4096, 5001])),
    spread=st.sampled_from([0.0, 0.3, 3.0, 30.0]),
    rounded=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
@example(rows=1, width=1, spread=0.0, rounded=True, seed=0)
@settings(max_examples=60)
def test_sample_is_the_reference(
    kernels: Kernels, rows: int, width: int, spread: float, rounded: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    logits = (rng.standard_normal((rows, width)) * spread).astype(np.float32)
    logits = np.round(logits) if rounded else logits  # many equals at the boundaries
    random = (rng.integers(0, 2**24, rows) / 2**24).astype(np.float32)
    chosen = [FILTERS[i] for i in rng.integers(0, len(FILTERS), rows)]
    fields = np.column_stack([np.array(chosen, np.float32), random])
    tokens = draw(kernels, logits, fields)
    for i, (temperature, top_k, top_p, min_p) in enumerate(chosen):
        if temperature == 0:
            assert tokens[i] == reference.greedy(logits[i])
            continue
        row = reference.keep_top_k(reference.scale_temperature(logits[i], temperature), top_k)
        row = reference.keep_min_p(reference.keep_top_p(row, top_p), min_p)
        if tokens[i] != reference.draw(row, float(random[i])):
            # Only where the random number, or a filter's boundary, falls between two tokens up to rounding.
            p = np.exp(row.astype(np.float64) - row.max())
            edges = np.cumsum(p) / p.sum()
            near = np.abs(edges - random[i]).min()
            order = np.sort(np.exp(logits[i].astype(np.float64) / temperature - logits[i].max() / temperature))[::-1]
            mass = np.cumsum(order) / order.sum()
            assert near < 1e-4 or np.abs(mass - top_p).min() < 1e-4, (i, tokens[i], chosen[i])


def test_tokens_come_as_often_as_their_probability(kernels: Kernels) -> None:
    probabilities = np.array([0.5, 0.25, 0.125, 0.125])
    logits = np.log(probabilities).astype(np.float32)[None].repeat(4096, 0)
    random = (np.arange(4096) + 0.5) / 4096
    for temperature, top_k, expected in ((1.0, 0, probabilities), (1.0, 2, [2 / 3, 1 / 3, 0, 0])):
        fields = np.column_stack([np.tile([temperature, top_k, 1, 0], (4096, 1)), random])
        counts = np.bincount(draw(kernels, logits, fields), minlength=4)
        assert np.abs(counts / 4096 - expected).max() < 1e-3


@pytest.mark.parametrize("width", [37, 1000])
def test_logits_that_are_no_numbers_give_no_token(kernels: Kernels, width: int) -> None:
    logits = np.zeros((4, width), np.float32)
    logits[0, 3] = np.nan
    logits[1] = -np.inf
    logits[2, 5] = np.inf
    logits[3] = -np.inf
    logits[3, width - 1] = -5
    fields = np.tile(np.array([1, 0, 1, 0, 0.5], np.float32), (4, 1))
    assert draw(kernels, logits, fields).tolist() == [-1, -1, -1, width - 1]


@pytest.mark.parametrize("width", [7, 3000, 5000])
def test_a_greedy_row_of_no_numbers_gives_token_zero(kernels: Kernels, width: int) -> None:
    logits = np.full((2, width), np.nan, np.float32)
    logits[1] = -np.inf
    fields = np.tile(np.array([0, 0, 1, 0, 0.5], np.float32), (2, 1))
    assert draw(kernels, logits, fields).tolist() == [0, 0]


def test_a_row_does_not_know_its_neighbours(kernels: Kernels) -> None:
    rng = np.random.default_rng(1)
    logits = rng.standard_normal((len(FILTERS), 3000)).astype(np.float32)
    fields = np.column_stack([np.array(FILTERS, np.float32), rng.random(len(FILTERS)).astype(np.float32)])
    together = draw(kernels, logits, fields)
    alone = [draw(kernels, logits[i : i + 1], fields[i : i + 1])[0] for i in range(len(FILTERS))]
    assert together.tolist() == alone
