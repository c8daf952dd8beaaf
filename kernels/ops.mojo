"""The operations that the engine's graph calls, registered with MAX; shapes and dtypes are in docs/architecture.md.

Each checks its shapes and calls one function: the component's CPU or GPU version, chosen when the graph is compiled.
`mili/ops.py` wraps each one for Python. The norms are in `ops_norm.mojo`, RoPE and attention in `ops_attention.mojo`.
"""

from .argmax import argmax_cpu
from .argmax_gpu import argmax_gpu
from .common import LANES, check_equal
from .embedding import embedding_cpu, gather_rows_cpu
from .embedding_gpu import gather_rows_gpu
from .linear_cpu import linear_cpu
from .linear_gpu import linear_gpu
from .ops_attention import Attention, QKNormRopeWrite
from .ops_norm import AddRMSNorm, RMSNorm
from .resolve_tokens import resolve_tokens_cpu
from .resolve_tokens_gpu import resolve_tokens_gpu
from .sample import FIELDS, sample_cpu
from .sample_gpu import sample_gpu
from .swiglu import swiglu_cpu
from .swiglu_gpu import swiglu_gpu
from extensibility import InputTensor, OutputTensor, register
from max.gpu.host import DeviceContext
from std.math import ceildiv


@register("mili_resolve_tokens")
struct ResolveTokens:
    """Takes tokens [T], ids or rows of drawn [R] (resolve_tokens.mojo) -> ids [T].
    """

    @staticmethod
    def execute[
        target: StaticString
    ](
        y: OutputTensor[dtype=DType.int32, rank=1, ...],
        tokens: InputTensor[dtype=DType.int32, rank=1, ...],
        drawn: InputTensor[dtype=DType.int32, rank=1, ...],
        ctx: DeviceContext,
    ) raises:
        var rows = tokens.dim_size[0]()
        var count = drawn.dim_size[0]()
        check_equal("mili_resolve_tokens: length of y", y.dim_size[0](), rows)
        var y_ptr = y.unsafe_ptr().as_unsafe_any_origin()
        var tokens_ptr = tokens.unsafe_ptr().as_unsafe_any_origin()
        var drawn_ptr = drawn.unsafe_ptr().as_unsafe_any_origin()
        comptime if target == "cpu":
            resolve_tokens_cpu(y_ptr, tokens_ptr, drawn_ptr, rows, count)
        else:
            resolve_tokens_gpu(y_ptr, tokens_ptr, drawn_ptr, rows, count, ctx)


@register("mili_embedding")
struct Embedding:
    """Rows tokens [T] of table -> x [T, E]; the table is packed on the CPU, [V, E] on a GPU.
    """

    @staticmethod
    def execute[
        dtype: DType, rank: Int, //, target: StaticString
    ](
        x: OutputTensor[dtype=dtype, rank=2, ...],
        tokens: InputTensor[dtype=DType.int32, rank=1, ...],
        table: InputTensor[dtype=dtype, rank=rank, ...],
        ctx: DeviceContext,
    ) raises:
        var rows = tokens.dim_size[0]()
        var width = x.dim_size[1]()
        check_equal("mili_embedding: rows of x", x.dim_size[0](), rows)
        var x_ptr = x.unsafe_ptr().as_unsafe_any_origin()
        var tokens_ptr = tokens.unsafe_ptr().as_unsafe_any_origin()
        var table_ptr = table.unsafe_ptr().as_unsafe_any_origin()
        comptime if target == "cpu":
            check_packed[dtype, rank](
                "mili_embedding: packed columns", table.dim_size[1](), width
            )
            embedding_cpu(
                x_ptr,
                tokens_ptr,
                table_ptr,
                rows,
                width,
                table.dim_size[0]() * LANES,
            )
        else:
            check_equal(
                "mili_embedding: columns of table", table.dim_size[1](), width
            )
            gather_rows_gpu(
                x_ptr,
                table_ptr,
                tokens_ptr,
                rows,
                width,
                table.dim_size[0](),
                ctx,
            )


@register("mili_gather_rows")
struct GatherRows:
    """Rows [L] of x [T, E] -> y [L, E]."""

    @staticmethod
    def execute[
        dtype: DType, //, target: StaticString
    ](
        y: OutputTensor[dtype=dtype, rank=2, ...],
        x: InputTensor[dtype=dtype, rank=2, ...],
        rows: InputTensor[dtype=DType.int32, rank=1, ...],
        ctx: DeviceContext,
    ) raises:
        var count = rows.dim_size[0]()
        var width = x.dim_size[1]()
        check_equal("mili_gather_rows: rows of y", y.dim_size[0](), count)
        check_equal("mili_gather_rows: columns of y", y.dim_size[1](), width)
        var y_ptr = y.unsafe_ptr().as_unsafe_any_origin()
        var x_ptr = x.unsafe_ptr().as_unsafe_any_origin()
        var rows_ptr = rows.unsafe_ptr().as_unsafe_any_origin()
        comptime if target == "cpu":
            gather_rows_cpu(
                y_ptr, x_ptr, rows_ptr, count, width, x.dim_size[0]()
            )
        else:
            gather_rows_gpu(
                y_ptr, x_ptr, rows_ptr, count, width, x.dim_size[0](), ctx
            )


