"""The shares of decode attention: they cover every unit once, and whoever joins parts knows how many there are."""

import numpy as np
import pytest

from benchmarks.native import load


@pytest.mark.parametrize("longest", [1, 4, 9, 40, 400, 3000])
def test_shares_cover_the_line_and_parts_are_known(longest: int) -> None:
    plan = load("attention_plan_native")
    rng = np.random.default_rng(longest)
    cut = 0
    for items in [1, 2, 3, 8, 20, 64, 64, 300]:
        units = rng.integers(1, longest + 1, items).astype(np.int32)
        if items == 64:
            units[:] = longest
        total = int(units.sum())
        begins, lasts = np.full(plan.most(), -1, np.int32), np.full(items, -1, np.int32)
        count = plan.begins(units.ctypes.data, items, begins.ctypes.data)
        assert plan.lasts(units.ctypes.data, items, lasts.ctypes.data) == total
        assert min(8, total) <= count <= plan.most()
        assert (begins[count:] == -1).all()
        bounds = [*begins[:count].tolist(), total]
        assert bounds[0] == 0
        assert bounds == sorted(bounds)
        ends = np.cumsum(units)
        for begin, end, last in zip((ends - units).tolist(), ends.tolist(), lasts.tolist(), strict=True):
            mine = [s for s in range(count) if max(bounds[s], begin) < min(bounds[s + 1], end)]
            if len(mine) > 1:  # a place for each part, in order, and none left empty
                cut += 1
                assert mine == list(range(mine[0], last + 1))
    assert cut or longest == 1
