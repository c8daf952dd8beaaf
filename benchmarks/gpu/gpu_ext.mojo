"""The GPU kernels as a Python extension over raw device addresses, for benchmarks/gpu/run_all.py.

Each function takes one list of integers and floats: the address of a DeviceContext from `open_context`, device
addresses of contiguous tensors, then sizes. Kernels are queued on the stream that `stream_of` names.
"""

from extension import attention_shape, context, f, module, n, p
from kernels.argmax_gpu import argmax_gpu
from kernels.attention_gpu import attention_gpu
from kernels.embedding_gpu import gather_rows_gpu
from kernels.linear_gpu import linear_gpu
from kernels.rms_norm_gpu import add_rms_norm_gpu, rms_norm_gpu
from kernels.rope_gpu import qk_norm_rope_write_gpu
from kernels.sample_gpu import sample_gpu
from kernels.swiglu_gpu import swiglu_gpu
from std.os import abort
from std.python import PythonObject

comptime I32 = DType.int32
comptime F32 = DType.float32


def rms_norm[dtype: DType](a: PythonObject) raises -> PythonObject:
    """Arguments: ctx, y, x, weight, rows, width, eps."""
    rms_norm_gpu(
        p[dtype](a, 1),
        p[dtype](a, 2),
        p[dtype](a, 3),
        n(a, 4),
        n(a, 5),
        f(a, 6),
        context(a),
    )
    return PythonObject(None)


def add_rms_norm[dtype: DType](a: PythonObject) raises -> PythonObject:
    """Arguments: ctx, y, total, x, residual, weight, rows, width, eps."""
    add_rms_norm_gpu(
        p[dtype](a, 1),
        p[dtype](a, 2),
        p[dtype](a, 3),
        p[dtype](a, 4),
        p[dtype](a, 5),
        n(a, 6),
        n(a, 7),
        f(a, 8),
        context(a),
    )
    return PythonObject(None)


def swiglu[dtype: DType](a: PythonObject) raises -> PythonObject:
    """Arguments: ctx, y, gate_up, rows, width."""
    swiglu_gpu(p[dtype](a, 1), p[dtype](a, 2), n(a, 3), n(a, 4), context(a))
    return PythonObject(None)


def gather_rows[dtype: DType](a: PythonObject) raises -> PythonObject:
    """Arguments: ctx, y, x, rows, count, width, source_rows."""
    gather_rows_gpu(
        p[dtype](a, 1),
        p[dtype](a, 2),
        p[I32](a, 3),
        n(a, 4),
        n(a, 5),
        n(a, 6),
        context(a),
    )
    return PythonObject(None)


def argmax(a: PythonObject) raises -> PythonObject:
    """Arguments: ctx, tokens, logits, rows, width."""
    argmax_gpu(p[I32](a, 1), p[F32](a, 2), n(a, 3), n(a, 4), context(a))
    return PythonObject(None)


def sample(a: PythonObject) raises -> PythonObject:
    """Arguments: ctx, tokens, logits, fields, rows, width."""
    sample_gpu(
        p[I32](a, 1), p[F32](a, 2), p[F32](a, 3), n(a, 4), n(a, 5), context(a)
    )
    return PythonObject(None)


def linear[
    dtype: DType, out_dtype: DType, library: Bool = True
](a: PythonObject) raises -> PythonObject:
    """Arguments: ctx, y, x, w, m, n, k."""
    linear_gpu[library=library](
        p[out_dtype](a, 1),
        p[dtype](a, 2),
        p[dtype](a, 3),
        n(a, 4),
        n(a, 5),
        n(a, 6),
        context(a),
    )
    return PythonObject(None)


def qk_norm_rope_write[
    D: Int, norm: Bool, dtype: DType
](a: PythonObject) raises -> PythonObject:
    """Arguments: ctx, q, qkv, q_weight, k_weight, eps, cos_sin, positions, slots, kv, rows, heads, kv_heads, PS.
    """
    qk_norm_rope_write_gpu[D, norm](
        p[dtype](a, 1),
        p[dtype](a, 2),
        p[dtype](a, 3),
        p[dtype](a, 4),
        f(a, 5),
        p[F32](a, 6),
        p[I32](a, 7),
        p[I32](a, 8),
        p[dtype](a, 9),
        n(a, 10),
        n(a, 11),
        n(a, 12),
        n(a, 13),
        context(a),
    )
    return PythonObject(None)


def attention[D: Int, dtype: DType](a: PythonObject) raises -> PythonObject:
    """Arguments: ctx, o, q, kv, offsets, lengths, table, scale, T, B, H, KH, PS, P, window.
    """
    var shape = attention_shape(a, 8)
    attention_gpu[D](
        p[dtype](a, 1),
        p[dtype](a, 2),
        p[dtype](a, 3),
        p[I32](a, 4),
        p[I32](a, 5),
        p[I32](a, 6),
        f(a, 7),
        shape,
        context(a),
    )
    return PythonObject(None)


@export
def PyInit_gpu_ext() abi("C") -> PythonObject:
    try:
        comptime B16 = DType.bfloat16
        comptime F16 = DType.float16
        var m = module("gpu_ext")
        m.def_function[rms_norm[B16]]("rms_norm_bfloat16")
        m.def_function[rms_norm[F32]]("rms_norm_float32")
        m.def_function[add_rms_norm[B16]]("add_rms_norm_bfloat16")
        m.def_function[swiglu[B16]]("swiglu_bfloat16")
        m.def_function[swiglu[F32]]("swiglu_float32")
        m.def_function[gather_rows[B16]]("gather_rows_bfloat16")
        m.def_function[argmax]("argmax")
        m.def_function[sample]("sample")
        m.def_function[linear[B16, B16]]("linear_bfloat16")
        m.def_function[linear[B16, F32]]("linear_bfloat16_float32")
        m.def_function[linear[B16, B16, False]]("linear_own_bfloat16")
        m.def_function[linear[B16, F32, False]]("linear_own_bfloat16_float32")
        m.def_function[linear[F16, F16, False]]("linear_own_float16")
        m.def_function[linear[F16, F16]]("linear_float16")
        m.def_function[linear[F32, F32]]("linear_float32")
        m.def_function[qk_norm_rope_write[128, True, B16]](
            "qk_norm_rope_write_128_norm_bfloat16"
        )
        m.def_function[qk_norm_rope_write[64, False, B16]](
            "qk_norm_rope_write_64_plain_bfloat16"
        )
        m.def_function[qk_norm_rope_write[80, True, F32]](
            "qk_norm_rope_write_80_norm_float32"
        )
        m.def_function[attention[128, B16]]("attention_128_bfloat16")
        m.def_function[attention[64, B16]]("attention_64_bfloat16")
        m.def_function[attention[80, B16]]("attention_80_bfloat16")
        m.def_function[attention[256, B16]]("attention_256_bfloat16")
        m.def_function[attention[96, F16]]("attention_96_float16")
        m.def_function[attention[128, F32]]("attention_128_float32")
        m.def_function[attention[18, B16]]("attention_18_bfloat16")
        return m.finalize()
    except e:
        abort(String("gpu_ext: ", e))
