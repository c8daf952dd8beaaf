"""Paged attention equals dense attention wherever the pages lie and however the batch is mixed."""

import numpy as np
import pytest

from reference.attention import attention
from reference.paged_attention import gather_pages, paged_attention, write_pages


@pytest.mark.parametrize("page_size", [1, 8, 16])
@pytest.mark.parametrize("window", [0, 5])
def test_a_ragged_batch_in_scattered_pages_equals_each_request_alone(page_size: int, window: int) -> None:
    rng = np.random.default_rng(page_size)
    heads, kv_heads, head_dim = 4, 2, 6
    new = [1, 7, 0, 16, 3]  # decode, a chunk, nothing, a prefill, a chunk
    contexts = [17, 23, 4, 16, 8]
    pages = [-(-length // page_size) for length in contexts]
    order = rng.permutation(sum(pages) + 3)
    table = np.zeros((len(new), max(pages)), np.int32)
    kv = np.full((len(order), 2, kv_heads, page_size, head_dim), np.nan, np.float32)
    keys = [rng.standard_normal((length, kv_heads, head_dim)).astype(np.float32) for length in contexts]
    values = [rng.standard_normal((length, kv_heads, head_dim)).astype(np.float32) for length in contexts]
    for request, length in enumerate(contexts):
        start = sum(pages[:request])
        table[request, : pages[request]] = order[start : start + pages[request]]
        slots = np.array([table[request, p // page_size] * page_size + p % page_size for p in range(length)])
        write_pages(kv, keys[request], values[request], slots)
        gathered = gather_pages(kv, table[request], length)
        np.testing.assert_array_equal(gathered[0], keys[request])
        np.testing.assert_array_equal(gathered[1], values[request])

    offsets = np.concatenate([[0], np.cumsum(new)]).astype(np.int32)
    padding = 2
    q = rng.standard_normal((sum(new) + padding, heads, head_dim)).astype(np.float32)
    out = paged_attention(q, kv, offsets, np.array(contexts), table, window=window)
    for request in range(len(new)):
        rows = slice(offsets[request], offsets[request + 1])
        if rows.start < rows.stop:
            expected = attention(q[rows], keys[request], values[request], window=window)
            np.testing.assert_allclose(out[rows], expected, rtol=1e-6)
    np.testing.assert_array_equal(out[sum(new) :], 0)


def test_padding_is_not_written() -> None:
    kv = np.zeros((2, 2, 1, 8, 4), np.float32)
    token = np.ones((2, 1, 4), np.float32)
    write_pages(kv, token, 2 * token, np.array([-1, 11]))
    assert kv[1, 0, 0, 3].tolist() == [1] * 4
    assert kv[1, 1, 0, 3].tolist() == [2] * 4
    assert np.count_nonzero(kv) == 8
