"""Runs one kernel at a time out of one compiled graph that holds them all.

Compiling a graph costs about 15 s whatever it holds, so all ops share one: a call gives tensors to the op under test
and empty ones to the others, which then have nothing to do. Every size that the engine leaves symbolic is symbolic
here, and so are E, I, N, K and V; heads, head dimension and page size are static, as in the engine, and come in the
variants of HEADS.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from max.driver import CPU, Accelerator, Buffer
from max.dtype import DType
from max.engine import InferenceSession
from max.graph import BufferType, DeviceRef, Graph, TensorType, TensorValue
from numpy.typing import NDArray

from mili import ops
from mili.kernel_package import kernel_package
from mili.kernel_path import kernel_path
from mili.packing import Array, from_bfloat16, from_float32, pack, to_float32

EPS = 1e-6


@dataclass(frozen=True)
class Heads:
    """One shape of attention: H query heads, KH key/value heads of D values, pages of PS tokens."""

    H: int
    KH: int
    D: int
    PS: int
    norm: bool = True
    window: int = 0
    scale: float = 0.125

    @property
    def name(self) -> str:
        return f"h{self.H}_{self.KH}_d{self.D}_p{self.PS}" + (f"_w{self.window}" if self.window else "")


HEADS = (
    Heads(9, 3, 64, 16),
    Heads(4, 1, 80, 8, norm=False),
    Heads(2, 2, 96, 64),
    Heads(16, 2, 128, 128),
    Heads(3, 3, 6, 32),
    Heads(2, 1, 64, 64, norm=False, window=33),
)
"""Head ratios 1, 2, 3, 4 and 8; every page size; head dimensions of real models and an awkward one; a window."""

Shape = Sequence[int | str]


@dataclass(frozen=True)
class Case:
    """One op in the graph: the kind and shape of each input, and the function that stages it.

    A kind is a dtype, or "x": the dtype under test; "matrix": [N, K] in it, packed where the device wants that; "kv":
    a buffer of it, changed in place. The input `like` only lends its length to a dimension of the output.
    """

    inputs: Mapping[str, tuple[str, Shape]]
    forward: Callable[..., Any]


def _cases() -> dict[str, Case]:
    """All cases: the ops without heads, then RoPE and attention for each of HEADS."""
    x, i32, matrix, like = "x", "int32", "matrix", ("int8", ["like"])
    cases = {
        "resolve_tokens": Case({"tokens": (i32, ["T"]), "drawn": (i32, ["R"])}, ops.resolve_tokens),
        "embedding": Case(
            {"tokens": (i32, ["T"]), "table": (matrix, ["V", "E"]), "like": like},
            lambda tokens, table, like: ops.embedding(tokens, table, like.shape[0]),
        ),
        "gather_rows": Case({"x": (x, ["T", "E"]), "rows": (i32, ["L"])}, ops.gather_rows),
        "rms_norm": Case({"x": (x, ["T", "E"]), "weight": (x, ["E"])}, lambda a, w: ops.rms_norm(a, w, EPS)),
        "add_rms_norm": Case(
            {"x": (x, ["T", "E"]), "residual": (x, ["T", "E"]), "weight": (x, ["E"])},
            lambda a, r, w: ops.add_rms_norm(a, r, w, EPS),
        ),
        "linear": Case(
            {"x": (x, ["M", "K"]), "w": (matrix, ["N", "K"]), "like": like},
            lambda a, w, like: ops.linear(a, w, like.shape[0]),
        ),
        "linear_float32": Case(
            {"x": (x, ["M", "K"]), "w": (matrix, ["N", "K"]), "like": like},
            lambda a, w, like: ops.linear(a, w, like.shape[0], DType.float32),
        ),
        "swiglu": Case({"gate_up": (x, ["T", "I2"])}, ops.swiglu),
        "argmax": Case({"logits": ("float32", ["L", "V"])}, ops.argmax),
        "sample": Case({"logits": ("float32", ["L", "V"]), "fields": ("float32", ["L", 5])}, ops.sample),
    }
    for heads in HEADS:
        cases[f"rope_{heads.name}"] = _rope_case(heads)
        cases[f"attention_{heads.name}"] = _attention_case(heads)
    return cases


def _rope_case(s: Heads) -> Case:
    weights: dict[str, tuple[str, Shape]] = {"q_weight": ("x", [s.D]), "k_weight": ("x", [s.D])} if s.norm else {}

    def forward(qkv: Any, *rest: Any) -> Any:
        q_weight, k_weight = rest[:2] if s.norm else (None, None)
        return ops.qk_norm_rope_write(qkv, q_weight, k_weight, EPS, *rest[-4:])

    return Case(
        {
            "qkv": ("x", ["T", (s.H + 2 * s.KH) * s.D]),
            **weights,
            "cos_sin": ("float32", ["positions", s.D]),
            "positions": ("int32", ["T"]),
            "slots": ("int32", ["T"]),
            "kv": ("kv", ["pages", 2, s.KH, s.PS, s.D]),
        },
        forward,
    )


def _attention_case(s: Heads) -> Case:
    return Case(
        {
            "q": ("x", ["T", s.H, s.D]),
            "kv": ("kv", ["pages", 2, s.KH, s.PS, s.D]),
            "row_offsets": ("int32", ["B1"]),
            "context_lengths": ("int32", ["B"]),
            "page_table": ("int32", ["B", "P"]),
        },
        lambda q, kv, offsets, lengths, table: ops.attention(q, kv, offsets, lengths, table, s.scale, s.window),
    )


def sizes_of(kind: str, shape: Shape, dtype: str, on_cpu: bool) -> Shape:
    """The shape of an input: packed if it is a matrix on the CPU."""
    if kind != "matrix" or not on_cpu:
        return shape
    n, k = shape
    return [f"{n}_blocks", f"{k}_pairs", 16, 2] if dtype == "bfloat16" else [f"{n}_blocks", k, 16]


def kernel_graph(dtype: str, device: DeviceRef) -> tuple[Graph, dict[str, range]]:
    """The graph of all cases in one dtype, and which of its outputs belong to each."""
    cases = _cases()
    outputs: dict[str, range] = {}

    def forward(*values: Any) -> list[TensorValue]:
        results: list[TensorValue] = []
        left = iter(values)
        for name, case in cases.items():
            made = case.forward(*(next(left) for _ in case.inputs))
            made = made if isinstance(made, tuple) else (made,)
            outputs[name] = range(len(results), len(results) + len(made))
            results += made
        return results

    types = [
        (BufferType if kind == "kv" else TensorType)(
            DType[kind if kind in ("int8", "int32", "float32") else dtype],
            [f"{name}_{d}" if isinstance(d, str) else d for d in sizes_of(kind, shape, dtype, device.is_cpu())],
            device,
        )
        for name, case in cases.items()
        for kind, shape in case.inputs.values()
    ]
    kernels = kernel_package(kernel_path())
    return Graph(f"kernels_{dtype}", forward=forward, input_types=types, custom_extensions=[kernels]), outputs


class Kernels:
    """The compiled graph of all cases for one dtype on one device ("cpu" or "gpu")."""

    def __init__(self, device: str, dtype: str) -> None:
        self.device = CPU() if device == "cpu" else Accelerator()
        self.on_cpu = device == "cpu"
        self.dtype = dtype
        self.cases = _cases()
        graph, self.outputs = kernel_graph(dtype, DeviceRef.from_device(self.device))
        self.model = InferenceSession(devices=[self.device]).load(graph)
        self.idle = {name: [self._empty(*spec) for spec in case.inputs.values()] for name, case in self.cases.items()}

    def run(self, name: str, like: int = 0, **arrays: Array) -> list[Array]:
        """Runs one case; returns its outputs (floating ones as float32), then the cache if it has one.

        `like` is the length of the input of that name, if there is one.
        """
        case = self.cases[name]
        given = {}
        for key, (kind, _) in case.inputs.items():
            value = np.zeros(like) if key == "like" else arrays.pop(key)
            given[key] = self._matrix(value) if kind == "matrix" else self._buffer(value, kind)
        assert not arrays, f"{name} takes no {sorted(arrays)}"
        buffers = [b for other, idle in self.idle.items() for b in (given.values() if other == name else idle)]
        results = self.model.execute(*buffers)
        found = [results[i] for i in self.outputs[name]]
        return [self._array(b) for b in found + [b for key, b in given.items() if case.inputs[key][0] == "kv"]]

    def rounded(self, x: Array) -> NDArray[np.float64]:
        """What the kernel sees of x: rounded to the dtype, as float64."""
        return to_float32(from_float32(x.astype(np.float32), self.dtype), self.dtype).astype(np.float64)

    @property
    def unit(self) -> float:
        """Largest relative error of one rounding to the dtype."""
        return {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}[self.dtype] * 1.001

    def _buffer(self, x: Array, kind: str) -> Buffer:
        if kind in ("x", "kv"):
            storage = from_float32(np.ascontiguousarray(x, np.float32), self.dtype)
            buffer = Buffer.from_numpy(storage)
            return (buffer.view(DType.bfloat16, x.shape) if self.dtype == "bfloat16" else buffer).to(self.device)
        return Buffer.from_numpy(np.ascontiguousarray(x, kind)).to(self.device)

    def _matrix(self, w: Array) -> Buffer:
        storage = from_float32(w.astype(np.float32), self.dtype)
        storage = pack(storage) if self.on_cpu else storage
        buffer = Buffer.from_numpy(storage)
        return (buffer.view(DType.bfloat16, storage.shape) if self.dtype == "bfloat16" else buffer).to(self.device)

    def _empty(self, kind: str, shape: Shape) -> Buffer:
        # On the CPU a cache keeps one page and row offsets their leading zero; everything else symbolic is empty. On a
        # GPU, where drivers refuse empty buffers and launches, it is 1 (2 for gates and ups together), and row offsets
        # are 0, 0: no tokens.
        def size(name: str) -> int:
            if self.on_cpu:
                return int(name in ("pages", "B1"))
            return 2 if name in ("B1", "I2") else 1

        sizes = [size(d) if isinstance(d, str) else d for d in sizes_of(kind, shape, self.dtype, self.on_cpu)]
        return self._buffer(np.zeros(sizes), "x" if kind == "matrix" else kind)

    def _array(self, buffer: Buffer) -> Array:
        host = buffer.to(CPU())
        if host.dtype == DType.bfloat16:
            return from_bfloat16(host.view(DType.uint16, host.shape).to_numpy())
        array: Array = host.to_numpy().copy()
        return array.astype(np.float32) if array.dtype == np.float16 else array
