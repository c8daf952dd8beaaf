"""Query/key norm, RoPE and the write into pages."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference.attention import qk_norm_rope
from reference.paged_attention import write_pages
from reference.rope import cos_sin_table
from tests.kernels.agreement import FLOAT32_UNIT, assert_within
from tests.kernels.harness import EPS, HEADS, Heads, Kernels
from tests.kernels.paged import lengths, ragged


@pytest.mark.parametrize("heads", HEADS, ids=lambda h: h.name)
@given(data=st.data(), magnitude=st.sampled_from([1.0, 1e3]), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=12)
def test_qk_norm_rope_write(kernels: Kernels, heads: Heads, data: st.DataObject, magnitude: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    requests = data.draw(lengths(heads))
    batch = ragged(rng, [n for n, _ in requests], [b for _, b in requests], heads.PS)
    tokens = sum(batch.new)
    qkv = kernels.rounded(rng.standard_normal((tokens, (heads.H + 2 * heads.KH) * heads.D)) * magnitude)
    cos_sin = cos_sin_table(max(batch.contexts), heads.D, 1e4).astype(np.float32).astype(np.float64)
    kv = kernels.rounded(rng.standard_normal((batch.pages, 2, heads.KH, heads.PS, heads.D)))
    slots = batch.slots(heads.PS)
    slots[rng.random(tokens) < 0.1] = -1
    norms = {}
    if heads.norm:
        norms = {name: kernels.rounded(rng.standard_normal(heads.D)) for name in ("q_weight", "k_weight")}
    q, cache = kernels.run(
        f"rope_{heads.name}", qkv=qkv, cos_sin=cos_sin, positions=batch.positions, slots=slots, kv=kv, **norms
    )
    wanted_q, k, v = qk_norm_rope(qkv, heads.KH, heads.D, cos_sin, batch.positions, **norms, eps=EPS)

    # A rotation may cancel: its error is relative to both of its terms, that is to the pair's length.
    def bound(x: np.ndarray) -> np.ndarray:
        half = heads.D // 2
        length = np.sqrt(x[..., :half] ** 2 + x[..., half:] ** 2)
        length = np.concatenate([length, length], -1)
        return (
            np.abs(x) * kernels.unit + 2 * length * FLOAT32_UNIT * (heads.D + 16) + 1e-7 * (kernels.dtype == "float16")
        )

    assert_within(q, wanted_q, bound(wanted_q))
    wanted, bounds = kv.copy(), np.zeros_like(kv)
    write_pages(wanted, k, v, slots)
    write_pages(bounds, bound(k), np.zeros_like(v), slots)
    assert_within(cache, wanted, bounds)  # what was not written is the same to the bit


@pytest.mark.parametrize("heads", [h for h in HEADS if h.norm][:2], ids=lambda h: h.name)
def test_a_token_has_the_same_bits_in_every_batch(kernels: Kernels, heads: Heads) -> None:
    rng = np.random.default_rng(0)
    batch = ragged(rng, [200], [3], heads.PS)
    qkv = rng.standard_normal((200, (heads.H + 2 * heads.KH) * heads.D))
    kv = np.zeros((batch.pages, 2, heads.KH, heads.PS, heads.D))
    shared = {"cos_sin": cos_sin_table(203, heads.D, 1e4), "kv": kv}
    if heads.norm:
        shared |= {name: rng.standard_normal(heads.D) for name in ("q_weight", "k_weight")}
    case, slots = f"rope_{heads.name}", batch.slots(heads.PS)
    whole, _ = kernels.run(case, qkv=qkv, positions=batch.positions, slots=slots, **shared)
    for rows in (slice(0, 1), slice(7, 8), slice(50, 117), slice(199, 200)):
        part, _ = kernels.run(case, qkv=qkv[rows], positions=batch.positions[rows], slots=slots[rows], **shared)
        np.testing.assert_array_equal(part, whole[rows])
