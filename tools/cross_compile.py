"""Compile every operation of the engine for GPUs that are not here: `python tools/cross_compile.py [TARGET ...]`.

MAX compiles a graph for a virtual device, so a machine without a GPU can prove that every kernel compiles for one. One
graph a target holds every op of mili/ops.py in bfloat16 (head dimension 128) and float32 (80); the steps of the GPU
ladders (kernels/steps/) are compiled beside it. Exits with 1 and the compiler's message when a target fails. Default
targets: sm_80 (A100), sm_90a (H100), gfx942 (MI300X).

`--all` adds head dimensions 64 and 96 and float16, which take the same code with other numbers, for more time.
On sm_80 and sm_90a bfloat16 and float16 use tensor cores; on gfx942 the float32-product kernels of
`linear_simple_gpu.mojo` and `attention_simple_gpu.mojo` serve every dtype: right, not tuned. The steps that need
NVIDIA's tensor cores or asynchronous copies are left out there.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TARGETS = {"sm_80": "cuda", "sm_90a": "cuda", "gfx942": "hip"}


def compile_for(target: str, every: bool) -> None:
    """Compile the graph of all ops for `target`, in `every` case or the two that differ most; raises MAX's error."""
    from max import driver

    driver.set_virtual_device_api(TARGETS[target])
    driver.set_virtual_device_target_arch(target)
    driver.set_virtual_device_count(1)
    from max.driver import Accelerator
    from max.dtype import DType
    from max.engine import InferenceSession

    from benchmarks.gpu.all_ops import graph_of_all_ops

    cases = [(DType.bfloat16, 128), (DType.float32, 80)]
    if every:
        cases += [(DType.bfloat16, 64), (DType.float16, 96)]
    device = Accelerator()
    InferenceSession(devices=[device]).compile(graph_of_all_ops(device, cases, sampling=True))


def compile_steps(target: str, root: Path) -> subprocess.CompletedProcess[str]:
    """Compile the steps of the GPU ladders for `target`."""
    mojo = Path(sys.executable).parent / "mojo"
    with tempfile.TemporaryDirectory() as folder:
        output = ["--emit", "shared-lib", "-o", str(Path(folder) / "steps_ext.so")]
        command = [str(mojo), "build", "--target-accelerator", target, "-I", str(root), *output]
        command.append(str(root / "benchmarks" / "gpu" / "steps_ext.mojo"))
        return subprocess.run(command, capture_output=True, text=True, check=False)


def main() -> int:
    """Compile for each target in its own process; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("targets", nargs="*", default=list(TARGETS), help=f"some of {', '.join(TARGETS)}")
    parser.add_argument("--all", action="store_true", help="more head dimensions, and float16")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    for target in args.targets:
        if target not in TARGETS:
            parser.error(f"{target} is not a known target; choose from {', '.join(TARGETS)}")
    if args.here:
        compile_for(args.targets[0], args.all)
        # Compiled. A process that had come so far once aborted later ("terminate called without an active exception"),
        # presumably when the interpreter ended while a thread of MAX's compiler still ran.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    root = Path(__file__).resolve().parent.parent
    env = os.environ | {"PYTHONPATH": str(root)}
    failed = []
    for target in args.targets:
        start = time.perf_counter()
        command = [sys.executable, __file__, "--here", target, *(["--all"] if args.all else [])]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root, env=env)
        if done.returncode == 0:
            done = compile_steps(target, root)
        if done.returncode:
            failed.append(target)
            print(f"{target}: FAILED\n{done.stdout[-4000:]}{done.stderr[-8000:]}", flush=True)
        else:
            print(f"{target}: every op and step compiles ({time.perf_counter() - start:.0f} s)", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
