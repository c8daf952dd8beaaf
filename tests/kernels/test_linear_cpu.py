"""The CPU's linear: every way to multiply that this machine has, forced in turn."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.native.linear import available_paths, linear
from mili.packing import from_bfloat16, pack, to_bfloat16

SHAPES = [(1, 1), (16, 2), (17, 3), (64, 64), (65, 33), (100, 577), (130, 96), (576, 576), (200, 1536)]
"""(N, K): one block and less, odd sizes, whole and partial groups of blocks, tiles of 32 in K and not."""
ROWS = (1, 2, 3, 5, 6, 7, 8, 12, 13, 16, 17, 19, 31, 32, 33, 64)
CASES = [("float32", "fma"), ("bfloat16", "fma"), ("bfloat16", "dot"), ("bfloat16", "amx")]
NEEDS = {"dot": "AVX512-BF16", "amx": "AMX-BF16"}

Array = NDArray[Any]


def values(rng: np.random.Generator, rows: int, columns: int, dtype: str) -> Array:
    x = rng.standard_normal((rows, columns)).astype(np.float32)
    return to_bfloat16(x) if dtype == "bfloat16" else x


def exact(x: Array) -> NDArray[np.float64]:
    return (from_bfloat16(x) if x.dtype == np.uint16 else x).astype(np.float64)


@pytest.fixture(params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest) -> tuple[str, str]:
    dtype, path = request.param
    if path not in available_paths(dtype):
        pytest.skip(f"this CPU has no {NEEDS[path]}")
    return dtype, path


@pytest.mark.parametrize(("n", "k"), SHAPES)
def test_agrees_with_float64_and_is_batch_invariant(case: tuple[str, str], n: int, k: int) -> None:
    dtype, path = case
    rng = np.random.default_rng(n * 10_000 + k)
    w, x = values(rng, n, k, dtype), values(rng, 70, k, dtype)
    packed = pack(w)
    full = linear(x, packed, n, out_dtype="float32", path=path)
    expected = exact(x) @ exact(w).T
    # Rounding errors of a float32 sum add up like a random walk; sixteen roundings of the sum of sizes is far out.
    bound = (np.abs(exact(x)) @ np.abs(exact(w).T)) * 2.0**-24 * min(k + 1, 16)
    assert (np.abs(full - expected) <= bound).all()
    for m in ROWS:
        alone = linear(np.ascontiguousarray(x[:m]), packed, n, out_dtype="float32", path=path)
        assert np.array_equal(alone, full[:m]), f"{m} rows differ in bits from the first {m} of 70"


def test_one_row_anywhere_in_a_batch(case: tuple[str, str]) -> None:
    dtype, path = case
    rng = np.random.default_rng(1)
    packed, x = pack(values(rng, 80, 96, dtype)), values(rng, 41, 96, dtype)
    full = linear(x, packed, 80, path=path)
    for row in range(41):
        assert np.array_equal(linear(x[row : row + 1], packed, 80, path=path)[0], full[row])


def test_bfloat16_output_is_the_float32_output_rounded_once(case: tuple[str, str]) -> None:
    dtype, path = case
    if dtype == "float32":
        pytest.skip("float32 inputs give float32 outputs")
    rng = np.random.default_rng(2)
    packed, x = pack(values(rng, 50, 130, dtype)), values(rng, 9, 130, dtype)
    wide = linear(x, packed, 50, out_dtype="float32", path=path)
    assert np.array_equal(linear(x, packed, 50, path=path), to_bfloat16(wide))


def test_writes_its_output_and_nothing_else(case: tuple[str, str]) -> None:
    dtype, path = case
    rng = np.random.default_rng(3)
    for n, m in [(17, 7), (63, 33), (5, 1)]:
        packed, x = pack(values(rng, n, 40, dtype)), values(rng, m, 40, dtype)
        y = np.full((m + 2, n), 7.0, np.float32)
        linear(x, packed, n, out_dtype="float32", path=path, y=y[1:-1])
        assert (y[0] == 7).all()
        assert (y[-1] == 7).all()
        assert not (y[1:-1] == 7).any()


def test_large_values(case: tuple[str, str]) -> None:
    dtype, path = case
    rng = np.random.default_rng(4)
    w = values(rng, 48, 200, dtype)
    x = to_bfloat16(np.float32(1e3) * from_bfloat16(values(rng, 8, 200, "bfloat16")))
    if dtype == "float32":
        x = from_bfloat16(x)
    result = linear(x, pack(w), 48, out_dtype="float32", path=path)
    size = np.abs(exact(x)) @ np.abs(exact(w).T)
    assert (np.abs(result - exact(x) @ exact(w).T) <= size * 2.0**-20).all()


def test_infinite_and_nan_inputs_stay_in_their_row(case: tuple[str, str]) -> None:
    dtype, path = case
    rng = np.random.default_rng(5)
    packed, x = pack(values(rng, 32, 64, dtype)), values(rng, 20, 64, dtype)
    clean = linear(x, packed, 32, out_dtype="float32", path=path)
    spoiled = x.copy()
    spoiled[4, 3] = 0x7FC0 if dtype == "bfloat16" else np.nan
    spoiled[11, 0] = 0x7F80 if dtype == "bfloat16" else np.inf
    result = linear(spoiled, packed, 32, out_dtype="float32", path=path)
    assert not np.isfinite(result[[4, 11]]).any()
    others = [row for row in range(20) if row not in (4, 11)]
    assert np.array_equal(result[others], clean[others])


def test_a_hundred_runs_give_the_same_bits(case: tuple[str, str]) -> None:
    dtype, path = case
    rng = np.random.default_rng(6)
    packed, x = pack(values(rng, 576, 576, dtype)), values(rng, 13, 576, dtype)
    first = linear(x, packed, 576, path=path)
    for _ in range(100):
        assert np.array_equal(linear(x, packed, 576, path=path), first)


def test_the_cpu_decides_by_itself() -> None:
    rng = np.random.default_rng(7)
    packed, x = pack(values(rng, 64, 128, "bfloat16")), values(rng, 6, 128, "bfloat16")
    best = available_paths("bfloat16")[-1]
    assert np.array_equal(linear(x, packed, 64), linear(x, packed, 64, path=best))
