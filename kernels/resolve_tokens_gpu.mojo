"""Token ids of a step on a GPU, a thread a token: y[i] = tokens[i], or drawn[-1 - tokens[i]] (resolve_tokens.mojo)."""

from .common import Ptr
from .resolve_tokens import resolved
from max.gpu import block_idx, thread_idx
from max.gpu.host import DeviceContext
from std.math import ceildiv

comptime THREADS = 256


@__name(t"mili_resolve_tokens_{THREADS}")
def resolve_tokens_kernel(
    y: Ptr[DType.int32],
    tokens: Ptr[DType.int32],
    drawn: Ptr[DType.int32],
    rows: Int32,
    count: Int32,
):
    """One thread a token."""
    var i = Int(block_idx.x) * THREADS + Int(thread_idx.x)
    if i < Int(rows):
        y[unsafe_offset=i] = resolved(
            tokens[unsafe_offset=i], drawn, Int(count)
        )


def resolve_tokens_gpu(
    y: Ptr[DType.int32],
    tokens: Ptr[DType.int32],
    drawn: Ptr[DType.int32],
    rows: Int,
    count: Int,
    ctx: DeviceContext,
) raises:
    """Writes y [rows] from tokens [rows] and drawn [count]."""
    if rows == 0:
        return
    ctx.enqueue_function[resolve_tokens_kernel](
        y,
        tokens,
        drawn,
        Int32(rows),
        Int32(count),
        grid_dim=ceildiv(rows, THREADS),
        block_dim=THREADS,
    )
