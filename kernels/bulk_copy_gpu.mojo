"""Bulk copies from memory to shared memory (Hopper and later).

One thread asks for a block of contiguous bytes; the copy engine fetches it and counts the bytes off at a barrier in
shared memory (mbarrier_gpu.mojo) that was told to expect them. (PTX ISA, "cp.async.bulk".)
"""

from .common import Ptr
from .mbarrier_gpu import Barriers
from max.gpu.memory import AddressSpace
from std.sys._assembly import inlined_assembly

comptime Stage[dtype: DType] = Pointer[
    Scalar[dtype], MutUntrackedOrigin, address_space=AddressSpace.SHARED
]


@always_inline
def read_once() -> Int64:
    """The policy for what is read once: it leaves the L2 cache first, so that instructions and small tables stay.
    """
    return inlined_assembly[
        "createpolicy.fractional.L2::evict_first.b64 $0, 1.0;",
        Int64,
        constraints="=l",
        has_side_effect=False,
    ]()


@always_inline
def copy_bulk[
    dtype: DType
](
    target: Stage[dtype],
    source: Ptr[dtype],
    bytes: Int,
    barrier: Barriers,
    policy: Int64,
):
    """Starts a copy of `bytes`, a multiple of 16 like both addresses; it counts them off at the barrier.
    """
    inlined_assembly[
        (
            "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes"
            ".L2::cache_hint [$0], [$1], $2, [$3], $4;"
        ),
        NoneType,
        constraints="r,l,r,r,l,~{memory}",
        has_side_effect=True,
    ](
        Int32(Int(target)),
        Int64(Int(source)),
        Int32(bytes),
        Int32(Int(barrier)),
        policy,
    )
