"""Number formats and the packed layout, against their definitions in docs/architecture.md."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mili.packing import from_bfloat16, from_float32, pack, packed_shape, to_bfloat16, to_float32, unpack
from tests import tiny_models

SHAPES = [(16, 2), (16, 8), (32, 6), (17, 5), (1, 1), (15, 2), (48, 33), (211, 45)]


@pytest.mark.parametrize("shape", SHAPES)
def test_bfloat16_layout(shape: tuple[int, int]) -> None:
    rows, columns = shape
    w = np.arange(1, rows * columns + 1, dtype=np.uint16).reshape(shape)
    packed = pack(w)
    assert packed.shape == packed_shape(rows, columns, "bfloat16") == (-(-rows // 16), -(-columns // 2), 16, 2)
    for b, p, i, j in np.ndindex(packed.shape):
        inside = 16 * b + i < rows and 2 * p + j < columns
        assert packed[b, p, i, j] == (w[16 * b + i, 2 * p + j] if inside else 0)


@pytest.mark.parametrize("shape", SHAPES)
def test_float32_layout(shape: tuple[int, int]) -> None:
    rows, columns = shape
    w = np.arange(1, rows * columns + 1, dtype=np.float32).reshape(shape)
    packed = pack(w)
    assert packed.shape == packed_shape(rows, columns, "float32") == (-(-rows // 16), columns, 16)
    for b, k, i in np.ndindex(packed.shape):
        assert packed[b, k, i] == (w[16 * b + i, k] if 16 * b + i < rows else 0)


@given(st.integers(1, 70), st.integers(1, 40), st.sampled_from([np.uint16, np.float32]))
@settings(deadline=None, max_examples=40)
def test_unpack_is_the_inverse(rows: int, columns: int, storage: type) -> None:
    w = np.random.default_rng(rows * 41 + columns).integers(0, 60000, (rows, columns)).astype(storage)
    np.testing.assert_array_equal(unpack(pack(w), rows, columns), w)


def test_float16_has_no_packed_layout() -> None:
    with pytest.raises(ValueError, match="float16"):
        packed_shape(16, 16, "float16")


def test_bfloat16_rounds_to_nearest_even() -> None:
    values = np.random.default_rng(0).standard_normal(10_000).astype(np.float32) * np.float32(1e3)
    np.testing.assert_array_equal(to_bfloat16(values), tiny_models.to_bfloat16(values))
    step = 2.0**-7  # of bfloat16 between 1 and 2
    ties = np.array([1 + step / 2, 1 + 3 * step / 2, -1 - step / 2], np.float32)
    assert from_bfloat16(to_bfloat16(ties)).tolist() == [1.0, 1 + 2 * step, -1.0]


def test_bfloat16_of_special_values() -> None:
    nan = np.array([0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001], np.uint32).view(np.float32)
    assert np.isnan(from_bfloat16(to_bfloat16(nan))).all()
    special = np.array([np.inf, -np.inf, 0.0, -0.0, 1e-40, np.finfo(np.float32).max], np.float32)
    back = from_bfloat16(to_bfloat16(special))
    assert back[0] == np.inf
    assert back[1] == -np.inf
    assert np.signbit(back).tolist() == [False, True, False, True, False, False]
    assert back[5] == np.inf  # rounds up, as the format says


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_conversion_there_and_back(dtype: str) -> None:
    exact = np.array([[0.0, 1.0, -2.5, 0.15625], [96.0, -0.0078125, 3.0, 7.5]], np.float32)
    stored = from_float32(exact, dtype)
    assert stored.dtype.itemsize == (4 if dtype == "float32" else 2)
    np.testing.assert_array_equal(to_float32(stored, dtype), exact)
