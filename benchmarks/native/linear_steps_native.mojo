"""The ladder of the CPU's linear as a Python extension: `linear(step, (y, x, w, m, n, k))` with addresses."""

from kernels.common import Ptr
from kernels.linear_cpu import linear_cpu
from kernels.linear_tile import DOT_BFLOAT16, FMA_BFLOAT16
from kernels.steps import (
    linear_cores,
    linear_naive,
    linear_packed,
    linear_rows,
    linear_vector,
)
from std.os import abort
from std.python import PythonObject
from std.python.bindings import PythonModuleBuilder


def linear(step: PythonObject, a: PythonObject) raises -> PythonObject:
    var y = Ptr[DType.float32](unsafe_from_address=Int(py=a[0]))
    var x = Ptr[DType.bfloat16](unsafe_from_address=Int(py=a[1]))
    var w = Ptr[DType.bfloat16](unsafe_from_address=Int(py=a[2]))
    var m = Int(py=a[3])
    var n = Int(py=a[4])
    var k = Int(py=a[5])
    var name = String(py=step)
    if name == "naive":
        linear_naive.linear(y, x, w, m, n, k)
    elif name == "vector":
        linear_vector.linear(y, x, w, m, n, k)
    elif name == "rows":
        linear_rows.linear(y, x, w, m, n, k)
    elif name == "cores":
        linear_cores.linear(y, x, w, m, n, k)
    elif name == "packed":
        linear_packed.linear[FMA_BFLOAT16](y, x, w, m, n, k)
    elif name == "dot":
        linear_packed.linear[DOT_BFLOAT16](y, x, w, m, n, k)
    elif name == "tiles":
        linear_cpu(y, x, w, m, n, k)
    else:
        raise Error("linear has no step ", name)
    return PythonObject(None)


@export
def PyInit_linear_steps_native() abi("C") -> PythonObject:
    try:
        var module = PythonModuleBuilder("linear_steps_native")
        module.def_function[linear]("linear")
        return module.finalize()
    except e:
        abort(String("linear_steps_native: ", e))
