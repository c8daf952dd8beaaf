"""What the Python extensions of this folder share: a context that stays, its stream, and arguments as addresses.

Their functions take one list of integers and floats, the address of the context of `open_context` first.
"""

from kernels.attention import AttentionShape
from kernels.common import Ptr
from max.gpu.host import DeviceContext
from max.gpu.host._nvidia_cuda import CUDA
from std.memory.alloc import unsafe_alloc
from std.python import PythonObject
from std.python.bindings import PythonModuleBuilder


def p[dtype: DType](a: PythonObject, i: Int) raises -> Ptr[dtype]:
    """Argument i as a device pointer."""
    return Ptr[dtype](unsafe_from_address=Int(py=a[i]))


def n(a: PythonObject, i: Int) raises -> Int:
    """Argument i as an integer."""
    return Int(py=a[i])


def f(a: PythonObject, i: Int) raises -> Float32:
    """Argument i as a float."""
    return Float32(py=a[i])


def attention_shape(a: PythonObject, i: Int) raises -> AttentionShape:
    """Arguments i and after: T, B, H, KH, PS, P, window."""
    return AttentionShape(
        tokens=n(a, i),
        requests=n(a, i + 1),
        heads=n(a, i + 2),
        kv_heads=n(a, i + 3),
        page_size=n(a, i + 4),
        table_width=n(a, i + 5),
        window=n(a, i + 6),
    )


def context(a: PythonObject) raises -> DeviceContext:
    """The DeviceContext at the address that argument 0 gives."""
    return Pointer[DeviceContext, MutAnyOrigin](
        unsafe_from_address=Int(py=a[0])
    )[]


def open_context() raises -> PythonObject:
    """Address of a DeviceContext that lives as long as the process."""
    var place = unsafe_alloc[DeviceContext](1)
    place.unsafe_write(DeviceContext())
    return PythonObject(Int(place))


def stream_of(a: PythonObject) raises -> PythonObject:
    """The CUDA stream of the context, as an integer; 0 for other GPUs."""
    comptime if DeviceContext.default_device_info.api == "cuda":
        var stream = CUDA(context(a).stream())
        return PythonObject(Int(stream.value()) if stream else 0)
    else:
        return PythonObject(0)


def synchronize(a: PythonObject) raises -> PythonObject:
    """Waits for all that was queued."""
    context(a).synchronize()
    return PythonObject(None)


def module(name: StaticString) raises -> PythonModuleBuilder:
    """A module of that name with `open_context`, `stream_of` and `synchronize`.
    """
    var m = PythonModuleBuilder(name)
    m.def_function[open_context]("open_context")
    m.def_function[stream_of]("stream_of")
    m.def_function[synchronize]("synchronize")
    return m^
