"""The operations that the engine's graph calls, registered with MAX; shapes and dtypes are in docs/architecture.md.

Each checks its shapes and calls one function: the component's CPU or GPU version, chosen when the graph is compiled.
`mili/ops.py` wraps each one for Python.
"""

from .argmax import argmax_cpu
from .argmax_gpu import argmax_gpu
from .attention import AttentionShape
from .attention_cpu import attention_cpu
from .attention_gpu import attention_gpu
from .common import LANES, check_equal
from .embedding import embedding_cpu, gather_rows_cpu
from .embedding_gpu import gather_rows_gpu
from .linear_cpu import linear_cpu
from .linear_gpu import linear_gpu
from .rms_norm import add_rms_norm_cpu, rms_norm_cpu
from .rms_norm_gpu import add_rms_norm_gpu, rms_norm_gpu
from .rope import qk_norm_rope_write_cpu
from .rope_gpu import qk_norm_rope_write_gpu
from .sample import FIELDS, sample_cpu
from .sample_gpu import sample_gpu
from .swiglu import swiglu_cpu
from .swiglu_gpu import swiglu_gpu
from extensibility import InputTensor, OutputTensor, register
from extensibility import _MutableInputTensor as MutableInputTensor
from max.gpu.host import DeviceContext
from std.math import ceildiv


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


@register("mili_rms_norm")
struct RMSNorm:
    """RMSNorm(x) * weight: x [T, E], weight [E] -> y [T, E]."""

    @staticmethod
    def execute[
        dtype: DType, //, target: StaticString
    ](
        y: OutputTensor[dtype=dtype, rank=2, ...],
        x: InputTensor[dtype=dtype, rank=2, ...],
        weight: InputTensor[dtype=dtype, rank=1, ...],
        eps: Float32,
        ctx: DeviceContext,
    ) raises:
        var rows = x.dim_size[0]()
        var width = x.dim_size[1]()
        check_equal(
            "mili_rms_norm: length of weight", weight.dim_size[0](), width
        )
        check_equal("mili_rms_norm: rows of y", y.dim_size[0](), rows)
        check_equal("mili_rms_norm: columns of y", y.dim_size[1](), width)
        var y_ptr = y.unsafe_ptr().as_unsafe_any_origin()
        var x_ptr = x.unsafe_ptr().as_unsafe_any_origin()
        var weight_ptr = weight.unsafe_ptr().as_unsafe_any_origin()
        comptime if target == "cpu":
            rms_norm_cpu(y_ptr, x_ptr, weight_ptr, rows, width, eps)
        else:
            rms_norm_gpu(y_ptr, x_ptr, weight_ptr, rows, width, eps, ctx)


@register("mili_add_rms_norm")
struct AddRMSNorm:
    """Takes x, residual [T, E], weight [E] -> y = RMSNorm(total) * weight, total = residual + x.
    """

    @staticmethod
    def execute[
        dtype: DType, //, target: StaticString
    ](
        y: OutputTensor[dtype=dtype, rank=2, ...],
        total: OutputTensor[dtype=dtype, rank=2, ...],
        x: InputTensor[dtype=dtype, rank=2, ...],
        residual: InputTensor[dtype=dtype, rank=2, ...],
        weight: InputTensor[dtype=dtype, rank=1, ...],
        eps: Float32,
        ctx: DeviceContext,
    ) raises:
        var rows = x.dim_size[0]()
        var width = x.dim_size[1]()
        check_equal(
            "mili_add_rms_norm: length of weight", weight.dim_size[0](), width
        )
        check_equal(
            "mili_add_rms_norm: rows of residual", residual.dim_size[0](), rows
        )
        check_equal(
            "mili_add_rms_norm: columns of residual",
            residual.dim_size[1](),
            width,
        )
        var y_ptr = y.unsafe_ptr().as_unsafe_any_origin()
        var total_ptr = total.unsafe_ptr().as_unsafe_any_origin()
        var x_ptr = x.unsafe_ptr().as_unsafe_any_origin()
        var residual_ptr = residual.unsafe_ptr().as_unsafe_any_origin()
        var weight_ptr = weight.unsafe_ptr().as_unsafe_any_origin()
        comptime if target == "cpu":
            add_rms_norm_cpu(
                y_ptr,
                total_ptr,
                x_ptr,
                residual_ptr,
                weight_ptr,
                rows,
                width,
                eps,
            )
        else:
            add_rms_norm_gpu(
                y_ptr,
                total_ptr,
                x_ptr,
                residual_ptr,
                weight_ptr,
                rows,
                width,
                eps,
                ctx,
            )


