"""Attention over pages: agreement with float64, equal bits in every batch, and extreme scores."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference.paged_attention import paged_attention
from tests.kernels.agreement import FLOAT32_UNIT, assert_within
from tests.kernels.harness import HEADS, Heads, Kernels
from tests.kernels.paged import Ragged, lengths, ragged

every_heads = pytest.mark.parametrize("heads", HEADS, ids=lambda h: h.name)


def make(kernels: Kernels, heads: Heads, batch: Ragged, rng: np.random.Generator) -> tuple[Any, Any]:
    """Random queries and cache; pages that no request owns are NaN, and so are rows beyond each context."""
    q = kernels.rounded(rng.standard_normal((sum(batch.new), heads.H, heads.D)))
    kv = kernels.rounded(rng.standard_normal((batch.pages, 2, heads.KH, heads.PS, heads.D)))
    owned = np.zeros((batch.pages, heads.PS), bool)
    for pages, context in zip(batch.table, batch.contexts, strict=True):
        p = np.arange(context)
        owned[pages[p // heads.PS], p % heads.PS] = True
    kv[~owned[:, None, None, :].repeat(2, 1).repeat(heads.KH, 2)] = np.nan
    return q, kv


def run(kernels: Kernels, heads: Heads, q: Any, kv: Any, batch: Ragged) -> Any:
    return kernels.run(
        f"attention_{heads.name}",
        q=q,
        kv=kv,
        row_offsets=batch.row_offsets,
        context_lengths=np.array(batch.contexts),
        page_table=batch.table,
    )[0].reshape(q.shape)


def expected_and_bound(kernels: Kernels, heads: Heads, q: Any, kv: Any, batch: Ragged) -> tuple[Any, Any]:
    """The result in float64, and the error that rounding may make.

    A score errs by e = D units of the sum of its absolute terms, so a probability by a factor exp(2 e); kernels round
    probabilities to the dtype where they multiply them in it; sums of positive terms err by their length.
    """
    arguments = (batch.row_offsets, np.array(batch.contexts), batch.table, heads.scale, heads.window)
    expected = paged_attention(q, kv, *arguments)
    mean_of_absolute = paged_attention(q, np.concatenate([kv[:, :1], np.abs(kv[:, 1:])], 1), *arguments)
    longest = max(batch.contexts)
    terms = float(np.abs(q).max() * np.nanmax(np.abs(kv[:, 0])) * heads.D * heads.scale)
    relative = kernels.unit * (kernels.dtype != "float32") + FLOAT32_UNIT * (2 * heads.D * terms / 8 + longest + 64)
    return expected, mean_of_absolute * relative + np.abs(expected) * kernels.unit + 1e-7 * (kernels.dtype == "float16")


@every_heads
@pytest.mark.parametrize("requests", [3, 300])
def test_padding_rows_are_zero_and_change_nothing(kernels: Kernels, heads: Heads, requests: int) -> None:
    """Rows without a context, as captured decode steps are padded with, beside requests of all lengths."""
    rng = np.random.default_rng(requests)
    contexts = [int(n) for n in rng.integers(1, 9 * heads.PS, requests)]
    contexts[1] = 25 * requests  # where many share the work, one context may fall to tens of blocks
    batch = ragged(rng, [1] * requests, [c - 1 for c in contexts], heads.PS)
    q, kv = make(kernels, heads, batch, rng)
    expected, bound = expected_and_bound(kernels, heads, q, kv, batch)
    padding = requests // 2 + 1
    q = np.concatenate([q, np.ones((padding, heads.H, heads.D), q.dtype)])
    y = kernels.run(
        f"attention_{heads.name}",
        q=q,
        kv=kv,
        row_offsets=np.arange(requests + padding + 1),
        context_lengths=np.array(contexts + [0] * padding),
        page_table=np.concatenate([batch.table, np.zeros((padding, batch.table.shape[1]), batch.table.dtype)]),
    )[0].reshape(q.shape)
    assert_within(y[:requests], expected, bound)
    assert not y[requests:].any()


@every_heads
def test_many_requests_of_one_token_beside_prompts(kernels: Kernels, heads: Heads) -> None:
    """A GPU may compute the two kinds by kernels of their own, each leaving out what the other does."""
    rng = np.random.default_rng(4)
    new = [300, *[1] * 40, 200, *[1] * 60, 2, *[1] * 20, 129]
    batch = ragged(rng, new, [int(n) for n in rng.integers(0, 9 * heads.PS, len(new))], heads.PS)
    q, kv = make(kernels, heads, batch, rng)
    o = run(kernels, heads, q, kv, batch)
    assert_within(o, *expected_and_bound(kernels, heads, q, kv, batch))


@every_heads
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_attention(kernels: Kernels, heads: Heads, data: st.DataObject, seed: int) -> None:
    rng = np.random.default_rng(seed)
    requests = data.draw(lengths(heads))
    batch = ragged(rng, [n for n, _ in requests], [b for _, b in requests], heads.PS)
    q, kv = make(kernels, heads, batch, rng)
    o = run(kernels, heads, q, kv, batch)
    assert_within(o, *expected_and_bound(kernels, heads, q, kv, batch))


@every_heads
def test_a_long_context(kernels: Kernels, heads: Heads) -> None:
    rng = np.random.default_rng(1)
    batch = ragged(rng, [1, 3, 300], [1500, 1021, 0], heads.PS)
    q, kv = make(kernels, heads, batch, rng)
    o = run(kernels, heads, q, kv, batch)
    assert_within(o, *expected_and_bound(kernels, heads, q, kv, batch))


@every_heads
def test_a_token_has_the_same_bits_in_every_batch_and_chunk(kernels: Kernels, heads: Heads) -> None:
    if not kernels.on_cpu:
        pytest.skip("GPU kernels agree to rounding only")
    rng = np.random.default_rng(2)
    batch = ragged(rng, [1, 350, 5, 1], [600, 0, 70, 64], heads.PS)
    q, kv = make(kernels, heads, batch, rng)
    kv = np.nan_to_num(kv)
    whole = run(kernels, heads, q, kv, batch)
    for request, new in enumerate(batch.new):
        start = int(batch.row_offsets[request])
        cuts = sorted({0, new, *(c for c in (1, 2, 63, 64, 65, 130, 257) if c < new)})
        for first, last in pairwise(cuts):
            rows = slice(start + first, start + last)
            step = batch.only(request, first, last)
            part = kernels.run(f"attention_{heads.name}", q=q[rows], kv=kv, **step)[0]
            np.testing.assert_array_equal(
                part.reshape(q[rows].shape), whole[rows], err_msg=f"{request}: {first}-{last}"
            )


@every_heads
def test_large_scores_and_values(kernels: Kernels, heads: Heads) -> None:
    """Scores to +-1000 of small integers, exact in every dtype: exp must not overflow, and one key can win alone."""
    rng = np.random.default_rng(3)
    batch = ragged(rng, [40, 1], [30, 129], heads.PS)
    q, kv = make(kernels, heads, batch, rng)
    step = max(1, round((1000 / heads.scale / heads.D) ** 0.5))
    q = rng.integers(-step, step + 1, q.shape).astype(np.float64)
    keys = rng.integers(-step, step + 1, kv[:, 0].shape)
    kv[:, 0] = np.where(np.isnan(kv[:, 0]), np.nan, keys)
    kv[:, 1] *= 1e3
    kv = kernels.rounded(kv)
    o = run(kernels, heads, q, kv, batch)
    arguments = (batch.row_offsets, np.array(batch.contexts), batch.table, heads.scale, heads.window)
    expected = paged_attention(q, kv, *arguments)
    largest = np.nanmax(np.abs(kv[:, 1]))
    assert_within(o, expected, largest * (2 * kernels.unit + 1e-6))


@every_heads
def test_100_runs_give_the_same_bits(kernels: Kernels, heads: Heads) -> None:
    rng = np.random.default_rng(4)
    batch = ragged(rng, [1, 70, 1], [300, 10, 65], heads.PS)
    q, kv = make(kernels, heads, batch, rng)
    first = run(kernels, heads, q, kv, batch)
    for _ in range(99):
        np.testing.assert_array_equal(run(kernels, heads, q, kv, batch), first)


@every_heads
def test_padding_rows_leave_the_others_alone(kernels: Kernels, heads: Heads) -> None:
    """Rows of one token in page 0, which may be anything finite, beside others."""
    rng = np.random.default_rng(5)
    batch = ragged(rng, [2, 1], [20, 7], heads.PS)
    q, kv = make(kernels, heads, batch, rng)
    kv[0] = 0
    alone = run(kernels, heads, q, kv, batch)
    padded = kernels.run(
        f"attention_{heads.name}",
        q=np.concatenate([q, np.ones((2, heads.H, heads.D))]),
        kv=kv,
        row_offsets=np.array([0, 2, 3, 4, 5]),
        context_lengths=np.array([*batch.contexts, 1, 1]),
        page_table=np.concatenate([batch.table, np.zeros_like(batch.table)]),
    )[0].reshape(5, heads.H, heads.D)
    if kernels.on_cpu:
        np.testing.assert_array_equal(padded[:3], alone)
    else:
        assert_within(padded[:3], *expected_and_bound(kernels, heads, q, kv, batch))
    np.testing.assert_array_equal(padded[3:], 0)


@every_heads
def test_a_token_without_context_gives_zeros(kernels: Kernels, heads: Heads) -> None:
    if not kernels.on_cpu:
        pytest.skip("not in the contract (docs/architecture.md); the CPU kernel promises it")
    rng = np.random.default_rng(6)
    batch = ragged(rng, [2], [20], heads.PS)
    q, kv = make(kernels, heads, batch, rng)
    o = kernels.run(
        f"attention_{heads.name}",
        q=np.concatenate([q, np.ones((2, heads.H, heads.D))]),
        kv=kv,
        row_offsets=np.array([0, 2, 3]),  # the second request has no context, and no request owns the last token
        context_lengths=np.array([*batch.contexts, 0]),
        page_table=np.concatenate([batch.table, batch.table]),
    )[0].reshape(4, heads.H, heads.D)
    np.testing.assert_array_equal(o[:2], run(kernels, heads, q, kv, batch))
    np.testing.assert_array_equal(o[2:], 0)
