"""Calls the GPU kernels and the steps of their ladders once each, so that the compiler writes their PTX.

tests/kernels/test_ptx.py reads it. What Hopper alone has is left out for other targets.
"""

from kernels.argmax_gpu import argmax_gpu
from kernels.attention import AttentionShape
from kernels.attention_decode_cluster_launch_gpu import (
    attention_decode_cluster_gpu,
)
from kernels.attention_decode_gpu import attention_decode_gpu
from kernels.attention_hopper_gpu import attention_hopper_gpu
from kernels.attention_prefill_gpu import attention_prefill_gpu
from kernels.attention_simple_gpu import attention_simple_gpu
from kernels.embedding_gpu import gather_rows_gpu
from kernels.linear_hopper_gpu import linear_hopper_gpu
from kernels.linear_simple_gpu import linear_simple_gpu
from kernels.linear_skinny_gpu import linear_skinny_gpu
from kernels.linear_stream_gpu import linear_stream_gpu
from kernels.linear_tiled_gpu import linear_tiled_gpu
from kernels.resolve_tokens_gpu import resolve_tokens_gpu
from kernels.rms_norm_gpu import add_rms_norm_gpu, rms_norm_gpu
from kernels.rope_gpu import qk_norm_rope_write_gpu
from kernels.sample_gpu import sample_gpu
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
from kernels.swiglu_gpu import swiglu_gpu
from max.gpu.host import DeviceContext


def main() raises:
    var ctx = DeviceContext()
    var memory = ctx.enqueue_create_buffer[DType.bfloat16](4096)
    var p = memory.unsafe_ptr().as_unsafe_any_origin()
    var i = p.unsafe_bitcast[Int32]()
    var f = p.unsafe_bitcast[Float32]()
    var one = Float32(1)
    rms_norm_gpu(p, p, p, 1, 8, one, ctx)
    add_rms_norm_gpu(p, p, p, p, p, 1, 8, one, ctx)
    rms_norm_thread_gpu.rms_norm(p, p, p, 1, 8, one, ctx)
    rms_norm_block_gpu.rms_norm[DType.bfloat16, 1](p, p, p, 1, 8, one, ctx)
    rms_norm_block_gpu.rms_norm[DType.bfloat16, 8](p, p, p, 1, 8, one, ctx)
    swiglu_gpu(p, p, 1, 8, ctx)
    gather_rows_gpu(p, p, i, 1, 8, 1, ctx)
    resolve_tokens_gpu(i, i, i, 1, 1, ctx)
    argmax_gpu(i, f, 1, 8, ctx)
    sample_gpu(i, f, f, 1, 8, ctx)
    qk_norm_rope_write_gpu[128, True](
        p, p, p, p, one, f, i, i, p, 1, 2, 1, 16, ctx
    )
    linear_naive_gpu.linear(p, p, p, 1, 8, 8, ctx)
    linear_warp_gpu.linear(p, p, p, 1, 8, 8, ctx)
    linear_shared_gpu.linear(p, p, p, 1, 8, 8, ctx)
    linear_mma_gpu.linear(p, p, p, 1, 8, 8, ctx)
    linear_simple_gpu(p, p, p, 1, 8, 8, ctx)
    linear_skinny_gpu(p, p, p, 1, 8, 8, ctx)
    linear_tiled_gpu(p, p, p, 1, 8, 8, ctx)
    comptime if DeviceContext.default_device_info.compute == 9.0:
        linear_hopper_gpu(p, p, p, 1, 8, 8, ctx)
        linear_stream_gpu(p, p, p, 1, 8, 8, ctx)
        linear_stream_gpu(f, p, p, 1, 8, 8, ctx)
    var shape = AttentionShape(
        tokens=1,
        requests=1,
        heads=2,
        kv_heads=1,
        page_size=16,
        table_width=8,
        window=0,
    )
    comptime if DeviceContext.default_device_info.compute >= 9.0:
        attention_decode_cluster_gpu[128](p, p, p, i, i, i, one, shape, ctx)
        attention_decode_cluster_gpu[80](p, p, p, i, i, i, one, shape, ctx)
        attention_decode_cluster_gpu[256](p, p, p, i, i, i, one, shape, ctx)
    comptime if DeviceContext.default_device_info.compute == 9.0:
        var h = p.unsafe_bitcast[Float16]()
        attention_hopper_gpu[128](p, p, p, i, i, i, one, shape, ctx)
        attention_hopper_gpu[80](p, p, p, i, i, i, one, shape, ctx)
        attention_hopper_gpu[64](p, p, p, i, i, i, one, shape, ctx)
        attention_hopper_gpu[128](h, h, h, i, i, i, one, shape, ctx)
    attention_simple_gpu[128](p, p, p, i, i, i, one, shape, ctx)
    attention_decode_gpu[128](p, p, p, i, i, i, one, shape, ctx)
    attention_prefill_gpu[128](p, p, p, i, i, i, one, shape, ctx)
    attention_thread_gpu.attention[128](p, p, p, i, i, i, one, shape, ctx)
    attention_tiled_gpu.attention[128](p, p, p, i, i, i, one, shape, ctx)
