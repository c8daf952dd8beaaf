"""Attention on a GPU; which kernel runs is decided here. The mathematics is in `attention.mojo`.

    bfloat16, float16 on NVIDIA
        T = B, D a multiple of 8     one new token a request: bound by reading the cache
            Hopper                   attention_decode_cluster_gpu.mojo   a cluster of blocks a head, one launch
            before Hopper            attention_decode_gpu.mojo           pages loaded into registers, a join after them
        D a multiple of 16           attention_prefill_gpu.mojo    tiles of queries: bound by arithmetic
            Hopper, D up to 128      attention_hopper_gpu.mojo     warpgroup products, copies by warps of their own
                                     and the requests of one token in such a step as where T = B, if there are many
    everything else                  attention_simple_gpu.mojo     float32 products

The ladders (`kernels/steps/attention_*_gpu.mojo`, `python -m benchmarks.ladder prefill --device gpu`, and `decode`):
microseconds on an H100 that copies 2,440 GB/s, 16 query and 8 key/value heads of 128 in bfloat16; prefill of one
prompt, decode of so many requests at 2,048 tokens:

                                   prefill 512    prefill 2048    decode 1    decode 32
    one thread a query head              2,109          12,778      10,901       17,403
    one block a query head                 218           3,017         161          185
    keys in shared memory, 64 rows         252           1,682
    tensor cores                            24             133        10.2          106
    what the engine chooses on Hopper     12.7              39         5.5           92
    PyTorch 2.11                          12.3              51         9.4           92

(benchmarks/results/2026-11-26_h100_ladders.json; prefill by tensor cores is of 2026-11-26_h100_prefill_variants.json.
In that run 2,048 tokens after 8,192 took 267 us by the Hopper kernel and 754 by attention_prefill_gpu.mojo, 512 after 4,096 65
and 177, eight prompts of 512 39 and 76, sixteen of 128 14 and 21.)
"""

from .attention import AttentionShape
from .attention_decode_cluster_launch_gpu import attention_decode_cluster_gpu
from .attention_decode_gpu import attention_decode_gpu
from .attention_prefill_gpu import attention_prefill_gpu
from .attention_hopper_gpu import attention_hopper_gpu, hopper_serves
from .attention_simple_gpu import attention_simple_gpu
from .common import Ptr
from max.gpu.host import DeviceContext

comptime MIXED = 64
"""Key/value heads of all requests of a step that has prompts too, from which on its requests of one token are computed as in
decoding."""


def attention_gpu[
    D: Int, dtype: DType
](
    o: Ptr[dtype],
    q: Ptr[dtype],
    kv: Ptr[dtype],
    row_offsets: Ptr[DType.int32],
    context_lengths: Ptr[DType.int32],
    page_table: Ptr[DType.int32],
    scale: Float32,
    shape: AttentionShape,
    ctx: DeviceContext,
) raises:
    """Writes o [T, H, D] for queries q [T, H, D] over the cache [pages, 2, KH, PS, D].
    """
    if shape.tokens == 0:
        return
    comptime if DeviceContext.default_device_info.api == "cuda" and dtype.is_half_float():
        comptime if D % 8 == 0 and D <= 256:
            if shape.tokens == shape.requests:
                comptime if DeviceContext.default_device_info.compute >= 9.0:
                    attention_decode_cluster_gpu[D](
                        o,
                        q,
                        kv,
                        row_offsets,
                        context_lengths,
                        page_table,
                        scale,
                        shape,
                        ctx,
                    )
                else:
                    attention_decode_gpu[D](
                        o,
                        q,
                        kv,
                        row_offsets,
                        context_lengths,
                        page_table,
                        scale,
                        shape,
                        ctx,
                    )
                return
        comptime if D % 16 == 0 and D <= 128 and DeviceContext.default_device_info.compute == 9.0:
            if hopper_serves(shape):
                var decodes = shape.requests * shape.kv_heads >= MIXED
                if decodes:  # requests of one token, and then the others
                    attention_decode_cluster_gpu[D](
                        o,
                        q,
                        kv,
                        row_offsets,
                        context_lengths,
                        page_table,
                        scale,
                        shape,
                        ctx,
                    )
                attention_hopper_gpu[D](
                    o,
                    q,
                    kv,
                    row_offsets,
                    context_lengths,
                    page_table,
                    scale,
                    shape,
                    ctx,
                    least=2 if decodes else 1,
                )
                return
        comptime if D % 16 == 0 and D <= 256:
            attention_prefill_gpu[D](
                o,
                q,
                kv,
                row_offsets,
                context_lengths,
                page_table,
                scale,
                shape,
                ctx,
            )
            return
    attention_simple_gpu[D](
        o, q, kv, row_offsets, context_lengths, page_table, scale, shape, ctx
    )
