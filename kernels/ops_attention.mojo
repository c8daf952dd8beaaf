"""Query/key norm with RoPE and cache write, and attention, registered with MAX (see `ops.mojo`)."""

from .attention import AttentionShape
from .attention_cpu import attention_cpu
from .attention_gpu import attention_gpu
from .common import check_equal
from .rope import qk_norm_rope_write_cpu
from .rope_gpu import qk_norm_rope_write_gpu
from extensibility import InputTensor, OutputTensor, register
from extensibility import _MutableInputTensor as MutableInputTensor
from max.gpu.host import DeviceContext


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
