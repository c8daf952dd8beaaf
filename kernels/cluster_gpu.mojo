"""Clusters of blocks (Hopper and later): blocks that run at the same time and read each other's shared memory.

A shared address names the same place in every block of the cluster; `mapa` turns it and a block's rank into an address
that loads, arrivals and copies of the cluster take. (PTX ISA, "mapa", "barrier.cluster".)
"""

from .bulk_copy_gpu import Stage
from .mbarrier_gpu import Barriers
from std.sys._assembly import inlined_assembly


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
