"""Embedding: copy the table's row of each token.

    x[t, :] = table[tokens[t], :]                          tokens [T], table [V, E], x [T, E]

On the CPU the table is packed (docs/architecture.md), because the language-model head multiplies by the same matrix.
Element (v, e) then stands at

    bfloat16   ((v/16 * E'/2 + e/2) * 16 + v%16) * 2 + e%2       E' = E rounded up to even
    float32    (v/16 * E + e) * 16 + v%16

so a row is gathered with a stride of 64 bytes instead of being read in one piece. It costs 16 times the cache lines of
a plain copy, a few microseconds a token, and saves a second copy of the largest matrix of a small model.

A token id outside [0, V) gives a row of zeros: an id is data, and data must not make a kernel read foreign memory.

No ladder: there is nothing to compute, and a copy of one row a token leaves no idea to add to the one before.
"""

from .common import Ptr, task_count, task_range
from .fork_join import Held, Job, fork_join, hold
from std.math import ceildiv


@fieldwise_init
struct EmbeddingJob[dtype: DType](Job):
    """The arguments of `embedding_cpu`; a task is a range of tokens."""

    var x: Held[Self.dtype]
    var tokens: Held[DType.int32]
    var table: Held[Self.dtype]
    var rows: Int
    var width: Int
    var vocabulary: Int
    var tasks: Int

    def run(self, task: Int):
        var first, last = task_range(task, self.tasks, self.rows)
        for t in range(first, last):
            unpack_row(
                self.x.as_unsafe_any_origin().unsafe_offset(t * self.width),
                self.table.as_unsafe_any_origin(),
                Int(self.tokens[unsafe_offset=t]),
                self.width,
                self.vocabulary,
            )


def embedding_cpu[
    dtype: DType
](
    x: Ptr[dtype],
    tokens: Ptr[DType.int32],
    table: Ptr[dtype],
    rows: Int,
    width: Int,
    vocabulary: Int,
):
    """Writes x [rows, width] from a packed table; `vocabulary` is its number of rows, padding included.
    """
    var tasks = task_count(rows * width * 16)
    fork_join(
        EmbeddingJob[dtype](
            hold(x), hold(tokens), hold(table), rows, width, vocabulary, tasks
        ),
        tasks,
    )


@always_inline
def unpack_row[
    dtype: DType
](x: Ptr[dtype], table: Ptr[dtype], row: Int, width: Int, vocabulary: Int):
    """Copies one row of a packed matrix."""
    if row < 0 or row >= vocabulary:
        for e in range(width):
            x[unsafe_offset=e] = 0
        return
    comptime if dtype == DType.bfloat16:
        var source = table.unsafe_offset(
            (row // 16 * ceildiv(width, 2) * 16 + row % 16) * 2
        )
        for e in range(width):
            x[unsafe_offset=e] = source[unsafe_offset=e // 2 * 32 + e % 2]
    else:
        var source = table.unsafe_offset(row // 16 * width * 16 + row % 16)
        for e in range(width):
            x[unsafe_offset=e] = source[unsafe_offset=e * 16]


def gather_rows_cpu[
    dtype: DType
](
    y: Ptr[dtype],
    x: Ptr[dtype],
    rows: Ptr[DType.int32],
    count: Int,
    width: Int,
    source_rows: Int,
):
    """Writes y[i, :] = x[rows[i], :] for `count` rows; an index outside [0, source_rows) gives zeros.
    """
    for i in range(count):
        var row = Int(rows[unsafe_offset=i])
        var known = row >= 0 and row < source_rows
        for e in range(width):
            y[unsafe_offset=i * width + e] = x[
                unsafe_offset=row * width + e
            ] if known else 0
