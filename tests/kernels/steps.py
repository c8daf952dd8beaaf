"""One step of a ladder in the place of the compiled kernels, so that the kernels' own tests check it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.native import steps
from mili.packing import Array, from_bfloat16, to_bfloat16, to_float32
from tests.kernels.harness import EPS, HEADS

THETA = 1e4
"""Of the tables in tests/kernels/test_rope.py."""
HEAD_DIMS = (64, 80, 128)
"""Head dimensions that the extensions of the steps are built for."""


class StepKernels:
    """Runs the cases of `tests.kernels.harness.Kernels` that one step of one ladder can do, in bfloat16 on the CPU."""

    dtype = "bfloat16"
    on_cpu = True
    unit = 2.0**-8 * 1.001

    def __init__(self, ladder: str, step: str) -> None:
        self.ladder, self.step = ladder, step

    def rounded(self, x: Array) -> NDArray[np.float64]:
        """What the kernel sees of x: rounded to bfloat16, as float64."""
        return to_float32(to_bfloat16(x.astype(np.float32)), self.dtype).astype(np.float64)

    def run(self, name: str, **arrays: Any) -> list[Array]:
        """As `Kernels.run`: outputs as float32 (tokens as int32), then the cache if the case has one."""
        if name in ("argmax", "sample"):
            given = {key: np.ascontiguousarray(a, np.float32) for key, a in arrays.items()}
            return [getattr(steps, name)(self.step, **given)]
        bits: dict[str, Array] = {
            key: to_bfloat16(np.ascontiguousarray(arrays.pop(key), np.float32))
            for key in ("x", "residual", "weight", "gate_up", "qkv", "q_weight", "k_weight", "q", "kv")
            if key in arrays
        }
        if name == "add_rms_norm":
            made = steps.add_rms_norm(self.step, **bits, eps=EPS)
            return [from_bfloat16(a) for a in made]
        if name == "swiglu":
            return [from_bfloat16(steps.swiglu(self.step, **bits))]
        heads = next(h for h in HEADS if name.endswith(h.name))
        if name.startswith("rope"):
            return self._rope(heads.H, bits, arrays)
        int32 = {key: np.ascontiguousarray(a, np.int32) for key, a in arrays.items()}
        o = steps.attention(self.step, **bits, **int32, scale=heads.scale, window=heads.window)
        return [from_bfloat16(o), from_bfloat16(bits["kv"])]

    def _rope(self, heads: int, bits: dict[str, Array], arrays: dict[str, Any]) -> list[Array]:
        into = steps.Rope(
            np.ascontiguousarray(arrays["cos_sin"], np.float32),
            np.ascontiguousarray(arrays["positions"], np.int32),
            np.ascontiguousarray(arrays["slots"], np.int32),
            bits["kv"],
            THETA,
        )
        q = steps.qk_norm_rope_write(
            self.step, bits["qkv"], heads, bits.get("q_weight"), bits.get("k_weight"), EPS, into
        )
        return [from_bfloat16(q), from_bfloat16(into.kv)]
