"""What this machine can do at most, as a Python extension: reading, copying, multiply-adds, on all cores.

Each function does the work once, so that the caller can repeat and take medians.
"""

from kernels.common import LANES, task_range
from kernels.cpu_features import cpu_features
from kernels.fork_join import Held, Job, fork_join
from kernels.linear_tile import Sums, Units, dot_pairs
from max.runtime.asyncrt import parallelism_level
from std.collections import Array
from std.os import abort
from std.python import Python, PythonObject
from std.python.bindings import PythonModuleBuilder
from std.sys.info import CompilationTarget
from std.sys.intrinsics import PrefetchOptions, prefetch

comptime ACCUMULATORS = 12
"""Independent sums: enough to hide the latency of a multiply-add."""
comptime STEP = 4 * LANES


@fieldwise_init
struct Read[ahead: Int](Job):
    """Sums float32 [n]; every task leaves its sum, so that no reading can be left out.
    """

    var source: Held[DType.float32]
    var n: Int
    var results: Held[DType.float32]
    var tasks: Int

    def run(self, task: Int):
        var first, last = task_range(task, self.tasks, self.n // STEP)
        var sums = Array[Sums, 4](fill=0)
        for i in range(first * STEP, last * STEP, STEP):
            comptime for j in range(4):
                comptime if Self.ahead > 0:
                    prefetch[
                        PrefetchOptions()
                        .for_read()
                        .medium_locality()
                        .to_data_cache()
                    ](
                        self.source.unsafe_offset(
                            i + j * LANES + Self.ahead // 4
                        )
                    )
                sums[j] += self.source.unsafe_load[width=LANES](i + j * LANES)
        self.results[unsafe_offset=task] = (
            sums[0] + sums[1] + sums[2] + sums[3]
        ).reduce_add()


@fieldwise_init
struct Copy(Job):
    """Copies float32 [n]."""

    var target: Held[DType.float32]
    var source: Held[DType.float32]
    var n: Int
    var tasks: Int

    def run(self, task: Int):
        var first, last = task_range(task, self.tasks, self.n // STEP)
        for i in range(first * STEP, last * STEP, STEP):
            comptime for j in range(4):
                var at = i + j * LANES
                self.target.unsafe_store(
                    at, self.source.unsafe_load[width=LANES](at)
                )


@fieldwise_init
struct MultiplyAdd[dot: Bool](Job):
    """`rounds` times ACCUMULATORS multiply-adds of 16 lanes in registers."""

    var rounds: Int
    var results: Held[DType.float32]

    def run(self, task: Int):
        var sums = Array[Sums, ACCUMULATORS](fill=0)
        var a = Sums(self.results[unsafe_offset=task])
        var b = Units(Int32(self.rounds & 1))
        for _ in range(self.rounds):
            comptime for i in range(ACCUMULATORS):
                comptime if Self.dot:
                    sums[i] = dot_pairs(sums[i], b, b)
                else:
                    sums[i] = a.fma(a, sums[i])
        var total = Sums(0)
        comptime for i in range(ACCUMULATORS):
            total += sums[i]
        self.results[unsafe_offset=task] = total.reduce_add()


def held(address: PythonObject) raises -> Held[DType.float32]:
    return Held[DType.float32](unsafe_from_address=Int(py=address))


def cores() raises -> PythonObject:
    return PythonObject(parallelism_level(None))


def read(
    source: PythonObject,
    n: PythonObject,
    results: PythonObject,
    ahead: PythonObject,
) raises -> PythonObject:
    """Reads n float32 at `source`, with 64 KiB prefetched ahead or without."""
    var tasks = parallelism_level(None)
    if Int(py=ahead) == 0:
        fork_join(Read[0](held(source), Int(py=n), held(results), tasks), tasks)
    else:
        fork_join(
            Read[65536](held(source), Int(py=n), held(results), tasks), tasks
        )
    return PythonObject(None)


def copy(
    target: PythonObject, source: PythonObject, n: PythonObject
) raises -> PythonObject:
    """Copies n float32."""
    var tasks = parallelism_level(None)
    fork_join(Copy(held(target), held(source), Int(py=n), tasks), tasks)
    return PythonObject(None)


def multiply_add(
    rounds: PythonObject, results: PythonObject, dot: PythonObject
) raises -> PythonObject:
    """Returns the floating-point operations done on all cores together."""
    var tasks = parallelism_level(None)
    var n = Int(py=rounds)
    if Int(py=dot) == 1:
        if not (CompilationTarget.has_avx512f() and cpu_features().avx512_bf16):
            raise Error("this CPU has no AVX512-BF16")
        fork_join(MultiplyAdd[True](n, held(results)), tasks)
        return PythonObject(n * ACCUMULATORS * LANES * 4 * tasks)
    fork_join(MultiplyAdd[False](n, held(results)), tasks)
    return PythonObject(n * ACCUMULATORS * LANES * 2 * tasks)


@export
def PyInit_ceilings_native() abi("C") -> PythonObject:
    try:
        var module = PythonModuleBuilder("ceilings_native")
        module.def_function[cores]("cores")
        module.def_function[read]("read")
        module.def_function[copy]("copy")
        module.def_function[multiply_add]("multiply_add")
        return module.finalize()
    except e:
        abort(String("ceilings_native: ", e))