@register("mili_linear")
struct Linear:
    """Product y [M, N] = x [M, K] @ w.T; w is packed on the CPU, [N, K] on a GPU; y in dtype or float32.
    """

    @staticmethod
    def execute[
        dtype: DType, out_dtype: DType, rank: Int, //, target: StaticString
    ](
        y: OutputTensor[dtype=out_dtype, rank=2, ...],
        x: InputTensor[dtype=dtype, rank=2, ...],
        w: InputTensor[dtype=dtype, rank=rank, ...],
        ctx: DeviceContext,
    ) raises:
        var m = x.dim_size[0]()
        var k = x.dim_size[1]()
        var n = y.dim_size[1]()
        check_equal("mili_linear: rows of y", y.dim_size[0](), m)
        var y_ptr = y.unsafe_ptr().as_unsafe_any_origin()
        var x_ptr = x.unsafe_ptr().as_unsafe_any_origin()
        var w_ptr = w.unsafe_ptr().as_unsafe_any_origin()
        comptime if target == "cpu":
            check_equal(
                "mili_linear: blocks of packed w",
                w.dim_size[0](),
                ceildiv(n, LANES),
            )
            check_packed[dtype, rank](
                "mili_linear: packed columns of w", w.dim_size[1](), k
            )
            linear_cpu(y_ptr, x_ptr, w_ptr, m, n, k)
        else:
            check_equal("mili_linear: rows of w", w.dim_size[0](), n)
            check_equal("mili_linear: columns of w", w.dim_size[1](), k)
            linear_gpu(y_ptr, x_ptr, w_ptr, m, n, k, ctx)


@register("mili_qk_norm_rope_write")
struct QKNormRopeWrite:
    """Splits qkv [T, (H + 2 KH) D], normalises and rotates q and k, writes k and v into pages -> q [T, H, D].
    """

    @staticmethod
    def execute[
        dtype: DType, //, head_dim: Int, norm: Bool, target: StaticString
    ](
        q: OutputTensor[dtype=dtype, rank=3, ...],
        qkv: InputTensor[dtype=dtype, rank=2, ...],
        q_weight: InputTensor[dtype=dtype, rank=1, ...],
        k_weight: InputTensor[dtype=dtype, rank=1, ...],
        eps: Float32,
        cos_sin: InputTensor[dtype=DType.float32, rank=2, ...],
        positions: InputTensor[dtype=DType.int32, rank=1, ...],
        slots: InputTensor[dtype=DType.int32, rank=1, ...],
        kv: MutableInputTensor[dtype=dtype, rank=5, ...],
        ctx: DeviceContext,
    ) raises:
        var rows = qkv.dim_size[0]()
        var heads = q.dim_size[1]()
        var kv_heads = kv.dim_size[2]()
        check_equal(
            "mili_qk_norm_rope_write: columns of qkv",
            qkv.dim_size[1](),
            (heads + 2 * kv_heads) * head_dim,
        )
        check_equal(
            "mili_qk_norm_rope_write: head dimension of the cache",
            kv.dim_size[4](),
            head_dim,
        )
        check_equal(
            "mili_qk_norm_rope_write: columns of cos_sin",
            cos_sin.dim_size[1](),
            head_dim,
        )
        check_equal(
            "mili_qk_norm_rope_write: length of positions",
            positions.dim_size[0](),
            rows,
        )
        check_equal(
            "mili_qk_norm_rope_write: length of slots",
            slots.dim_size[0](),
            rows,
        )
        comptime if norm:
            check_equal(
                "mili_qk_norm_rope_write: length of q_weight",
                q_weight.dim_size[0](),
                head_dim,
            )
            check_equal(
                "mili_qk_norm_rope_write: length of k_weight",
                k_weight.dim_size[0](),
                head_dim,
            )
        var q_ptr = q.unsafe_ptr().as_unsafe_any_origin()
        var qkv_ptr = qkv.unsafe_ptr().as_unsafe_any_origin()
        var q_weight_ptr = q_weight.unsafe_ptr().as_unsafe_any_origin()
        var k_weight_ptr = k_weight.unsafe_ptr().as_unsafe_any_origin()
        var cos_sin_ptr = cos_sin.unsafe_ptr().as_unsafe_any_origin()
        var positions_ptr = positions.unsafe_ptr().as_unsafe_any_origin()
        var slots_ptr = slots.unsafe_ptr().as_unsafe_any_origin()
        var kv_ptr = kv.unsafe_ptr().as_unsafe_any_origin()
        var page_size = kv.dim_size[3]()
        comptime if target == "cpu":
            qk_norm_rope_write_cpu[head_dim, norm](
                q_ptr,
                qkv_ptr,
                q_weight_ptr,
                k_weight_ptr,
                eps,
                cos_sin_ptr,
                positions_ptr,
                slots_ptr,
                kv_ptr,
                rows,
                heads,
                kv_heads,
                page_size,
            )
        else:
            qk_norm_rope_write_gpu[head_dim, norm](
                q_ptr,
                qkv_ptr,
                q_weight_ptr,
                k_weight_ptr,
                eps,
                cos_sin_ptr,
                positions_ptr,
                slots_ptr,
                kv_ptr,
                rows,
                heads,
                kv_heads,
                page_size,
                ctx,
            )


