"""Calls the tuned GPU kernels once each, so that the compiler writes their PTX; tests/kernels/test_ptx.py reads it."""

from kernels.attention import AttentionShape
from kernels.attention_decode_gpu import attention_decode_gpu
from kernels.attention_prefill_gpu import attention_prefill_gpu
from kernels.linear_hopper_gpu import linear_hopper_gpu
from kernels.linear_skinny_gpu import linear_skinny_gpu
from kernels.linear_tiled_gpu import linear_tiled_gpu
from max.gpu.host import DeviceContext


def main() raises:
    var ctx = DeviceContext()
    var memory = ctx.enqueue_create_buffer[DType.bfloat16](4096)
    var p = memory.unsafe_ptr().as_unsafe_any_origin()
    var i = p.unsafe_bitcast[Int32]()
    linear_skinny_gpu(p, p, p, 1, 8, 8, ctx)
    linear_tiled_gpu(p, p, p, 1, 8, 8, ctx)
    linear_hopper_gpu(p, p, p, 1, 8, 8, ctx)
    var shape = AttentionShape(
        tokens=1,
        requests=1,
        heads=2,
        kv_heads=1,
        page_size=16,
        table_width=8,
        window=0,
    )
    attention_decode_gpu[128](p, p, p, i, i, i, Float32(1), shape, ctx)
    attention_prefill_gpu[128](p, p, p, i, i, i, Float32(1), shape, ctx)
