"""Linear, step 4: all cores, w row-major [N, K]. Each core computes a contiguous range of outputs, reading its part of w.
"""

from ..common import Ptr, task_range
from ..fork_join import Held, Job, fork_join, hold
from .linear_rows import columns
from max.runtime.asyncrt import parallelism_level


@fieldwise_init
struct ColumnsJob(Job):
    """The arguments of `linear`; a task is a range of outputs."""

    var y: Held[DType.float32]
    var x: Held[DType.bfloat16]
    var w: Held[DType.bfloat16]
    var m: Int
    var n: Int
    var k: Int
    var tasks: Int

    def run(self, task: Int):
        var first, last = task_range(task, self.tasks, self.n)
        columns(
            self.y.as_unsafe_any_origin(),
            self.x.as_unsafe_any_origin(),
            self.w.as_unsafe_any_origin(),
            self.m,
            self.n,
            self.k,
            first,
            last,
        )


def linear(
    y: Ptr[DType.float32],
    x: Ptr[DType.bfloat16],
    w: Ptr[DType.bfloat16],
    m: Int,
    n: Int,
    k: Int,
):
    """Writes y [m, n] = x [m, k] @ w [n, k].T."""
    var tasks = min(n, parallelism_level(None))
    fork_join(
        ColumnsJob(
            hold(y),
            hold(x),
            hold(w),
            m,
            n,
            k,
            tasks,
        ),
        tasks,
    )
