"""A list of weights in shared memory, sorted by a block of threads: greater weights first, of equal ones lower indices.

An entry is one number, the weight's bits before the inverted index. Threads put entries anywhere; sorted, the list is the
same whatever the order was. Bitonic sort: pairs of entries at a distance are put in order, the distance halves,

    distance  1 | 2 1 | 4 2 1 | 8 4 2 1          runs of 2, 4, 8, 16 are sorted, every other one the other way round
"""

from max.gpu import barrier
from max.gpu.memory import AddressSpace

from .gpu_common import pow2_at_least, thread_anew
from .sample_filter import as_float
from .sample_find_gpu import THREADS, Weights
from .sample_row_gpu import Kept

comptime SPACE = 4096
"""Entries that a list has room for."""


@fieldwise_init
struct List(Weights):
    """A list; as `Weights`, its weights."""

    var entries: Pointer[
        UInt64, MutUntrackedOrigin, address_space=AddressSpace.SHARED
    ]

    @always_inline
    def put(self, i: Int32, bits: UInt32, id: UInt32):
        """Makes a weight and its index entry i."""
        self.entries[unsafe_offset=Int(i)] = UInt64(bits) << 32 | UInt64(~id)

    @always_inline
    def at(self, i: Int32) -> Float32:
        return as_float(Int(self.entries[unsafe_offset=Int(i)] >> 32))

    @always_inline
    def up_to(self, i: Int32) -> Kept:
        """What is kept if entry i is the last."""
        return Kept(
            self.at(i), Int32(~UInt32(self.entries[unsafe_offset=Int(i)]))
        )

    @always_inline
    def sort(self, count: Int32):
        """Sorts `count` entries; all threads call it, after a block barrier, and a barrier is behind it.
        """
        var size = Int32(pow2_at_least(Int(count)))
        for i in range(count + thread_anew(), size, Int32(THREADS)):
            self.entries[unsafe_offset=Int(i)] = 0
        barrier()
        var run = Int32(2)
        while run <= size:
            var distance = run // 2
            while distance > 0:
                for i in range(thread_anew(), size // 2, Int32(THREADS)):
                    var low = 2 * i - (i & (distance - 1))
                    var one = self.entries.unsafe_offset(Int(low))
                    var other = one.unsafe_offset(Int(distance))
                    var a = one[]
                    var b = other[]
                    if (a < b) == (low & run == 0):
                        one[] = b
                        other[] = a
                barrier()
                distance //= 2
            run *= 2
