"""The ladders of the row-wise CPU kernels as a Python extension; the last step of each is the engine's kernel.

Every function takes a step's name and a tuple of addresses and sizes; matrices are bfloat16, logits float32.
"""

from kernels.argmax import argmax_cpu
from kernels.common import Ptr
from kernels.rms_norm import add_rms_norm_cpu
from kernels.rope import qk_norm_rope_write_cpu
from kernels.sample import sample_cpu
from kernels.steps import (
    argmax_naive,
    argmax_two_pass,
    argmax_vector,
    rms_norm_fused,
    rms_norm_naive,
    rms_norm_vector,
    rope_fused,
    rope_naive,
    rope_table,
    sample_blocks,
    sample_count,
    sample_sort,
    swiglu_fused,
    swiglu_passes,
    swiglu_vector,
)
from kernels.swiglu import swiglu_cpu
from std.os import abort
from std.python import PythonObject
from std.python.bindings import PythonModuleBuilder

comptime B16 = DType.bfloat16
comptime F32 = DType.float32
comptime I32 = DType.int32


def p[dtype: DType](a: PythonObject, i: Int) raises -> Ptr[dtype]:
    return Ptr[dtype](unsafe_from_address=Int(py=a[i]))


def n(a: PythonObject, i: Int) raises -> Int:
    return Int(py=a[i])


def rms_norm(step: PythonObject, a: PythonObject) raises -> PythonObject:
    """Arguments: y, total, x, residual, weight, rows, width, eps."""
    var y = p[B16](a, 0)
    var total = p[B16](a, 1)
    var x = p[B16](a, 2)
    var residual = p[B16](a, 3)
    var weight = p[B16](a, 4)
    var eps = Float32(py=a[7])
    var name = String(py=step)
    if name == "naive":
        rms_norm_naive.add_rms_norm(
            y, total, x, residual, weight, n(a, 5), n(a, 6), eps
        )
    elif name == "vector":
        rms_norm_vector.add_rms_norm(
            y, total, x, residual, weight, n(a, 5), n(a, 6), eps
        )
    elif name == "fused":
        rms_norm_fused.add_rms_norm(
            y, total, x, residual, weight, n(a, 5), n(a, 6), eps
        )
    elif name == "cores":
        add_rms_norm_cpu(y, total, x, residual, weight, n(a, 5), n(a, 6), eps)
    else:
        raise Error("rms_norm has no step ", name)
    return PythonObject(None)


def swiglu(step: PythonObject, a: PythonObject) raises -> PythonObject:
    """Arguments: y, gate_up, rows, width."""
    var name = String(py=step)
    if name == "passes":
        swiglu_passes.swiglu(p[B16](a, 0), p[B16](a, 1), n(a, 2), n(a, 3))
    elif name == "fused":
        swiglu_fused.swiglu(p[B16](a, 0), p[B16](a, 1), n(a, 2), n(a, 3))
    elif name == "vector":
        swiglu_vector.swiglu(p[B16](a, 0), p[B16](a, 1), n(a, 2), n(a, 3))
    elif name == "cores":
        swiglu_cpu(p[B16](a, 0), p[B16](a, 1), n(a, 2), n(a, 3))
    else:
        raise Error("swiglu has no step ", name)
    return PythonObject(None)


def argmax(step: PythonObject, a: PythonObject) raises -> PythonObject:
    """Arguments: tokens, logits, rows, width."""
    var name = String(py=step)
    if name == "naive":
        argmax_naive.argmax(p[I32](a, 0), p[F32](a, 1), n(a, 2), n(a, 3))
    elif name == "vector":
        argmax_vector.argmax(p[I32](a, 0), p[F32](a, 1), n(a, 2), n(a, 3))
    elif name == "two_pass":
        argmax_two_pass.argmax(p[I32](a, 0), p[F32](a, 1), n(a, 2), n(a, 3))
    elif name == "cores":
        argmax_cpu(p[I32](a, 0), p[F32](a, 1), n(a, 2), n(a, 3))
    else:
        raise Error("argmax has no step ", name)
    return PythonObject(None)


