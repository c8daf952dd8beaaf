"""Variants of the Hopper prefill kernel as a Python extension, for benchmarks/gpu/prefill_variants.py."""

from kernels.attention import AttentionShape
from kernels.attention_hopper_gpu import attention_hopper_gpu
from kernels.attention_prefill_gpu import attention_prefill_gpu
from kernels.common import Ptr
from max.gpu.host import DeviceContext
from max.gpu.host._nvidia_cuda import CUDA
from std.memory.alloc import unsafe_alloc
from std.os import abort
from std.python import PythonObject
from std.python.bindings import PythonModuleBuilder

comptime B16 = DType.bfloat16
comptime F16 = DType.float16
comptime I32 = DType.int32


def p[dtype: DType](a: PythonObject, i: Int) raises -> Ptr[dtype]:
    """Argument i as a device pointer."""
    return Ptr[dtype](unsafe_from_address=Int(py=a[i]))


def n(a: PythonObject, i: Int) raises -> Int:
    """Argument i as an integer."""
    return Int(py=a[i])


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
    """The CUDA stream of the context, as an integer."""
    var stream = CUDA(context(a).stream())
    return PythonObject(Int(stream.value()) if stream else 0)


def synchronize(a: PythonObject) raises -> PythonObject:
    """Waits for all that was queued."""
    context(a).synchronize()
    return PythonObject(None)


def shape_of(a: PythonObject) raises -> AttentionShape:
    return AttentionShape(
        tokens=n(a, 8),
        requests=n(a, 9),
        heads=n(a, 10),
        kv_heads=n(a, 11),
        page_size=n(a, 12),
        table_width=n(a, 13),
        window=n(a, 14),
    )


def hopper[
    D: Int, dtype: DType, groups: Int, keys: Int, stages: Int, turns: Bool
](a: PythonObject) raises -> PythonObject:
    """Arguments: ctx, o, q, kv, offsets, lengths, table, scale, T, B, H, KH, PS, P, window.
    """
    attention_hopper_gpu[D, dtype, groups, keys, stages, turns](
        p[dtype](a, 1),
        p[dtype](a, 2),
        p[dtype](a, 3),
        p[I32](a, 4),
        p[I32](a, 5),
        p[I32](a, 6),
        Float32(py=a[7]),
        shape_of(a),
        context(a),
    )
    return PythonObject(None)


def old[D: Int, dtype: DType](a: PythonObject) raises -> PythonObject:
    """Arguments as of `hopper`."""
    attention_prefill_gpu[D, dtype](
        p[dtype](a, 1),
        p[dtype](a, 2),
        p[dtype](a, 3),
        p[I32](a, 4),
        p[I32](a, 5),
        p[I32](a, 6),
        Float32(py=a[7]),
        shape_of(a),
        context(a),
    )
    return PythonObject(None)


@export
def PyInit_prefill_ext() abi("C") -> PythonObject:
    try:
        var m = PythonModuleBuilder("prefill_ext")
        m.def_function[open_context]("open_context")
        m.def_function[stream_of]("stream_of")
        m.def_function[synchronize]("synchronize")
        m.def_function[old[128, B16]]("old_128_b16")
        m.def_function[old[64, B16]]("old_64_b16")
        m.def_function[hopper[128, B16, 2, 128, 2, True]](
            "g2_k128_s2_turns_128_b16"
        )
        m.def_function[hopper[128, B16, 2, 128, 2, False]]("g2_k128_s2_128_b16")
        m.def_function[hopper[128, B16, 2, 64, 4, True]](
            "g2_k64_s4_turns_128_b16"
        )
        m.def_function[hopper[128, B16, 2, 64, 4, False]]("g2_k64_s4_128_b16")
        m.def_function[hopper[128, B16, 3, 64, 4, True]](
            "g3_k64_s4_turns_128_b16"
        )
        m.def_function[hopper[128, B16, 3, 64, 4, False]]("g3_k64_s4_128_b16")
        m.def_function[hopper[64, B16, 2, 128, 2, True]](
            "g2_k128_s2_turns_64_b16"
        )
        m.def_function[hopper[64, B16, 2, 128, 4, True]](
            "g2_k128_s4_turns_64_b16"
        )
        m.def_function[hopper[64, B16, 3, 128, 3, True]](
            "g3_k128_s3_turns_64_b16"
        )
        m.def_function[hopper[64, B16, 3, 128, 3, False]]("g3_k128_s3_64_b16")
        m.def_function[hopper[80, B16, 2, 128, 2, True]](
            "g2_k128_s2_turns_80_b16"
        )
        m.def_function[hopper[96, B16, 2, 128, 2, True]](
            "g2_k128_s2_turns_96_b16"
        )
        m.def_function[hopper[64, F16, 2, 128, 2, True]](
            "g2_k128_s2_turns_64_f16"
        )
        m.def_function[hopper[80, F16, 2, 128, 2, True]](
            "g2_k128_s2_turns_80_f16"
        )
        m.def_function[hopper[96, F16, 2, 128, 2, True]](
            "g2_k128_s2_turns_96_f16"
        )
        m.def_function[hopper[128, F16, 2, 128, 2, True]](
            "g2_k128_s2_turns_128_f16"
        )
        return m.finalize()
    except e:
        abort(String("prefill_ext: ", e))