@register("mili_linear")
struct Linear:
    """Product y [M, N] = x [M, K] @ w.T; w is packed on the CPU, [N, K] on a GPU; y in dtype or float32. The parameters
    n and k say N and K where the graph knows them.
    """

    @staticmethod
    def execute[
        dtype: DType,
        out_dtype: DType,
        rank: Int,
        //,
        n: Int,
        k: Int,
        target: StaticString,
    ](
        y: OutputTensor[dtype=out_dtype, rank=2, ...],
        x: InputTensor[dtype=dtype, rank=2, ...],
        w: InputTensor[dtype=dtype, rank=rank, ...],
        ctx: DeviceContext,
    ) raises:
        var m = x.dim_size[0]()
        var depth = x.dim_size[1]()
        var columns = y.dim_size[1]()
        check_equal("mili_linear: rows of y", y.dim_size[0](), m)
        var y_ptr = y.unsafe_ptr().as_unsafe_any_origin()
        var x_ptr = x.unsafe_ptr().as_unsafe_any_origin()
        var w_ptr = w.unsafe_ptr().as_unsafe_any_origin()
        comptime if target == "cpu":
            check_equal(
                "mili_linear: blocks of packed w",
                w.dim_size[0](),
                ceildiv(columns, LANES),
            )
            check_packed[dtype, rank](
                "mili_linear: packed columns of w", w.dim_size[1](), depth
            )
            linear_cpu(y_ptr, x_ptr, w_ptr, m, columns, depth)
        else:
            check_equal("mili_linear: rows of w", w.dim_size[0](), columns)
            check_equal("mili_linear: columns of w", w.dim_size[1](), depth)
            linear_gpu[N=n, K=k](y_ptr, x_ptr, w_ptr, m, columns, depth, ctx)


@register("mili_swiglu")
struct SwiGLU:
    """Gate silu(gate) * up: gate_up [T, 2 I] -> y [T, I]."""

    @staticmethod
    def execute[
        dtype: DType, //, target: StaticString
    ](
        y: OutputTensor[dtype=dtype, rank=2, ...],
        gate_up: InputTensor[dtype=dtype, rank=2, ...],
        ctx: DeviceContext,
    ) raises:
        var rows = gate_up.dim_size[0]()
        var width = y.dim_size[1]()
        check_equal(
            "mili_swiglu: columns of gate_up", gate_up.dim_size[1](), 2 * width
        )
        check_equal("mili_swiglu: rows of y", y.dim_size[0](), rows)
        var y_ptr = y.unsafe_ptr().as_unsafe_any_origin()
        var gate_up_ptr = gate_up.unsafe_ptr().as_unsafe_any_origin()
        comptime if target == "cpu":
            swiglu_cpu(y_ptr, gate_up_ptr, rows, width)
        else:
            swiglu_gpu(y_ptr, gate_up_ptr, rows, width, ctx)


@register("mili_argmax")
struct Argmax:
    """Takes logits [L, V] float32 -> tokens [L] int32, the lowest index among equals.
    """

    @staticmethod
    def execute[
        target: StaticString
    ](
        tokens: OutputTensor[dtype=DType.int32, rank=1, ...],
        logits: InputTensor[dtype=DType.float32, rank=2, ...],
        ctx: DeviceContext,
    ) raises:
        var rows = logits.dim_size[0]()
        var width = logits.dim_size[1]()
        check_equal("mili_argmax: length of tokens", tokens.dim_size[0](), rows)
        var tokens_ptr = tokens.unsafe_ptr().as_unsafe_any_origin()
        var logits_ptr = logits.unsafe_ptr().as_unsafe_any_origin()
        comptime if target == "cpu":
            argmax_cpu(tokens_ptr, logits_ptr, rows, width)
        else:
            argmax_gpu(tokens_ptr, logits_ptr, rows, width, ctx)


@register("mili_sample")
struct Sample:
    """Takes logits [L, V] float32 and fields [L, 5] float32 -> tokens [L] int32; the fields stand in sample.mojo.
    """

    @staticmethod
    def execute[
        target: StaticString
    ](
        tokens: OutputTensor[dtype=DType.int32, rank=1, ...],
        logits: InputTensor[dtype=DType.float32, rank=2, ...],
        fields: InputTensor[dtype=DType.float32, rank=2, ...],
        ctx: DeviceContext,
    ) raises:
        var rows = logits.dim_size[0]()
        var width = logits.dim_size[1]()
        check_equal("mili_sample: length of tokens", tokens.dim_size[0](), rows)
        check_equal("mili_sample: rows of fields", fields.dim_size[0](), rows)
        check_equal(
            "mili_sample: columns of fields", fields.dim_size[1](), FIELDS
        )
        var tokens_ptr = tokens.unsafe_ptr().as_unsafe_any_origin()
        var logits_ptr = logits.unsafe_ptr().as_unsafe_any_origin()
        var fields_ptr = fields.unsafe_ptr().as_unsafe_any_origin()
        comptime if target == "cpu":
            sample_cpu(tokens_ptr, logits_ptr, fields_ptr, rows, width)
        else:
            sample_gpu(tokens_ptr, logits_ptr, fields_ptr, rows, width, ctx)


def check_packed[
    dtype: DType, rank: Int
](what: StaticString, actual: Int, columns: Int) raises:
    """Checks the second dimension of a packed matrix: pairs of columns in bfloat16, columns in float32.
    """
    comptime if dtype == DType.bfloat16:
        comptime assert (
            rank == 4
        ), "a packed bfloat16 matrix is [ceil(N/16), ceil(K/2), 16, 2]"
        check_equal(what, actual, ceildiv(columns, 2))
    else:
        comptime assert (
            rank == 3
        ), "a packed float32 matrix is [ceil(N/16), K, 16]"
        check_equal(what, actual, columns)
