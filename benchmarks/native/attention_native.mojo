"""The CPU's attention as a Python extension: what the tests of its paths and the benchmarks call.

`attention((o, q, kv, row_offsets, context_lengths, page_table, scale, sizes, D, bfloat16, path))` takes addresses;
`sizes` is the address of seven int64: tokens, requests, heads, kv_heads, page_size, table_width, window.
"""

from kernels.attention import AttentionShape
from kernels.attention_cpu import attention_cpu
from kernels.common import Ptr
from std.os import abort
from std.python import PythonObject
from std.python.bindings import PythonModuleBuilder


def pointer[dtype: DType](address: PythonObject) raises -> Ptr[dtype]:
    return Ptr[dtype](unsafe_from_address=Int(py=address))


def call[D: Int, dtype: DType](arguments: PythonObject) raises:
    var sizes = pointer[DType.int64](arguments[7])
    attention_cpu[D](
        pointer[dtype](arguments[0]),
        pointer[dtype](arguments[1]),
        pointer[dtype](arguments[2]),
        pointer[DType.int32](arguments[3]),
        pointer[DType.int32](arguments[4]),
        pointer[DType.int32](arguments[5]),
        Float32(py=arguments[6]),
        AttentionShape(
            tokens=Int(sizes[unsafe_offset=0]),
            requests=Int(sizes[unsafe_offset=1]),
            heads=Int(sizes[unsafe_offset=2]),
            kv_heads=Int(sizes[unsafe_offset=3]),
            page_size=Int(sizes[unsafe_offset=4]),
            table_width=Int(sizes[unsafe_offset=5]),
            window=Int(sizes[unsafe_offset=6]),
        ),
        Int(py=arguments[10]),
    )


def attention(arguments: PythonObject) raises -> PythonObject:
    var head_dim = Int(py=arguments[8])
    var bfloat16 = Int(py=arguments[9]) != 0
    comptime for D in [64, 80, 128]:
        if head_dim == D:
            if bfloat16:
                call[D, DType.bfloat16](arguments)
            else:
                call[D, DType.float32](arguments)
            return PythonObject(None)
    raise Error("attention: no such head dimension in this extension")


@export
def PyInit_attention_native() abi("C") -> PythonObject:
    try:
        var module = PythonModuleBuilder("attention_native")
        module.def_function[attention]("attention")
        return module.finalize()
    except e:
        abort(String("attention_native: ", e))
