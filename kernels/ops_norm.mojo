"""RMSNorm, registered with MAX (see `ops.mojo`)."""

from .common import check_equal
from .rms_norm import add_rms_norm_cpu, rms_norm_cpu
from .rms_norm_gpu import add_rms_norm_gpu, rms_norm_gpu
from extensibility import InputTensor, OutputTensor, register
from max.gpu.host import DeviceContext


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
