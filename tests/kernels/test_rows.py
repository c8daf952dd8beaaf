"""Kernels that treat each row by itself: embedding, gathering, RMSNorm, SwiGLU, argmax."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reference.rms_norm import add_rms_norm, rms_norm
from reference.swiglu import swiglu
from tests.kernels.agreement import FLOAT32_UNIT, assert_within
from tests.kernels.harness import EPS, Kernels

rows_of = st.integers(1, 40)
widths = st.one_of(st.integers(1, 100), st.sampled_from([127, 128, 129, 255, 257, 576, 1000, 1024, 4097]))
seeds = st.integers(0, 2**32 - 1)
magnitudes = st.sampled_from([1e-3, 1.0, 1e3])


@given(rows=rows_of, width=widths, vocabulary=st.integers(1, 200), seed=seeds)
@example(rows=1, width=1, vocabulary=1, seed=0)
@settings(max_examples=40)
def test_embedding_copies_the_row_of_each_token(
    kernels: Kernels, rows: int, width: int, vocabulary: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    table = kernels.rounded(rng.standard_normal((vocabulary, width)))
    tokens = rng.integers(0, vocabulary, rows)
    (x,) = kernels.run("embedding", width, tokens=tokens, table=table)
    np.testing.assert_array_equal(x, table[tokens])


@given(rows=rows_of, count=st.integers(1, 50), seed=seeds)
@settings(max_examples=25)
def test_resolve_tokens_takes_ids_and_rows(kernels: Kernels, rows: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tokens, drawn = rng.integers(-count, 1000, rows), rng.integers(-1, 1000, count)
    (y,) = kernels.run("resolve_tokens", tokens=tokens, drawn=drawn)
    np.testing.assert_array_equal(y, np.where(tokens < 0, drawn[(-1 - tokens).clip(0)], tokens))


def test_a_row_that_was_not_drawn_gives_no_token(kernels: Kernels) -> None:
    tokens = np.array([-1, -3, -4, -(2**31), 2**31 - 1])
    (y,) = kernels.run("resolve_tokens", tokens=tokens, drawn=np.array([7, 8, 9]))
    np.testing.assert_array_equal(y, [7, 9, -1, -1, 2**31 - 1])


def test_a_token_outside_the_table_gives_zeros(kernels: Kernels) -> None:
    table = np.ones((32, 8))
    (x,) = kernels.run("embedding", 8, tokens=np.array([-1, 31, 32, 2**31 - 1, -(2**31)]), table=table)
    np.testing.assert_array_equal(x[:, 0], [0, 1, 0, 0, 0])
    (y,) = kernels.run("gather_rows", x=table, rows=np.array([-1, 31, 32]))
    np.testing.assert_array_equal(y[:, 0], [0, 1, 0])


@given(rows=rows_of, width=widths, source=st.integers(1, 50), seed=seeds)
@settings(max_examples=25)
def test_gather_rows_copies_rows(kernels: Kernels, rows: int, width: int, source: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = kernels.rounded(rng.standard_normal((source, width)))
    wanted = rng.integers(0, source, rows)
    (y,) = kernels.run("gather_rows", x=x, rows=wanted)
    np.testing.assert_array_equal(y, x[wanted])


def norm_bound(kernels: Kernels, y: np.ndarray, width: int) -> np.ndarray:
    """Sixteen lanes sum width/16 squares each, then a tree of 4, then a root, a quotient and two products."""
    half_of_smallest = 2.0**-25 if kernels.dtype == "float16" else 2.0**-130  # subnormals are rounded to a fixed step
    return np.abs(y) * (kernels.unit + FLOAT32_UNIT * (width / 16 + 12)) + half_of_smallest


@given(rows=rows_of, width=widths, magnitude=magnitudes, seed=seeds)
@example(rows=1, width=1, magnitude=1e3, seed=0)
@settings(max_examples=60)
def test_rms_norm(kernels: Kernels, rows: int, width: int, magnitude: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = kernels.rounded(rng.standard_normal((rows, width)) * magnitude)
    weight = kernels.rounded(rng.standard_normal(width))
    (y,) = kernels.run("rms_norm", x=x, weight=weight)
    expected = rms_norm(x, weight, EPS)
    assert_within(y, expected, norm_bound(kernels, expected, width))


def test_rms_norm_of_zeros_is_zero(kernels: Kernels) -> None:
    (y,) = kernels.run("rms_norm", x=np.zeros((2, 33)), weight=np.ones(33))
    np.testing.assert_array_equal(y, np.zeros((2, 33)))


@given(rows=rows_of, width=widths, magnitude=magnitudes, seed=seeds)
@settings(max_examples=60)
def test_add_rms_norm(kernels: Kernels, rows: int, width: int, magnitude: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, residual = (kernels.rounded(rng.standard_normal((rows, width)) * magnitude) for _ in range(2))
    weight = kernels.rounded(rng.standard_normal(width))
    y, total = kernels.run("add_rms_norm", x=x, residual=residual, weight=weight)
    np.testing.assert_array_equal(total, kernels.rounded((residual + x).astype(np.float32)))
    expected, _ = add_rms_norm(total.astype(np.float64), np.zeros_like(x), weight, EPS)
    assert_within(y, expected, norm_bound(kernels, expected, width))


@pytest.mark.parametrize("width", [512, 1024])  # 128 vectors of 16 bytes in float32, and in 16 bits
@pytest.mark.parametrize("rows", [1030, 4100])
def test_add_rms_norm_of_many_rows_is_that_of_each_alone(kernels: Kernels, rows: int, width: int) -> None:
    """A GPU works on so many rows in another way than on one; neither may change a bit."""
    rng = np.random.default_rng(rows)
    x, residual = (kernels.rounded(rng.standard_normal((rows, width))) for _ in range(2))
    weight = kernels.rounded(rng.standard_normal(width))
    y, total = kernels.run("add_rms_norm", x=x, residual=residual, weight=weight)
    np.testing.assert_array_equal(total, kernels.rounded((residual + x).astype(np.float32)))
    expected, _ = add_rms_norm(total.astype(np.float64), np.zeros_like(x), weight, EPS)
    assert_within(y, expected, norm_bound(kernels, expected, width))
    for row in (0, rows - 1):
        alone, _ = kernels.run("add_rms_norm", x=x[row : row + 1], residual=residual[row : row + 1], weight=weight)
        np.testing.assert_array_equal(y[row : row + 1], alone)


@given(rows=rows_of, width=widths, magnitude=magnitudes, seed=seeds)
@settings(max_examples=60)
def test_swiglu(kernels: Kernels, rows: int, width: int, magnitude: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    gate_up = kernels.rounded(rng.standard_normal((rows, 2 * width)) * magnitude)
    (y,) = kernels.run("swiglu", gate_up=gate_up)
    with np.errstate(over="ignore"):
        expected = swiglu(gate_up)
    # exp is within a few units in the last place, and may saturate where float32 would overflow (at e^88).
    gate, up = np.split(gate_up, 2, 1)
    smallest = 6e-8 if kernels.dtype == "float16" else 1e-35
    finite = np.abs(expected) < (65504.0 if kernels.dtype == "float16" else np.inf)
    bound = np.abs(expected) * (kernels.unit + 16 * FLOAT32_UNIT) + np.abs(gate * up) * 2.0**-126 + smallest
    assert_within(np.where(finite, y, 0), np.where(finite, expected, 0), bound)


@given(rows=rows_of, width=widths, seed=seeds, values=st.integers(1, 50))
@example(rows=1, width=1, seed=0, values=1)
@example(rows=3, width=151936, seed=0, values=50)
@settings(max_examples=60)
def test_argmax_takes_the_lowest_index_among_equals(
    kernels: Kernels, rows: int, width: int, seed: int, values: int
) -> None:
    logits = np.random.default_rng(seed).integers(-values, values, (rows, width)).astype(np.float32)
    (tokens,) = kernels.run("argmax", logits=logits)
    np.testing.assert_array_equal(tokens, logits.argmax(1))


@pytest.mark.parametrize("width", [1, 15, 16, 17, 300])
def test_argmax_of_infinities_and_nan(kernels: Kernels, width: int) -> None:
    logits = np.full((4, width), -np.inf, np.float32)
    logits[1, -1] = np.inf
    logits[2, :] = np.nan
    logits[3, 0], logits[3, -1] = np.nan, -1e30
    (tokens,) = kernels.run("argmax", logits=logits)
    np.testing.assert_array_equal(tokens[:3], [0, width - 1, 0])
    assert tokens[3] == (width - 1 if width > 1 else 0)
