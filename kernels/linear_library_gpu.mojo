"""Linear through NVIDIA's cuBLAS, where that library is installed.

A product of many rows is bound by arithmetic, and cuBLAS has a program tuned for each shape of each GPU; the notebooks
measure the project's own kernels against it. Nothing needs it: without the library `linear_gpu.mojo` takes the
project's kernels, which give the same results up to rounding.

cuBLAS counts columns first. A row-major y [m, n] is its y^T [n, m], so it is asked for

    y^T [n, m] = w [n, k] @ x^T [k, m]      its A = w^T as stored, transposed; its B = x^T as stored

One handle a CUDA stream, made at the first product, with a workspace of its own: a captured graph must not find that
memory used by others. The first product on a stream must therefore run before a capture starts.
"""

from .common import Ptr
from _cublas.cublas import (
    Algorithm,
    ComputeType,
    _convert_to_cublas_datatype,
    _convert_to_cublas_transpose,
    check_cublas_error,
    cublasCreate,
    cublasGemmEx,
    cublasHandle_t,
    cublasSetStream,
    cublasSetWorkspace,
)
from max.gpu.host import DeviceBuffer, DeviceContext
from max.gpu.host._nvidia_cuda import CUDA
from std.ffi import OwnedDLHandle, _get_global_or_null, external_call
from std.memory.alloc import unsafe_alloc

comptime WORKSPACE_BYTES = 32 * 1024 * 1024
"""What NVIDIA advises for Hopper."""


struct Library(Movable):
    """A handle of cuBLAS bound to one stream, and its workspace."""

    var available: Bool
    var address: Int
    var workspace: Optional[DeviceBuffer[DType.uint8]]

    def __init__(out self, ctx: DeviceContext) raises:
        """Creates the handle; `available` is False where the library is not installed.
        """
        self.address = 0
        self.workspace = None
        self.available = is_installed()
        if not self.available:
            return
        with ctx.push_context():
            var handle = cublasHandle_t[MutAnyOrigin]()
            check_cublas_error(cublasCreate(Pointer(to=handle)))
            self.address = Int(handle.value())
            check_cublas_error(cublasSetStream(handle, CUDA(ctx.stream())))
            var workspace = ctx.enqueue_create_buffer[DType.uint8](
                WORKSPACE_BYTES
            )
            check_cublas_error(
                cublasSetWorkspace(
                    handle,
                    workspace.unsafe_ptr()
                    .unsafe_bitcast[NoneType]()
                    .as_unsafe_any_origin(),
                    WORKSPACE_BYTES,
                )
            )
            self.workspace = workspace^

    def handle(self) -> cublasHandle_t[MutAnyOrigin]:
        """The handle as cuBLAS takes it."""
        return OpaquePointer[MutAnyOrigin](unsafe_from_address=self.address)


def is_installed() -> Bool:
    """Whether the dynamic linker finds cuBLAS where MAX looks for it."""
    for path in [
        "libcublas.so.13",
        "/usr/local/cuda/lib64/libcublas.so.13",
        "libcublas.so.12",
        "/usr/local/cuda/lib64/libcublas.so.12",
    ]:
        try:
            _ = OwnedDLHandle(path)
            return True
        except:
            continue
    return False


def library_of(
    ctx: DeviceContext,
) raises -> Pointer[Library, MutUntrackedOrigin]:
    """The library's state for the stream of `ctx`; made once, lives as long as the process.
    """
    var stream = CUDA(ctx.stream())
    var address = Int(stream.value()) if stream else 0
    var name = String("MILI_CUBLAS_", ctx.id(), "_", address)
    var found = _get_global_or_null(name)
    if found:
        return found.value().unsafe_bitcast[Library]()
    var made = unsafe_alloc[Library](1)
    made.unsafe_write(Library(ctx))
    external_call["KGEN_CompilerRT_InsertGlobal", NoneType](
        StringSlice(name), made.unsafe_bitcast[NoneType]()
    )
    return made


def linear_library_gpu[
    dtype: DType, out_dtype: DType
](
    y: Ptr[out_dtype],
    x: Ptr[dtype],
    w: Ptr[dtype],
    m: Int,
    n: Int,
    k: Int,
    ctx: DeviceContext,
) raises -> Bool:
    """Writes y [m, n] = x [m, k] @ w.T; returns False, having done nothing, where cuBLAS is not installed.
    """
    var library = library_of(ctx)
    if not library[].available:
        return False
    var one = Float32(1)
    var zero = Float32(0)
    with ctx.push_context():
        check_cublas_error(
            cublasGemmEx(
                library[].handle(),
                _convert_to_cublas_transpose(True),
                _convert_to_cublas_transpose(False),
                Int32(n),
                Int32(m),
                Int32(k),
                Pointer(to=one)
                .unsafe_bitcast[NoneType]()
                .as_imm()
                .as_unsafe_any_origin(),
                w.unsafe_bitcast[NoneType](),
                _convert_to_cublas_datatype[dtype](),
                Int32(k),
                x.unsafe_bitcast[NoneType](),
                _convert_to_cublas_datatype[dtype](),
                Int32(k),
                Pointer(to=zero)
                .unsafe_bitcast[NoneType]()
                .as_imm()
                .as_unsafe_any_origin(),
                y.unsafe_bitcast[NoneType](),
                _convert_to_cublas_datatype[out_dtype](),
                Int32(n),
                ComputeType.COMPUTE_32F,
                Algorithm.DEFAULT,
            )
        )
    return True