@register("mili_attention")
struct Attention:
    """Queries q [T, H, D] over the pages of their requests -> o [T, H D]; window 0 sees the whole context.
    """

    @staticmethod
    def execute[
        dtype: DType, //, head_dim: Int, target: StaticString
    ](
        o: OutputTensor[dtype=dtype, rank=2, ...],
        q: InputTensor[dtype=dtype, rank=3, ...],
        kv: MutableInputTensor[dtype=dtype, rank=5, ...],
        row_offsets: InputTensor[dtype=DType.int32, rank=1, ...],
        context_lengths: InputTensor[dtype=DType.int32, rank=1, ...],
        page_table: InputTensor[dtype=DType.int32, rank=2, ...],
        scale: Float32,
        window: Int32,
        ctx: DeviceContext,
    ) raises:
        var shape = AttentionShape(
            tokens=q.dim_size[0](),
            requests=context_lengths.dim_size[0](),
            heads=q.dim_size[1](),
            kv_heads=kv.dim_size[2](),
            page_size=kv.dim_size[3](),
            table_width=page_table.dim_size[1](),
            window=Int(window),
        )
        check_equal(
            "mili_attention: head dimension of q", q.dim_size[2](), head_dim
        )
        check_equal(
            "mili_attention: head dimension of the cache",
            kv.dim_size[4](),
            head_dim,
        )
        check_equal(
            "mili_attention: heads modulo kv heads",
            shape.heads % shape.kv_heads,
            0,
        )
        check_equal(
            "mili_attention: length of row_offsets",
            row_offsets.dim_size[0](),
            shape.requests + 1,
        )
        check_equal(
            "mili_attention: rows of page_table",
            page_table.dim_size[0](),
            shape.requests,
        )
        var o_ptr = o.unsafe_ptr().as_unsafe_any_origin()
        var q_ptr = q.unsafe_ptr().as_unsafe_any_origin()
        var kv_ptr = kv.unsafe_ptr().as_unsafe_any_origin()
        var offsets_ptr = row_offsets.unsafe_ptr().as_unsafe_any_origin()
        var lengths_ptr = context_lengths.unsafe_ptr().as_unsafe_any_origin()
        var table_ptr = page_table.unsafe_ptr().as_unsafe_any_origin()
        comptime if target == "cpu":
            attention_cpu[head_dim](
                o_ptr,
                q_ptr,
                kv_ptr,
                offsets_ptr,
                lengths_ptr,
                table_ptr,
                scale,
                shape,
            )
        else:
            attention_gpu[head_dim](
                o_ptr,
                q_ptr,
                kv_ptr,
                offsets_ptr,
                lengths_ptr,
                table_ptr,
                scale,
                shape,
                ctx,
            )


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
