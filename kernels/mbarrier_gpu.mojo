"""Barriers in shared memory that count arrivals and bytes (Hopper and later): rings of stages between warps.

An `mbarrier` is eight bytes. A phase of it ends when all arrivals that it was made for have come, and all bytes that
were announced; phases alternate, so a thread that waits says which parity it waits for.

    producer    wait free[s] -> copies into stage s, which report to full[s]
    consumers   wait full[s] -> read stage s -> arrive(free[s])                phase of the n-th use of a stage: n & 1

(PTX ISA, "mbarrier".)
"""

from max.gpu.memory import AddressSpace
from std.sys._assembly import inlined_assembly

comptime Barriers = Pointer[
    UInt64, MutUntrackedOrigin, address_space=AddressSpace.SHARED
]


@always_inline
def init_barrier(barrier: Barriers, arrivals: Int):
    """Makes the barrier wait for so many arrivals a phase; a block barrier must follow, and `fence_barriers` before it
    where the copy engine reports to the barrier.
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
def arrive_after_copies(barrier: Barriers):
    """One arrival, when the `cp.async` copies that this thread has started are complete.
    """
    inlined_assembly[
        "cp.async.mbarrier.arrive.noinc.shared::cta.b64 [$0];",
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
def wait_barrier[cluster: Bool = False](barrier: Barriers, phase: Int):
    """Waits until the phase of this parity has ended; a new barrier is in phase 0. `cluster`: what other blocks of the
    cluster have written is waited for.
    """
    comptime scope = "cluster" if cluster else "cta"
    while True:
        var done = inlined_assembly[
            String(
                "{ .reg .pred p; mbarrier.try_wait.parity.acquire.",
                scope,
                ".shared::cta.b64 p, [$1], $2; selp.b32 $0, 1, 0, p; }",
            ),
            Int32,
            constraints="=r,r,r,~{memory}",
            has_side_effect=True,
        ](Int32(Int(barrier)), Int32(phase))
        if done != 0:
            return
