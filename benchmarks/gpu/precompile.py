"""Compile graphs for a GPU that is not here, and use them there without compiling.

    python -m benchmarks.gpu.precompile write FOLDER engine tiny float32 bfloat16 float16     no GPU needed
    python -m benchmarks.gpu.precompile use FOLDER mili.bench throughput --preset single ...  on the GPU's machine

`write` compiles for a virtual device and exports what MAX calls a MEF: the graph of Qwen3-0.6B in bfloat16 (engine), of
the tests' small model in float32 (tiny), and the graph of all kernels that tests/kernels use, in each dtype. `use` runs
a module with these in place of compiling; a graph that is not among them is compiled as always.
"""

from __future__ import annotations

import argparse
import hashlib
import runpy
import shutil
import sys
import time
from pathlib import Path

from max import driver
from max.dtype import DType
from max.engine import InferenceSession
from max.engine._precompiled_mefs import MefStore, _fingerprint
from max.graph import DeviceRef, Graph

from mili.kernel_package import kernel_package, package_store
from mili.kernel_path import kernel_path

GRAPHS = ("engine", "tiny", "float32", "bfloat16", "float16")


def artifact_name(graph: Graph) -> str:
    """Names a compiled graph after all that it was made from: its operations, the shapes of its weights, its kernels.

    MAX's own names tell graphs apart by inputs and outputs. Weights are neither, so one compiled for a longer table of
    angles would be taken, and read past the end of the shorter one. Kernels come as packages named after their contents
    (mili/kernel_package.py).
    """
    made_from = [_fingerprint(graph), *(package.name for package in graph.kernel_libraries_paths)]
    return f"{graph.name}-{hashlib.sha256(' '.join(made_from).encode()).hexdigest()[:16]}.mef"


def stored_graphs(places: list[Path]) -> MefStore:
    """The graphs in `places`; one that is not among them is declined, said so, and compiled as always."""
    files = {file.name for place in places for file in place.iterdir()}

    def key(graph: Graph) -> str | None:
        name = artifact_name(graph)
        if name in files:
            return name
        print(f"graph {graph.name} ({name}) is not among the precompiled ones: compiling it", file=sys.stderr)
        return None

    return MefStore.for_import(places, key=key)


def write(folder: Path, graphs: list[str], target: str) -> None:
    """Export the graphs of GRAPHS named, for `target`."""
    driver.set_virtual_device_api("cuda")
    driver.set_virtual_device_target_arch(target)
    driver.set_virtual_device_count(1)
    device = driver.Accelerator()
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy2(kernel_package(kernel_path()), folder)
    for name in graphs:
        start = time.perf_counter()
        place = folder / name
        session = InferenceSession(devices=[device, driver.CPU()] if name in ("engine", "tiny") else [device])
        InferenceSession.default_mef_store = MefStore.for_export(place, key=artifact_name)
        if name in ("engine", "tiny"):
            session.compile_reusing_mefs(engine_graph(device, name))
        else:
            from tests.kernels.harness import kernel_graph

            session.compile_reusing_mefs(kernel_graph(name, DeviceRef.from_device(device))[0])
        size = sum(file.stat().st_size for file in place.iterdir()) / 2**20
        print(f"{name}: {time.perf_counter() - start:.0f} s, {size:.1f} MiB", flush=True)


def engine_graph(device: driver.Device, name: str) -> Graph:
    """The graph that the engine loads: of Qwen3-0.6B in bfloat16, or of the tests' model in float32."""
    from mili.launch import shape_config
    from mili.model import build_graph
    from mili.weights import plan

    shape, dtype, positions = ("qwen3-0.6b", "bfloat16", 40960) if name == "engine" else ("tiny", "float32", 256)
    config = shape_config(shape)
    kind = DType[dtype]
    shapes = {}
    for tensor, group in plan(config).items():
        parts = [part.shape for part in group]
        shapes[tensor] = (kind, (sum(part[0] for part in parts), *parts[0][1:]))
    shapes["cos_sin"] = (DType.float32, (positions, config.head_dim))
    return build_graph(config, shapes, DeviceRef.from_device(device), kind, 16)


def use(folder: Path, arguments: list[str]) -> None:
    """Run a module with the graphs and the kernel packages of `folder`."""
    for package in folder.glob("*.mojoc"):  # under the name of its contents: of no use to other kernels, and no harm
        shutil.copy(package, package_store())
    places = [place for place in folder.iterdir() if (place / "manifest.json").is_file()]
    if places:
        InferenceSession.default_mef_store = stored_graphs(places)
    print(f"precompiled graphs: {sorted(place.name for place in places)}", file=sys.stderr)
    sys.argv = arguments
    sys.path.insert(0, "")
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


def main() -> None:
    """Write or use."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("write", "use"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--target", default="sm_90a")
    parser.add_argument("rest", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if options.what == "use":
        if not options.rest:
            parser.error("name the module to run, and its arguments")
        use(options.folder, options.rest)
        return
    if unknown := [name for name in options.rest if name not in GRAPHS]:
        parser.error(f"no graph is called {', '.join(unknown)}; choose from {', '.join(GRAPHS)}")
    write(options.folder, options.rest or list(GRAPHS), options.target)


if __name__ == "__main__":
    main()
