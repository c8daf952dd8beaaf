"""Linear: agreement with float64, at every row count the kernels distinguish, and equal bits in every batch."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reference.linear import linear
from tests.kernels.agreement import FLOAT32_UNIT, assert_within
from tests.kernels.harness import Kernels

counts = st.one_of(st.integers(1, 20), st.sampled_from([31, 32, 33, 63, 64, 65, 127, 128, 129, 200]))
widths = st.one_of(st.integers(1, 80), st.sampled_from([127, 128, 129, 255, 256, 257, 576, 1000]))


@given(m=counts, n=widths, k=widths, magnitude=st.sampled_from([1.0, 1e3]), seed=st.integers(0, 2**32 - 1))
@example(m=1, n=1, k=1, magnitude=1.0, seed=0)
@example(m=1, n=960, k=576, magnitude=1.0, seed=0)
@example(m=2, n=17, k=33, magnitude=1e3, seed=1)
@example(m=300, n=49, k=1537, magnitude=1.0, seed=2)
@settings(max_examples=60)
def test_linear(kernels: Kernels, m: int, n: int, k: int, magnitude: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = kernels.rounded(rng.standard_normal((m, k)) * magnitude)
    w = kernels.rounded(rng.standard_normal((n, k)))
    expected = linear(x, w)
    # Any order of float32 sums; a kernel may also flush tiny products to zero, as bfloat16 dot products do.
    sums = linear(np.abs(x), np.abs(w)) * FLOAT32_UNIT * (k + 1) + k * 2.0**-120
    (y,) = kernels.run("linear_float32", n, x=x, w=w)
    assert_within(y, expected, sums)
    (y,) = kernels.run("linear", n, x=x, w=w)
    representable = np.abs(expected) < (65000.0 if kernels.dtype == "float16" else np.inf)
    bound = sums + np.abs(expected) * kernels.unit + (6e-8 if kernels.dtype == "float16" else 0)
    assert_within(np.where(representable, y, 0), np.where(representable, expected, 0), bound)


@pytest.mark.parametrize(("n", "k"), [(50, 576), (257, 129)])
def test_a_row_has_the_same_bits_in_every_batch(kernels: Kernels, n: int, k: int) -> None:
    if not kernels.on_cpu:
        pytest.skip("GPU kernels agree to rounding only")
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((150, k)), rng.standard_normal((n, k))
    (whole,) = kernels.run("linear_float32", n, x=x, w=w)
    for rows in (1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 33, 64, 100, 149):
        for start in (0, 1, 150 - rows):
            (part,) = kernels.run("linear_float32", n, x=x[start : start + rows], w=w)
            np.testing.assert_array_equal(part, whole[start : start + rows], err_msg=f"{rows} rows from {start}")


@pytest.mark.parametrize("m", [1, 6, 40])
def test_100_runs_give_the_same_bits(kernels: Kernels, m: int) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((m, 300)), rng.standard_normal((500, 300))
    (first,) = kernels.run("linear_float32", 500, x=x, w=w)
    for _ in range(99):
        np.testing.assert_array_equal(kernels.run("linear_float32", 500, x=x, w=w)[0], first)


def test_a_matrix_of_the_wrong_shape_is_refused(kernels: Kernels) -> None:
    with pytest.raises(Exception, match=r"mili_linear: .* of (packed )?w is (3 but must be 2|40 but must be 20)"):
        kernels.run("linear", 20, x=np.zeros((2, 12)), w=np.zeros((40, 12)))
