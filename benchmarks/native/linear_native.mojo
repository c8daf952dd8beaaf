"""The CPU's linear as a Python extension: what the tests of its paths and the benchmarks call.

`linear((y, x, w, m, n, k, dtype, out_dtype, path))` takes addresses; dtypes are 0 for float32 and 1 for bfloat16.
"""

from kernels.common import Ptr
from kernels.cpu_features import cpu_features
from kernels.linear_cpu import linear_cpu
from std.os import abort
from std.python import PythonObject
from std.python.bindings import PythonModuleBuilder


def pointer[dtype: DType](address: PythonObject) raises -> Ptr[dtype]:
    return Ptr[dtype](unsafe_from_address=Int(py=address))


def call[
    dtype: DType, out_dtype: DType
](arguments: PythonObject, path: Int) raises:
    linear_cpu(
        pointer[out_dtype](arguments[0]),
        pointer[dtype](arguments[1]),
        pointer[dtype](arguments[2]),
        Int(py=arguments[3]),
        Int(py=arguments[4]),
        Int(py=arguments[5]),
        path,
    )


def linear(arguments: PythonObject) raises -> PythonObject:
    var kind = Int(py=arguments[6]) * 2 + Int(py=arguments[7])
    var path = Int(py=arguments[8])
    if kind == 0:
        call[DType.float32, DType.float32](arguments, path)
    elif kind == 2:
        call[DType.bfloat16, DType.float32](arguments, path)
    elif kind == 3:
        call[DType.bfloat16, DType.bfloat16](arguments, path)
    else:
        raise Error("linear: float32 inputs give float32 outputs")
    return PythonObject(None)


def features() raises -> PythonObject:
    var found = cpu_features()
    return PythonObject(Int(found.avx512_bf16) + 2 * Int(found.amx_bf16))


@export
def PyInit_linear_native() abi("C") -> PythonObject:
    try:
        var module = PythonModuleBuilder("linear_native")
        module.def_function[linear]("linear")
        module.def_function[features]("features")
        return module.finalize()
    except e:
        abort(String("linear_native: ", e))
