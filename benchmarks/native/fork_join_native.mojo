"""The team of `kernels/fork_join.mojo` as a Python extension, for its tests and its timing."""

from kernels.fork_join import Held, Job, fork_join
from max.algorithm import sync_parallelize
from std.os import abort
from std.python import Python, PythonObject
from std.python.bindings import PythonModuleBuilder
from std.time import perf_counter_ns


@fieldwise_init
struct Count(Job):
    """Task t adds 1 to counts[t]: a task left out or run twice shows."""

    var counts: Held[DType.int32]

    def run(self, task: Int):
        self.counts[unsafe_offset=task] += 1


def count(
    address: PythonObject, tasks: PythonObject, rounds: PythonObject
) raises -> PythonObject:
    """Runs `rounds` jobs of `tasks` tasks that count in int32 [tasks] at `address`.
    """
    var counts = Held[DType.int32](unsafe_from_address=Int(py=address))
    var n = Int(py=tasks)
    for _ in range(Int(py=rounds)):
        fork_join(Count(counts), n)
    return PythonObject(None)


def count_from_two(
    address: PythonObject, tasks: PythonObject, rounds: PythonObject
) raises -> PythonObject:
    """As `count` from two threads at once; caller c counts in row c of int32 [2, tasks].
    """
    var counts = Held[DType.int32](unsafe_from_address=Int(py=address))
    var n = Int(py=tasks)
    var times = Int(py=rounds)

    def call(caller: Int) {var counts, var n, var times}:
        for _ in range(times):
            fork_join(Count(counts.unsafe_offset(caller * n)), n)

    sync_parallelize(call, 2)
    return PythonObject(None)


def nanoseconds(
    address: PythonObject, rounds: PythonObject
) raises -> PythonObject:
    """Times a fork and join of two tasks that do nearly nothing: (this team's, sync_parallelize's).
    """
    var counts = Held[DType.int32](unsafe_from_address=Int(py=address))
    var n = Int(py=rounds)
    var start = perf_counter_ns()
    for _ in range(n):
        fork_join(Count(counts), 2)
    var ours = Float64(perf_counter_ns() - start) / Float64(n)

    def run(task: Int) {var counts}:
        counts[unsafe_offset=task] += 1

    start = perf_counter_ns()
    for _ in range(n):
        sync_parallelize(run, 2)
    var theirs = Float64(perf_counter_ns() - start) / Float64(n)
    return Python.tuple(ours, theirs)


@export
def PyInit_fork_join_native() abi("C") -> PythonObject:
    try:
        var module = PythonModuleBuilder("fork_join_native")
        module.def_function[count]("count")
        module.def_function[count_from_two]("count_from_two")
        module.def_function[nanoseconds]("nanoseconds")
        return module.finalize()
    except e:
        abort(String("fork_join_native: ", e))
