"""Bulk copies from memory to shared memory, and the barriers that they report to (Hopper and later).

One thread asks for a block of contiguous bytes; the copy engine fetches it and counts the bytes off at a barrier in
shared memory, an `mbarrier`, whose phases alternate. A ring of stages passes blocks from a producer to its consumers:

    producer    wait empty[s] -> expect(full[s], bytes) -> copies into stage s
    consumers   wait full[s]  -> read stage s -> arrive(empty[s])              phase of the n-th use of a stage: n & 1

(PTX ISA, "cp.async.bulk" and "mbarrier".)
"""

from .common import Ptr
from max.gpu.memory import AddressSpace
from std.sys._assembly import inlined_assembly

comptime Stage[dtype: DType] = Pointer[
    Scalar[dtype], MutUntrackedOrigin, address_space=AddressSpace.SHARED
]
comptime Barriers = Stage[DType.uint64]


@always_inline
def init_barrier(barrier: Barriers, arrivals: Int):
    """Makes the barrier wait for so many arrivals a phase; `fence_barriers` and a block barrier must follow.
    """
    inlined_assembly[
        "mbarrier.init.shared::cta.b64 [$0], $1;",
        NoneType,
        constraints="r,r,~{memory}",
        has_side_effect=True,
    ](Int32(Int(barrier)), Int32(arrivals))


@always_inline
def fence_barriers():
    """Lets the copy engine see barriers that this thread has made."""
    inlined_assembly[
        "fence.mbarrier_init.release.cluster;",
        NoneType,
        constraints="~{memory}",
        has_side_effect=True,
    ]()


@always_inline
def arrive(barrier: Barriers):
    """One arrival."""
    inlined_assembly[
        "mbarrier.arrive.release.cta.shared::cta.b64 _, [$0];",
        NoneType,
        constraints="r,~{memory}",
        has_side_effect=True,
    ](Int32(Int(barrier)))


@always_inline
def arrive_and_expect(barrier: Barriers, bytes: Int):
    """One arrival, which also makes the phase wait for so many bytes of bulk copies.
    """
    inlined_assembly[
        "mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [$0], $1;",
        NoneType,
        constraints="r,r,~{memory}",
        has_side_effect=True,
    ](Int32(Int(barrier)), Int32(bytes))


@always_inline
def wait_barrier(barrier: Barriers, phase: Int):
    """Waits until the phase of this parity has ended; a new barrier is in phase 0.
    """
    while True:
        var done = inlined_assembly[
            (
                "{ .reg .pred p; mbarrier.try_wait.parity.acquire.cta"
                ".shared::cta.b64 p, [$1], $2; selp.b32 $0, 1, 0, p; }"
            ),
            Int32,
            constraints="=r,r,r,~{memory}",
            has_side_effect=True,
        ](Int32(Int(barrier)), Int32(phase))
        if done != 0:
            return


@always_inline
def copy_bulk[
    dtype: DType
](target: Stage[dtype], source: Ptr[dtype], bytes: Int, barrier: Barriers):
    """Starts a copy of `bytes`, a multiple of 16 like both addresses; it counts them off at the barrier.
    """
    inlined_assembly[
        (
            "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes"
            " [$0], [$1], $2, [$3];"
        ),
        NoneType,
        constraints="r,l,r,r,~{memory}",
        has_side_effect=True,
    ](
        Int32(Int(target)),
        Int64(Int(source)),
        Int32(bytes),
        Int32(Int(barrier)),
    )
