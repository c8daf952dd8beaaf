"""What the kernels share: the pointer type, float32 loads and stores, and how work is cut into tasks."""

from max.runtime.asyncrt import parallelism_level

comptime Ptr[dtype: DType] = Pointer[Scalar[dtype], MutAnyOrigin]
"""A pointer to elements on the device that the kernel runs on."""

comptime LANES = 16
"""Float32 lanes of a 512-bit register; all CPU kernels count in them, also where the registers are narrower."""

comptime GRAIN = 32768
"""Elements of work below which starting another task costs more than it saves (a start is a few microseconds)."""


@always_inline
def load_float32[
    dtype: DType, //, width: Int = LANES
](p: Ptr[dtype], offset: Int) -> SIMD[DType.float32, width]:
    """Loads `width` elements and widens them to float32 (exact for bfloat16 and float16).
    """
    return p.unsafe_load[width=width](offset).cast[DType.float32]()


@always_inline
def store_rounded[
    dtype: DType, width: SIMDLength, //
](p: Ptr[dtype], offset: Int, value: SIMD[DType.float32, width]):
    """Rounds once, to nearest even, to the type of the destination."""
    p.unsafe_store(offset, value.cast[dtype]())


def task_count(work: Int) -> Int:
    """How many tasks to start for `work` elements: one a core at most, and none that is too small to pay.
    """
    return max(1, min(parallelism_level(None), work // GRAIN))


@always_inline
def task_range(task: Int, tasks: Int, items: Int) -> Tuple[Int, Int]:
    """The items [first, last) of one task, when `items` are cut as evenly as possible.
    """
    return (task * items // tasks, (task + 1) * items // tasks)


def check_equal(what: StaticString, actual: Int, expected: Int) raises:
    """Raises an error that names the dimension and both values, when they differ.
    """
    if actual != expected:
        raise Error(what, " is ", actual, " but must be ", expected)
