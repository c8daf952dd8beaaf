"""Compile every operation of the engine for GPUs that are not here: `python tools/cross_compile.py [TARGET ...]`.

MAX compiles a graph for a virtual device, so a machine without a GPU can prove that every kernel compiles for one. One
graph a target holds every op of mili/ops.py in each dtype, attention and RoPE at several head dimensions. Exits with
1 and the compiler's message when a target fails. Default targets: sm_80 (A100), sm_90a (H100), gfx942 (MI300X).

On sm_80 and sm_90a bfloat16 and float16 use tensor cores; on gfx942 the float32-product kernels of
`linear_simple_gpu.mojo` and `attention_simple_gpu.mojo` serve every dtype: right, not tuned.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from max.driver import Device
    from max.graph import Graph

TARGETS = {"sm_80": "cuda", "sm_90a": "cuda", "gfx942": "hip"}


def compile_for(target: str) -> None:
    """Compile the graph of all ops for `target`; raises what the compiler raises."""
    from max import driver

    driver.set_virtual_device_api(TARGETS[target])
    driver.set_virtual_device_target_arch(target)
    driver.set_virtual_device_count(1)
    from max.driver import Accelerator
    from max.engine import InferenceSession

    device = Accelerator()
    InferenceSession(devices=[device]).compile(graph_of_all_ops(device))


def graph_of_all_ops(device: Device) -> Graph:
    """A graph that stages every op once for each dtype and head dimension that kernels treat differently."""
    from max.dtype import DType
    from max.graph import BufferType, DeviceRef, Graph, TensorType

    from mili import ops
    from mili.kernel_path import kernel_path

    ref = DeviceRef.from_device(device)
    int32, float32 = DType.int32, DType.float32
    cases = [(DType.bfloat16, 128), (DType.bfloat16, 64), (DType.float16, 96), (float32, 80)]
    kv_heads, group, page_size, width, vocabulary = 2, 2, 16, 256, 1000
    types = [TensorType(int32, ["tokens"], ref)] * 3
    types += [TensorType(int32, ["offsets"], ref), TensorType(int32, ["rows"], ref)]
    types += [TensorType(int32, ["rows", "pages"], ref), TensorType(int32, ["logits"], ref)]
    shared = len(types)
    for dtype, dim in cases:
        qkv = (group * kv_heads + 2 * kv_heads) * dim
        types += [
            TensorType(dtype, [vocabulary, width], ref),
            TensorType(dtype, [width], ref),
            TensorType(dtype, [qkv, width], ref),
            TensorType(dtype, [dim], ref),
            TensorType(float32, ["positions", dim], ref),
            BufferType(dtype, ["cache", 2, kv_heads, page_size, dim], ref),
            TensorType(dtype, [2 * width, group * kv_heads * dim], ref),
        ]
    with Graph("all_ops", input_types=types, custom_extensions=[kernel_path()]) as graph:
        tokens, positions, slots, offsets, lengths, table, rows = (v.tensor for v in graph.inputs[:shared])
        outputs = []
        for i in range(len(cases)):
            at = graph.inputs[shared + 7 * i : shared + 7 * i + 7]
            embed, weight, qkv, norm, cos_sin = (v.tensor for v in at[:5])
            cache, out = at[5].buffer, at[6].tensor
            x = ops.embedding(tokens, embed, width)
            h = ops.rms_norm(x, weight, 1e-6)
            h = ops.linear(h, qkv, int(qkv.shape[0]))
            q_norm = norm if i % 2 == 0 else None
            q = ops.qk_norm_rope_write(h, q_norm, q_norm, 1e-6, cos_sin, positions, slots, cache)
            o = ops.attention(q, cache, offsets, lengths, table, 0.1)
            h = ops.swiglu(ops.linear(o, out, 2 * width))
            h, x = ops.add_rms_norm(h, x, weight, 1e-6)
            logits = ops.linear(ops.gather_rows(h, rows), embed, vocabulary, out_dtype=float32)
            outputs += [ops.argmax(logits), x]
        graph.output(*outputs)
    return graph


def main() -> int:
    """Compile for each target in its own process; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("targets", nargs="*", default=list(TARGETS), help=f"some of {', '.join(TARGETS)}")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    for target in args.targets:
        if target not in TARGETS:
            parser.error(f"{target} is not a known target; choose from {', '.join(TARGETS)}")
    if args.here:
        compile_for(args.targets[0])
        return 0
    root = Path(__file__).resolve().parent.parent
    env = os.environ | {"PYTHONPATH": str(root)}
    failed = []
    for target in args.targets:
        start = time.perf_counter()
        command = [sys.executable, __file__, "--here", target]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root, env=env)
        if done.returncode:
            failed.append(target)
            print(f"{target}: FAILED\n{done.stdout[-4000:]}{done.stderr[-8000:]}", flush=True)
        else:
            print(f"{target}: every op compiles ({time.perf_counter() - start:.0f} s)", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
