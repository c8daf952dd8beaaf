"""Clusters of blocks (Hopper and later): blocks that run at the same time and write into each other's shared memory.

    block 0            block 1                    an address in shared memory and the rank of a block of the cluster
    | a | full |  ...  | a | full |               make an address in that block's shared memory (`mapa`)
                           ^   ^
    push(a of 1, value) ---+---+ counts the bytes off at a barrier beside them, so that the owner knows when all have come

A block must not write to one that has not started, nor to one that may have ended. (PTX ISA, "st.async", "mapa" and
"barrier.cluster".)
"""

from .gpu_common import Stage
from .mbarrier_gpu import Barriers
from std.sys._assembly import inlined_assembly


@always_inline
def address_in_block(address: Int, rank: Int) -> Int32:
    """The address that `address`, in shared memory of this block, has in the block of that rank of the cluster.
    """
    return inlined_assembly[
        "mapa.shared::cluster.u32 $0, $1, $2;",
        Int32,
        constraints="=r,r,r",
        has_side_effect=False,
    ](Int32(address), Int32(rank))


@always_inline
def push[
    width: Int
](target: Int32, value: SIMD[DType.float32, width], barrier: Int32):
    """Writes two or four floats into the shared memory of a block of the cluster; its barrier counts their bytes off.

    Both addresses are of `address_in_block`, the target's a multiple of the value's size.
    """
    comptime assert width == 2 or width == 4
    comptime if width == 4:
        inlined_assembly[
            (
                "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes"
                ".v4.f32 [$0], {$1, $2, $3, $4}, [$5];"
            ),
            NoneType,
            constraints="r,f,f,f,f,r,~{memory}",
            has_side_effect=True,
        ](target, value[0], value[1], value[2], value[3], barrier)
    else:
        inlined_assembly[
            (
                "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes"
                ".v2.f32 [$0], {$1, $2}, [$3];"
            ),
            NoneType,
            constraints="r,f,f,r,~{memory}",
            has_side_effect=True,
        ](target, value[0], value[1], barrier)


@always_inline
def cluster_rank() -> Int:
    """This block's place in its cluster."""
    return Int(
        inlined_assembly[
            "mov.u32 $0, %cluster_ctarank;",
            UInt32,
            constraints="=r",
            has_side_effect=False,
        ]()
    )


@always_inline
def cluster_arrive():
    """This thread has reached the barrier of the cluster. It orders no memory: that would cost a fence over the whole
    GPU, and barriers and copies that report to barriers need none.
    """
    inlined_assembly[
        "barrier.cluster.arrive.relaxed;",
        NoneType,
        constraints="~{memory}",
        has_side_effect=True,
    ]()


@always_inline
def cluster_wait():
    """Waits until all threads of all blocks of the cluster have arrived."""
    inlined_assembly[
        "barrier.cluster.wait.acquire;",
        NoneType,
        constraints="~{memory}",
        has_side_effect=True,
    ]()


@always_inline
def copy_to_block[
    dtype: DType
](
    target: Stage[dtype],
    source: Stage[dtype],
    bytes: Int,
    barrier: Barriers,
    rank: Int,
):
    """Starts a copy of `bytes` of this block's shared memory to that of another one; it counts them off at that block's
    barrier. `fence_async` must come between the writes to the source and this.
    """
    inlined_assembly[
        (
            "{ .reg .b32 a, b; mapa.shared::cluster.u32 a, $0, $4;"
            " mapa.shared::cluster.u32 b, $3, $4;"
            " cp.async.bulk.shared::cluster.shared::cta"
            ".mbarrier::complete_tx::bytes [a], [$1], $2, [b]; }"
        ),
        NoneType,
        constraints="r,r,r,r,r,~{memory}",
        has_side_effect=True,
    ](
        Int32(Int(target)),
        Int32(Int(source)),
        Int32(bytes),
        Int32(Int(barrier)),
        Int32(rank),
    )
