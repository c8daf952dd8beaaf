"""The prefill kernels and what the Hopper one could be instead, as a Python extension for
benchmarks/gpu/prefill_variants.py.

Functions are named D_groups_keys_stages and take ctx, o, q, kv, offsets, lengths, table, scale, T, B, H, KH, PS, P,
window.
"""

from extension import attention_shape, context, f, module, p
from kernels.attention_hopper_gpu import attention_hopper_gpu
from kernels.attention_prefill_gpu import attention_prefill_gpu
from std.os import abort
from std.python import PythonObject
from std.python.bindings import PythonModuleBuilder

comptime I32 = DType.int32


def hopper[
    D: Int, dtype: DType, groups: Int, keys: Int, stages: Int, turns: Bool
](a: PythonObject) raises -> PythonObject:
    attention_hopper_gpu[D, dtype, groups, keys, stages, turns](
        p[dtype](a, 1),
        p[dtype](a, 2),
        p[dtype](a, 3),
        p[I32](a, 4),
        p[I32](a, 5),
        p[I32](a, 6),
        f(a, 7),
        attention_shape(a, 8),
        context(a),
    )
    return PythonObject(None)


def mma[D: Int, dtype: DType](a: PythonObject) raises -> PythonObject:
    attention_prefill_gpu[D, dtype](
        p[dtype](a, 1),
        p[dtype](a, 2),
        p[dtype](a, 3),
        p[I32](a, 4),
        p[I32](a, 5),
        p[I32](a, 6),
        f(a, 7),
        attention_shape(a, 8),
        context(a),
    )
    return PythonObject(None)


def add[
    D: Int, groups: Int, keys: Int, stages: Int
](mut m: PythonModuleBuilder, plain: StaticString, turns: StaticString) raises:
    """A tiling of the Hopper kernel in bfloat16, without and with turns."""
    comptime B16 = DType.bfloat16
    m.def_function[hopper[D, B16, groups, keys, stages, False]](plain)
    m.def_function[hopper[D, B16, groups, keys, stages, True]](turns)


@export
def PyInit_prefill_ext() abi("C") -> PythonObject:
    try:
        var m = module("prefill_ext")
        m.def_function[mma[128, DType.bfloat16]]("128_mma")
        m.def_function[mma[64, DType.bfloat16]]("64_mma")
        add[128, 2, 128, 2](m, "128_2_128_2", "128_2_128_2_turns")
        add[128, 2, 64, 4](m, "128_2_64_4", "128_2_64_4_turns")
        add[128, 3, 64, 4](m, "128_3_64_4", "128_3_64_4_turns")
        add[64, 2, 128, 2](m, "64_2_128_2", "64_2_128_2_turns")
        add[64, 2, 128, 4](m, "64_2_128_4", "64_2_128_4_turns")
        add[64, 3, 128, 3](m, "64_3_128_3", "64_3_128_3_turns")
        return m.finalize()
    except e:
        abort(String("prefill_ext: ", e))
