"""The versions of linear that the course climbs agree with float64, like the engine's own."""

import numpy as np
import pytest

from benchmarks.linear_cases import Case
from benchmarks.linear_ladder import LINEAR_STEPS, linear_step, linear_steps, linear_weights
from mili.packing import from_bfloat16


@pytest.mark.parametrize("name", LINEAR_STEPS)
@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 1), (1, 576, 576), (3, 17, 33), (7, 70, 130), (13, 130, 97)])
def test_every_step_agrees_with_float64(name: str, m: int, n: int, k: int) -> None:
    if name not in linear_steps():
        pytest.skip("this CPU has no AVX512-BF16")
    case = Case(m, n, k, "bfloat16", cold_bytes=0)
    x, w = from_bfloat16(case.x).astype(np.float64), from_bfloat16(case.w).astype(np.float64)
    result = linear_step(name, case, linear_weights(name, case)[0])
    assert (np.abs(result - x @ w.T) <= np.abs(x) @ np.abs(w.T) * 2.0**-19).all()
