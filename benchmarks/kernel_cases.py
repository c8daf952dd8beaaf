"""One case of each CPU kernel but linear, at the sizes of real models in bfloat16: its steps, its limit and its peer.

Sizes are those of Qwen3-0.6B, for attention those of SmolLM2. Activations stay where they are, as in the engine: few of
them come from a cache, faster than the limit, which is memory's.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.ceilings import Ceilings
from benchmarks.linear_cases import in_turn
from benchmarks.native import steps
from mili.packing import to_bfloat16

Array = NDArray[Any]
EPS = 1e-6
COLD_BYTES = 96 << 20
"""Caches of keys and values in turn amount to this: each call reads its cache from memory."""


@dataclass(frozen=True)
class Work:
    """One kernel on one size. `call(step)` gives what to time, `peers` the same in PyTorch by dtype, if installed."""

    name: str
    call: Callable[[str], Callable[[], Any]]
    peers: dict[str, Callable[[], Any]]
    flops: float
    nbytes: float
    reads_only: bool = False

    def floor(self, ceilings: Ceilings) -> float:
        """Seconds below which memory or arithmetic cannot go."""
        bandwidth = ceilings.read if self.reads_only else ceilings.copy
        return max(self.nbytes / bandwidth, self.flops / ceilings.flops("bfloat16"))


@cache
def torch(threads: int) -> Any:
    """PyTorch with so many threads, None where it is not installed."""
    try:
        import torch as module
    except ImportError:
        return None
    module.set_num_threads(threads)
    return module


def tensor(module: Any, array: Array) -> Any:
    """The array as a tensor on the same memory, uint16 as bfloat16."""
    if array.dtype == np.uint16:
        return module.from_numpy(array.view(np.int16)).view(module.bfloat16)
    return module.from_numpy(array)


def in_torch(cores: int, call: Callable[..., Any], *arrays: Array) -> dict[str, Callable[[], Any]]:
    """`call(torch, *tensors)` without gradients, in bfloat16 and float32, or in float32 alone if all arrays are."""
    module = torch(cores)
    if module is None:
        return {}

    def run(tensors: list[Any]) -> Any:
        with module.inference_mode():
            return call(module, *tensors)

    tensors = [tensor(module, array) for array in arrays]
    found: dict[str, Callable[[], Any]] = {"float32": partial(run, [t.to(module.float32) for t in tensors])}
    if any(array.dtype == np.uint16 for array in arrays):
        found = {"bfloat16": partial(run, tensors)} | found
    return found


def randn(*shape: int) -> Array:
    """Normal random bfloat16."""
    return to_bfloat16(np.random.default_rng(len(shape)).standard_normal(shape, np.float32))


def rms_norm(rows: int, cores: int) -> Work:
    """Add and norm of rows of 1,024."""
    width = 1024
    x, residual, weight = randn(rows, width), randn(rows, width), randn(width)
    y, total = np.empty_like(x), np.empty_like(x)

    def peer(t: Any, a: Any, b: Any, w: Any) -> Any:
        total = b + a
        return t.nn.functional.rms_norm(total, (width,), w, EPS), total

    return Work(
        f"{rows} x {width}",
        lambda step: steps.bound("rms_norm", step, y, total, x, residual, weight, rows, width, EPS),
        in_torch(cores, peer, x, residual, weight),
        5.0 * rows * width,
        8.0 * rows * width,
    )


def swiglu(rows: int, cores: int) -> Work:
    """Rows of 3,072 gates and as many ups."""
    width = 3072
    gate_up, y = randn(rows, 2 * width), np.empty((rows, width), np.uint16)

    def peer(t: Any, both: Any) -> Any:
        return t.nn.functional.silu(both[:, :width]) * both[:, width:]

    return Work(
        f"{rows} x {width}",
        lambda step: steps.bound("swiglu", step, y, gate_up, rows, width),
        in_torch(cores, peer, gate_up),
        5.0 * rows * width,
        6.0 * rows * width,
    )


def rope(rows: int, cores: int) -> Work:
    """16 query and 8 key/value heads of 128, with norms, into pages of 16; PyTorch has no such operation."""
    heads, kv_heads, dim, page = 16, 8, 128, 16
    angles = np.arange(4096)[:, None] * 1e6 ** (-np.arange(0, dim, 2) / dim)
    into = steps.Rope(
        np.concatenate([np.cos(angles), np.sin(angles)], 1).astype(np.float32),
        np.arange(rows, dtype=np.int32),
        np.arange(rows, dtype=np.int32),
        np.zeros((-(-rows // page), 2, kv_heads, page, dim), np.uint16),
        1e6,
    )
    qkv, weight = randn(rows, (heads + 2 * kv_heads) * dim), randn(dim)
    q = np.empty((rows, heads, dim), qkv.dtype)
    elements = rows * (heads + 2 * kv_heads) * dim
    return Work(
        f"{rows} tokens",
        lambda step: steps.bound_rope(step, q, qkv, weight, weight, EPS, into),
        {},
        7.0 * rows * (heads + kv_heads) * dim,
        4.0 * elements,
    )


def argmax(rows: int, cores: int) -> Work:
    """Logits of a vocabulary of 151,936."""
    logits = np.random.default_rng(0).standard_normal((rows, 151936), np.float32)
    tokens = np.empty(rows, np.int32)
    return Work(
        f"{rows} x 151936",
        lambda step: steps.bound("argmax", step, tokens, logits, *logits.shape),
        in_torch(cores, lambda _, values: values.argmax(-1), logits),
        float(logits.size),
        float(logits.nbytes),
        reads_only=True,
    )


def sample(rows: int, cores: int) -> Work:
    """Temperature 0.7, the top 40 of them, of those the top 0.9, over a vocabulary of 151,936."""
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((rows, 151936), np.float32)
    fields = np.column_stack([np.tile([0.7, 40, 0.9, 0], (rows, 1)), rng.random(rows)]).astype(np.float32)

    def peer(_: Any, values: Any) -> Any:
        best, places = (values / 0.7).topk(40)
        p = best.softmax(-1)
        p = p.masked_fill(p.cumsum(-1) - p > 0.9, 0)
        return places.gather(-1, p.multinomial(1))

    tokens = np.empty(rows, np.int32)
    return Work(
        f"{rows} x 151936",
        lambda step: steps.bound("sample", step, tokens, logits, fields, *logits.shape),
        in_torch(cores, peer, logits),
        float(logits.size),
        float(logits.nbytes),
        reads_only=True,
    )


def prefill(tokens: int, cores: int) -> Work:
    """One whole prompt; the causal half of the operations is counted."""
    return _attention(f"{tokens} tokens", tokens, tokens, 2.0 * tokens * (tokens + 1) * 9 * 64, cores)


def decode(context: int, cores: int) -> Work:
    """One token at the end of `context` tokens."""
    return _attention(f"1 token at {context}", 1, context, 4.0 * context * 9 * 64, cores)


def _attention(name: str, new: int, context: int, flops: float, cores: int) -> Work:
    heads, kv_heads, dim, page = 9, 3, 64, 16
    pages = -(-context // page)
    nbytes = 4 * pages * page * kv_heads * dim
    caches = [randn(pages, 2, kv_heads, page, dim) for _ in range(max(1, COLD_BYTES // nbytes) if new == 1 else 1)]
    q = randn(new, heads, dim)
    table = np.random.default_rng(0).permutation(pages).astype(np.int32)[None]
    where = (np.array([0, new], np.int32), np.array([context], np.int32), table)
    dense = [c[table[0]].transpose(1, 2, 0, 3, 4).reshape(2, 1, kv_heads, -1, dim) for c in caches]
    dense = [np.ascontiguousarray(d[..., :context, :]) for d in dense]
    turn = itertools.cycle(range(len(dense)))

    def peer(t: Any, query: Any, *pairs: Any) -> Any:
        k, v = pairs[next(turn)]
        mine = query.view(1, new, heads, dim).transpose(1, 2)
        return t.nn.functional.scaled_dot_product_attention(mine, k, v, is_causal=new > 1, enable_gqa=True)

    return Work(
        name,
        lambda step: in_turn(lambda kv: steps.attention(step, q, kv, *where, scale=dim**-0.5), caches),
        in_torch(cores, peer, q, *dense),
        flops,
        nbytes + 4.0 * new * heads * dim,
        reads_only=True,
    )


CASES: dict[str, Callable[[int, int], Work]] = {
    "rms_norm": rms_norm,
    "rope": rope,
    "swiglu": swiglu,
    "prefill": prefill,
    "decode": decode,
    "argmax": argmax,
    "sample": sample,
}
"""Each takes a number of rows (tokens; for decode the context) and of cores."""
ROWS = {
    "rms_norm": [1, 64, 4096],
    "rope": [1, 512],
    "swiglu": [1, 64, 2048],
    "prefill": [128, 512],
    "decode": [512, 4096],
    "argmax": [1, 8],
    "sample": [1, 8],
}
"""What is measured unless something else is asked for."""
