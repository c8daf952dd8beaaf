"""The ladders of the CPU's attention as a Python extension: `attention(step, arguments)`.

Arguments: o, q, kv, row_offsets, context_lengths, page_table, scale, sizes, D; addresses, bfloat16. `sizes` is the
address of seven int64: tokens, requests, heads, kv_heads, page_size, table_width, window.
"""

from kernels.attention import AttentionShape
from kernels.attention_cpu import attention_cpu
from kernels.common import Ptr
from kernels.steps import (
    attention_cores,
    attention_grouped,
    attention_naive,
    attention_online,
    attention_split,
    attention_tiled,
)
from std.os import abort
from std.python import PythonObject
from std.python.bindings import PythonModuleBuilder

comptime B16 = DType.bfloat16
comptime I32 = DType.int32
comptime W = 16


def p[dtype: DType](a: PythonObject, i: Int) raises -> Ptr[dtype]:
    return Ptr[dtype](unsafe_from_address=Int(py=a[i]))


def call[D: Int](name: String, a: PythonObject) raises:
    var o = p[B16](a, 0)
    var q = p[B16](a, 1)
    var kv = p[B16](a, 2)
    var offsets = p[I32](a, 3)
    var lengths = p[I32](a, 4)
    var table = p[I32](a, 5)
    var scale = Float32(py=a[6])
    var sizes = p[DType.int64](a, 7)
    var shape = AttentionShape(
        tokens=Int(sizes[unsafe_offset=0]),
        requests=Int(sizes[unsafe_offset=1]),
        heads=Int(sizes[unsafe_offset=2]),
        kv_heads=Int(sizes[unsafe_offset=3]),
        page_size=Int(sizes[unsafe_offset=4]),
        table_width=Int(sizes[unsafe_offset=5]),
        window=Int(sizes[unsafe_offset=6]),
    )
    if name == "naive":
        attention_naive.attention[D](
            o, q, kv, offsets, lengths, table, scale, shape
        )
    elif name == "online":
        attention_online.attention[D, 1](
            o, q, kv, offsets, lengths, table, scale, shape
        )
    elif name == "rows":
        attention_online.attention[D, W](
            o, q, kv, offsets, lengths, table, scale, shape
        )
    elif name == "tiled":
        attention_tiled.attention[D, 1](
            o, q, kv, offsets, lengths, table, scale, shape
        )
    elif name == "vector":
        attention_tiled.attention[D, W](
            o, q, kv, offsets, lengths, table, scale, shape
        )
    elif name == "cores":
        attention_cores.attention[D, W](
            o, q, kv, offsets, lengths, table, scale, shape
        )
    elif name == "grouped":
        attention_grouped.attention[D, W](
            o, q, kv, offsets, lengths, table, scale, shape
        )
    elif name == "split":
        attention_split.attention[D, W](
            o, q, kv, offsets, lengths, table, scale, shape
        )
    elif name == "packed":
        attention_cpu[D](o, q, kv, offsets, lengths, table, scale, shape)
    else:
        raise Error("attention has no step ", name)


def attention(step: PythonObject, a: PythonObject) raises -> PythonObject:
    var name = String(py=step)
    var head_dim = Int(py=a[8])
    comptime for D in [64, 80, 128]:
        if head_dim == D:
            call[D](name, a)
            return PythonObject(None)
    raise Error("attention: no head dimension ", head_dim, " in this extension")


@export
def PyInit_attention_steps_native() abi("C") -> PythonObject:
    try:
        var module = PythonModuleBuilder("attention_steps_native")
        module.def_function[attention]("attention")
        return module.finalize()
    except e:
        abort(String("attention_steps_native: ", e))
