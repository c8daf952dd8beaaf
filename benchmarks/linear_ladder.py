"""The ladder of the CPU's linear: its steps on the gate and up matrix of SmolLM2 in bfloat16."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks.ceilings import Ceilings
from benchmarks.linear_cases import Case, in_turn, torch_call
from benchmarks.native import load
from benchmarks.native.linear import available_paths
from benchmarks.rungs import PEER, Rung
from benchmarks.timing import median_seconds

LINEAR_STEPS = {
    "naive": "the definition",
    "vector": "16 lanes along K",
    "rows": "4 outputs at once",
    "cores": "all cores",
    "packed": "packed weights, 4 blocks",
    "dot": "bfloat16 dot products",
    "tiles": "12 rows x 2 blocks, prefetch",
}


def linear_step(name: str, case: Case, w: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Returns y [m, n] of one step; w is row-major before step `packed`, packed from there on."""
    y = np.empty((case.m, case.n), np.float32)
    load("linear_steps_native").linear(name, (y.ctypes.data, case.x.ctypes.data, w.ctypes.data, case.m, case.n, case.k))
    return y


def linear_weights(name: str, case: Case) -> list[Any]:
    """The copies of w in the layout that a step reads."""
    packed = list(LINEAR_STEPS).index(name) >= list(LINEAR_STEPS).index("packed")
    return case.packed if packed else case.row_major()


def linear_steps() -> list[str]:
    """The steps that this CPU can run."""
    return [name for name in LINEAR_STEPS if name != "dot" or "dot" in available_paths("bfloat16")]


def linear_ladder(rows: Sequence[int], ceilings: Ceilings, seconds: float) -> list[Rung]:
    """Times every step, and PyTorch if installed; the limit is reading the weights, or the arithmetic."""
    rungs = []
    for m in rows:
        case = Case(m, 3072, 576, "bfloat16")
        name = f"{m} rows" if m > 1 else "1 row"
        size = (case.flops, case.nbytes, case.floor(ceilings))

        def time(call: Callable[[], Any]) -> float:
            return median_seconds(call, seconds, least=3)

        for step in linear_steps():
            call = in_turn(partial(linear_step, step, case), linear_weights(step, case))
            rungs.append(Rung(step, LINEAR_STEPS[step], name, time(call), *size))
        peer = torch_call(case, ceilings.cores)
        if peer is not None:
            rungs.append(Rung(PEER, "for comparison", name, time(peer), *size))
    return rungs
