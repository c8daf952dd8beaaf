"""The CPU's attention on each of its paths, whatever this CPU would choose: agreement, equal bits, cores."""

import numpy as np
import pytest

from benchmarks.native.attention import HEAD_DIMS, attention
from mili.packing import from_float32, to_float32
from reference.paged_attention import paged_attention
from tests.kernels.agreement import assert_within
from tests.kernels.paged import Ragged, ragged

CASES = [("float32", "fma"), ("bfloat16", "fma"), ("bfloat16", "best")]
STEPS = [
    ([1], [0]),
    ([1], [1500]),  # one token, many spans: cut among cores
    ([300], [0]),
    ([1, 5, 200, 1], [700, 100, 30, 64]),
    ([1] * 9, [255, 256, 257, 511, 512, 513, 63, 64, 65]),
]


def make(dtype: str, batch: Ragged, shape: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    H, KH, D, PS = shape
    rng = np.random.default_rng(0)
    q = rng.standard_normal((sum(batch.new), H, D)).astype(np.float32)
    kv = rng.standard_normal((batch.pages, 2, KH, PS, D)).astype(np.float32)
    return from_float32(q, dtype), from_float32(kv, dtype)


@pytest.mark.parametrize("window", [0, 70])
@pytest.mark.parametrize("step", STEPS, ids=str)
@pytest.mark.parametrize("head_dim", HEAD_DIMS)
@pytest.mark.parametrize(("dtype", "path"), CASES)
def test_every_path_agrees(
    dtype: str, path: str, head_dim: int, step: tuple[list[int], list[int]], window: int
) -> None:
    shape = (6, 2, head_dim, 16)
    batch = ragged(np.random.default_rng(1), *step, shape[3])
    q, kv = make(dtype, batch, shape)
    arguments = (batch.row_offsets, np.array(batch.contexts), batch.table)
    o = to_float32(attention(q, kv, *arguments, window=window, path=path), dtype)
    wide = [to_float32(a, dtype).astype(np.float64) for a in (q, kv)]
    expected = paged_attention(*wide, *arguments, head_dim**-0.5, window)
    absolute = np.concatenate([wide[1][:, :1], np.abs(wide[1][:, 1:])], 1)
    weighted = paged_attention(wide[0], absolute, *arguments, head_dim**-0.5, window)
    unit = 2.0**-8 if dtype == "bfloat16" else 2.0**-24 * (4 * head_dim + 200)
    assert_within(o, expected, 1.01 * unit * (np.abs(expected) + weighted) + 1e-30)


@pytest.mark.parametrize(("dtype", "path"), CASES)
def test_spans_on_several_cores_give_the_bits_of_one_walk(dtype: str, path: str) -> None:
    """One token alone is cut into spans; among many requests it is not. Both give the same bits."""
    shape = (9, 3, 64, 16)
    batch = ragged(np.random.default_rng(2), [1] * 40, [1300] + [5] * 39, 16)
    q, kv = make(dtype, batch, shape)
    together = attention(q, kv, batch.row_offsets, np.array(batch.contexts), batch.table, path=path)
    step = batch.only(0, 0, 1)
    alone = attention(q[:1], kv, step["row_offsets"], step["context_lengths"], step["page_table"], path=path)
    np.testing.assert_array_equal(alone[0], together[0])