def sample(step: PythonObject, a: PythonObject) raises -> PythonObject:
    """Arguments: tokens, logits, fields, rows, width."""
    var tokens = p[I32](a, 0)
    var logits = p[F32](a, 1)
    var fields = p[F32](a, 2)
    var name = String(py=step)
    if name == "sort":
        sample_sort.sample(tokens, logits, fields, n(a, 3), n(a, 4))
    elif name == "count":
        sample_count.sample(tokens, logits, fields, n(a, 3), n(a, 4))
    elif name == "blocks":
        sample_blocks.sample(tokens, logits, fields, n(a, 3), n(a, 4))
    elif name == "cores":
        sample_cpu(tokens, logits, fields, n(a, 3), n(a, 4))
    else:
        raise Error("sample has no step ", name)
    return PythonObject(None)


def rope_step[D: Int, norm: Bool](name: String, a: PythonObject) raises:
    """`rope` for one head dimension."""
    var q = p[B16](a, 0)
    var qkv = p[B16](a, 1)
    var q_weight = p[B16](a, 2)
    var k_weight = p[B16](a, 3)
    var eps = Float32(py=a[4])
    var angles = p[F32](a, 5)
    var positions = p[I32](a, 6)
    var slots = p[I32](a, 7)
    var kv = p[B16](a, 8)
    var rows = n(a, 9)
    var heads = n(a, 10)
    var kv_heads = n(a, 11)
    var page_size = n(a, 12)
    if name == "naive":
        rope_naive.qk_norm_rope_write[D, norm](
            q,
            qkv,
            q_weight,
            k_weight,
            eps,
            Float64(py=a[13]),
            positions,
            slots,
            kv,
            rows,
            heads,
            kv_heads,
            page_size,
        )
    elif name == "table":
        rope_table.qk_norm_rope_write[D, norm](
            q,
            qkv,
            q_weight,
            k_weight,
            eps,
            angles,
            positions,
            slots,
            kv,
            rows,
            heads,
            kv_heads,
            page_size,
        )
    elif name == "fused":
        rope_fused.qk_norm_rope_write[D, norm](
            q,
            qkv,
            q_weight,
            k_weight,
            eps,
            angles,
            positions,
            slots,
            kv,
            rows,
            heads,
            kv_heads,
            page_size,
        )
    elif name == "cores":
        qk_norm_rope_write_cpu[D, norm](
            q,
            qkv,
            q_weight,
            k_weight,
            eps,
            angles,
            positions,
            slots,
            kv,
            rows,
            heads,
            kv_heads,
            page_size,
        )
    else:
        raise Error("rope has no step ", name)


def rope(step: PythonObject, a: PythonObject) raises -> PythonObject:
    """Arguments: q, qkv, q_weight, k_weight, eps, cos_sin, positions, slots, kv, rows, H, KH, PS, theta, D, norm.
    """
    var name = String(py=step)
    var head_dim = n(a, 14)
    var norm = n(a, 15) != 0
    comptime for D in [64, 80, 128]:
        if head_dim == D:
            if norm:
                rope_step[D, True](name, a)
            else:
                rope_step[D, False](name, a)
            return PythonObject(None)
    raise Error("rope: no head dimension ", head_dim, " in this extension")


@export
def PyInit_row_steps_native() abi("C") -> PythonObject:
    try:
        var module = PythonModuleBuilder("row_steps_native")
        module.def_function[rms_norm]("rms_norm")
        module.def_function[swiglu]("swiglu")
        module.def_function[argmax]("argmax")
        module.def_function[sample]("sample")
        module.def_function[rope]("rope")
        return module.finalize()
    except e:
        abort(String("row_steps_native: ", e))
