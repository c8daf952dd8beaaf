"""One graph with every operation of the engine, for cross-compilation and for checks of the whole path on a GPU."""

from __future__ import annotations

from max.driver import Device
from max.dtype import DType
from max.graph import BufferType, DeviceRef, Graph, TensorType

from mili import ops
from mili.kernel_path import kernel_path

KV_HEADS, GROUP, PAGE_SIZE, WIDTH, VOCABULARY = 2, 2, 16, 256, 1000


def graph_of_all_ops(device: Device, cases: list[tuple[DType, int]], sampling: bool = False) -> Graph:
    """A graph that stages every op once for each (dtype, head dimension) of `cases`; weights are inputs.

    With `sampling` there is one more output: tokens drawn with the first five logits as parameters.

    Inputs: tokens, positions, slots, row offsets, context lengths, page table, logit rows; then for each case the
    embedding [V, E], norm [E], qkv, head norm [D], cos_sin, cache, output matrix. Outputs: tokens, residual.
    """
    ref = DeviceRef.from_device(device)
    int32, float32 = DType.int32, DType.float32
    types = [TensorType(int32, ["tokens"], ref)] * 3
    types += [TensorType(int32, ["offsets"], ref), TensorType(int32, ["rows"], ref)]
    types += [TensorType(int32, ["rows", "pages"], ref), TensorType(int32, ["logits"], ref)]
    shared = len(types)
    for dtype, dim in cases:
        qkv = (GROUP * KV_HEADS + 2 * KV_HEADS) * dim
        types += [
            TensorType(dtype, [VOCABULARY, WIDTH], ref),
            TensorType(dtype, [WIDTH], ref),
            TensorType(dtype, [qkv, WIDTH], ref),
            TensorType(dtype, [dim], ref),
            TensorType(float32, ["positions", dim], ref),
            BufferType(dtype, ["cache", 2, KV_HEADS, PAGE_SIZE, dim], ref),
            TensorType(dtype, [2 * WIDTH, GROUP * KV_HEADS * dim], ref),
        ]
    with Graph("all_ops", input_types=types, custom_extensions=[kernel_path()]) as graph:
        tokens, positions, slots, offsets, lengths, table, rows = (v.tensor for v in graph.inputs[:shared])
        outputs = []
        for i in range(len(cases)):
            at = graph.inputs[shared + 7 * i : shared + 7 * i + 7]
            embed, weight, qkv, norm, cos_sin = (v.tensor for v in at[:5])
            cache, out = at[5].buffer, at[6].tensor
            x = ops.embedding(ops.resolve_tokens(tokens, rows), embed, WIDTH)
            h = ops.rms_norm(x, weight, 1e-6)
            h = ops.linear(h, qkv, int(qkv.shape[0]))
            q_norm = norm if i % 2 == 0 else None
            q = ops.qk_norm_rope_write(h, q_norm, q_norm, 1e-6, cos_sin, positions, slots, cache)
            o = ops.attention(q, cache, offsets, lengths, table, 0.1)
            h = ops.swiglu(ops.linear(o, out, 2 * WIDTH))
            h, x = ops.add_rms_norm(h, x, weight, 1e-6)
            logits = ops.linear(ops.gather_rows(h, rows), embed, VOCABULARY, out_dtype=float32)
            outputs += [ops.argmax(logits), x]
        if sampling:
            outputs.append(ops.sample(logits, logits[:, :5]))
        graph.output(*outputs)
    return graph
