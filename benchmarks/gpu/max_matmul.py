"""MAX's matrix product in bfloat16 against float64, at small row counts: `python -m benchmarks.gpu.max_matmul FILE`.

The graph is the least in which a product was once seen wrong, at 2 and 8 rows: the second product's input is a slice of
the first one's output.

    y = x [M, 1024] @ a.T [1024, 4096]        z = y[:, :2048] @ b.T [2048, 1024]

M is symbolic, so one compiled graph has every variant that MAX may choose. MILI does not use these products.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from max.driver import CPU, Accelerator, Buffer, accelerator_count
from max.dtype import DType
from max.engine import InferenceSession
from max.graph import DeviceRef, Graph, TensorType, ops
from numpy.typing import NDArray

from mili.packing import from_bfloat16, to_bfloat16

E, N, K = 1024, 4096, 2048
ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 17, 32, 64)


def graph(device: DeviceRef) -> Graph:
    """Both products, and the second on a contiguous copy of its input."""
    kind = DType.bfloat16
    types = [TensorType(kind, shape, device) for shape in (["rows", E], [N, E], [E, K], ["rows", K])]
    with Graph("matmul_of_a_slice", input_types=types) as made:
        x, a, b, dense = (value.tensor for value in made.inputs)
        y = x @ ops.transpose(a, 0, 1)
        made.output(y, y[:, :K] @ ops.transpose(b, 0, 1), dense @ ops.transpose(b, 0, 1))
    return made


def error(got: NDArray[Any], want: NDArray[np.float64]) -> float:
    """||got - want|| / ||want||."""
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


def main() -> None:
    """Compile, run every row count, write the relative errors."""
    device = Accelerator() if accelerator_count() else CPU()
    start = time.perf_counter()
    model = InferenceSession(devices=[device]).load(graph(DeviceRef.from_device(device)))
    result: dict[str, Any] = {"device": str(device), "compile_s": round(time.perf_counter() - start, 1), "rows": {}}
    print(result, flush=True)
    rng = np.random.default_rng(0)

    def buffer(values: NDArray[np.uint16]) -> Buffer:
        return Buffer.from_numpy(values).view(DType.bfloat16, values.shape).to(device)

    def fetched(output: Buffer) -> NDArray[np.float64]:
        host = output.to(CPU())
        return from_bfloat16(host.view(DType.uint16, host.shape).to_numpy()).astype(np.float64)

    a, b = (to_bfloat16((rng.standard_normal(shape) * 0.03).astype(np.float32)) for shape in ((N, E), (E, K)))
    a64, b64 = (from_bfloat16(w).astype(np.float64) for w in (a, b))
    fixed = buffer(a), buffer(b)
    for rows in ROWS:
        x, dense = (to_bfloat16(rng.standard_normal((rows, k)).astype(np.float32)) for k in (E, K))
        outputs = [fetched(output) for output in model.execute(buffer(x), *fixed, buffer(dense))]
        x64, dense64 = (from_bfloat16(values).astype(np.float64) for values in (x, dense))
        wanted = x64 @ a64.T, outputs[0][:, :K] @ b64.T, dense64 @ b64.T
        errors = [round(error(got, want), 5) for got, want in zip(outputs, wanted, strict=True)]
        result["rows"][rows] = dict(zip(("first", "of_slice", "of_dense"), errors, strict=True))
        print(rows, result["rows"][rows], flush=True)
        Path(sys.argv[1]).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
