"""The ladders of the GPU kernels as a Python extension over device addresses, for `benchmarks.ladder --device gpu`.

Each function takes a list: the address of a DeviceContext from `open_context`, the step's name, addresses, sizes. All
elements are bfloat16. What needs NVIDIA's tensor cores or asynchronous copies is left out for other GPUs.
"""

from extension import attention_shape, context, module, n, p
from kernels.attention_decode_gpu import attention_decode_gpu
from kernels.attention_gpu import attention_gpu
from kernels.attention_prefill_gpu import attention_prefill_gpu
from kernels.attention_simple_gpu import attention_simple_gpu
from kernels.linear_gpu import linear_gpu
from kernels.linear_hopper_gpu import linear_hopper_gpu
from kernels.linear_skinny_gpu import linear_skinny_gpu
from kernels.linear_stream_gpu import linear_stream_gpu
from kernels.linear_tiled_gpu import linear_tiled_gpu
from kernels.rms_norm_gpu import rms_norm_gpu
from kernels.steps import (
    attention_thread_gpu,
    attention_tiled_gpu,
    linear_mma_gpu,
    linear_naive_gpu,
    linear_shared_gpu,
    linear_warp_gpu,
    rms_norm_block_gpu,
    rms_norm_thread_gpu,
)
from max.gpu.host import DeviceContext
from std.os import abort
from std.python import PythonObject

comptime B16 = DType.bfloat16
comptime I32 = DType.int32
comptime NVIDIA = DeviceContext.default_device_info.api == "cuda"
comptime HOPPER = NVIDIA and DeviceContext.default_device_info.compute == 9.0


def rms_norm(a: PythonObject) raises -> PythonObject:
    """Arguments: ctx, step, y, x, weight, rows, width, eps."""
    var y = p[B16](a, 2)
    var x = p[B16](a, 3)
    var weight = p[B16](a, 4)
    var rows = n(a, 5)
    var width = n(a, 6)
    var eps = Float32(py=a[7])
    var ctx = context(a)
    var name = String(py=a[1])
    if name == "thread":
        rms_norm_thread_gpu.rms_norm(y, x, weight, rows, width, eps, ctx)
    elif name == "block":
        rms_norm_block_gpu.rms_norm[B16, 1](y, x, weight, rows, width, eps, ctx)
    elif name == "vector":
        rms_norm_block_gpu.rms_norm[B16, 8](y, x, weight, rows, width, eps, ctx)
    elif name == "registers":
        rms_norm_gpu(y, x, weight, rows, width, eps, ctx)
    else:
        raise Error("rms_norm has no step ", name)
    return PythonObject(None)


def linear(a: PythonObject) raises -> PythonObject:
    """Arguments: ctx, step, y, x, w, m, n, k."""
    var y = p[B16](a, 2)
    var x = p[B16](a, 3)
    var w = p[B16](a, 4)
    var m = n(a, 5)
    var columns = n(a, 6)
    var k = n(a, 7)
    var ctx = context(a)
    var name = String(py=a[1])
    if name == "naive":
        linear_naive_gpu.linear(y, x, w, m, columns, k, ctx)
        return PythonObject(None)
    elif name == "warp":
        linear_warp_gpu.linear(y, x, w, m, columns, k, ctx)
        return PythonObject(None)
    elif name == "shared":
        linear_shared_gpu.linear(y, x, w, m, columns, k, ctx)
        return PythonObject(None)
    elif name == "engine":
        linear_gpu(y, x, w, m, columns, k, ctx)
        return PythonObject(None)
    comptime if NVIDIA:
        if name == "mma":
            linear_mma_gpu.linear(y, x, w, m, columns, k, ctx)
            return PythonObject(None)
        elif name == "async":
            linear_tiled_gpu(y, x, w, m, columns, k, ctx)
            return PythonObject(None)
        elif name == "skinny":
            linear_skinny_gpu(y, x, w, m, columns, k, ctx)
            return PythonObject(None)
    comptime if HOPPER:
        if name == "wgmma":
            linear_hopper_gpu(y, x, w, m, columns, k, ctx)
            return PythonObject(None)
        elif name == "stream":
            linear_stream_gpu(y, x, w, m, columns, k, ctx)
            return PythonObject(None)
    raise Error("linear has no step ", name, " on this GPU")


def attention(a: PythonObject) raises -> PythonObject:
    """Arguments: ctx, step, o, q, kv, offsets, lengths, table, scale, T, B, H, KH, PS, P, window; D is 128.
    """
    comptime D = 128
    var o = p[B16](a, 2)
    var q = p[B16](a, 3)
    var kv = p[B16](a, 4)
    var offsets = p[I32](a, 5)
    var lengths = p[I32](a, 6)
    var table = p[I32](a, 7)
    var scale = Float32(py=a[8])
    var shape = attention_shape(a, 9)
    var ctx = context(a)
    var name = String(py=a[1])
    if name == "thread":
        attention_thread_gpu.attention[D](
            o, q, kv, offsets, lengths, table, scale, shape, ctx
        )
    elif name == "block":
        attention_simple_gpu[D](
            o, q, kv, offsets, lengths, table, scale, shape, ctx
        )
    elif name == "tiled":
        attention_tiled_gpu.attention[D](
            o, q, kv, offsets, lengths, table, scale, shape, ctx
        )
    elif name == "registers":
        comptime if NVIDIA:
            attention_decode_gpu[D](
                o, q, kv, offsets, lengths, table, scale, shape, ctx
            )
            return PythonObject(None)
        raise Error("attention has no step ", name, " on this GPU")
    elif name == "engine":
        attention_gpu[D](o, q, kv, offsets, lengths, table, scale, shape, ctx)
    else:
        comptime if NVIDIA:
            if name == "mma":
                attention_prefill_gpu[D](
                    o, q, kv, offsets, lengths, table, scale, shape, ctx
                )
                return PythonObject(None)
        raise Error("attention has no step ", name, " on this GPU")
    return PythonObject(None)


@export
def PyInit_steps_ext() abi("C") -> PythonObject:
    try:
        var m = module("steps_ext")
        m.def_function[rms_norm]("rms_norm")
        m.def_function[linear]("linear")
        m.def_function[attention]("attention")
        return m.finalize()
    except e:
        abort(String("steps_ext: ", e))
