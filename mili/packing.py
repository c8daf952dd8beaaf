"""Number formats and the packed layout of matrices (docs/architecture.md, "Weights").

NumPy has no bfloat16: its bits are kept in uint16 arrays, and `Tensor.dtype` says what they mean.
"""

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

LANES = 16
"""Outputs in one block of a packed matrix: the float32 lanes of a 512-bit register."""

STORAGE: dict[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(np.uint16),
}
"""The NumPy type that holds each dtype."""

PACKED_DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of the engine: `data` has shape `shape` and the storage type of `dtype` (bfloat16: uint16 bits).

    `shape` is what the graph declares; for a packed matrix that is the packed shape.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: Array

    @property
    def nbytes(self) -> int:
        return int(self.data.nbytes)


def to_bfloat16(x: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Bits of float32 values rounded to the nearest bfloat16, ties to even; infinities and NaN stay what they are."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded = bits >> np.uint32(16)
    rounded &= np.uint32(1)
    rounded += np.uint32(0x7FFF)
    rounded += bits
    rounded >>= np.uint32(16)
    result = rounded.astype(np.uint16)
    nan = np.isnan(x)
    if nan.any():  # the carry above would turn some NaN into zero
        result[nan] = 0x7FC0
    return result


def from_bfloat16(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Float32 values of bfloat16 bits (exact)."""
    wide = bits.astype(np.uint32)
    wide <<= np.uint32(16)
    return wide.view(np.float32)


def to_float32(data: Array, dtype: str) -> NDArray[np.float32]:
    """Float32 values (exact) of an array held in the storage type of `dtype`."""
    return from_bfloat16(data) if dtype == "bfloat16" else data.astype(np.float32, copy=False)


def from_float32(x: NDArray[np.float32], dtype: str) -> Array:
    """Values rounded to `dtype`, in its storage type."""
    if dtype == "bfloat16":
        return to_bfloat16(x)
    with np.errstate(over="ignore"):
        return x.astype(STORAGE[dtype], copy=False)


class Arena:
    """Memory for many matrices in large pieces, which the operating system backs with huge pages where it can.

    Weights are read once a token, from end to end: with pages of 4 KiB that takes a seventh longer (measured with
    matrices of 3.5 MB, too small to get huge pages by themselves). NumPy asks for huge pages for every large array.
    """

    PIECE = 64 << 20
    ALIGNMENT = 64  # a cache line, which is one register of packed weights

    def __init__(self) -> None:
        self._piece = np.empty(0, np.uint8)
        self._next = 0

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """An uninitialised array, part of a piece, or of its own if it is large."""
        nbytes = math.prod(shape) * dtype.itemsize
        size = nbytes + self.ALIGNMENT
        if self._next + size > self._piece.size:
            self._piece, self._next = np.empty(max(size, self.PIECE), np.uint8), 0
        start = self._next + -(self._piece.ctypes.data + self._next) % self.ALIGNMENT
        self._next = start + nbytes
        return self._piece[start : start + nbytes].view(dtype).reshape(shape)


def packed_shape(rows: int, columns: int, dtype: str) -> tuple[int, ...]:
    """The packed shape of [rows, columns]: [blocks, K / 2, 16, 2] for bfloat16, [blocks, K, 16] for float32."""
    if dtype not in PACKED_DTYPES:
        raise ValueError(f"dtype {dtype!r} has no packed layout; packed are {', '.join(PACKED_DTYPES)}")
    blocks = -(-rows // LANES)
    return (blocks, -(-columns // 2), LANES, 2) if dtype == "bfloat16" else (blocks, columns, LANES)


def pack_into(out: Array, rows: Array) -> None:
    """Pack row-major `rows` [n, K] into whole blocks `out` (see `packed_shape`), with zeros beyond n and K.

    Both arrays hold one dtype in its storage type. The copy moves 32-bit units, a pair of bfloat16 or one float32.
    """
    blocks, units = out.shape[0], out.shape[1]
    per_unit = 4 // rows.dtype.itemsize
    if rows.shape != (blocks * LANES, units * per_unit):
        padded = np.zeros((blocks * LANES, units * per_unit), rows.dtype)
        padded[: rows.shape[0], : rows.shape[1]] = rows
        rows = padded
    source = np.ascontiguousarray(rows).view(np.uint32).reshape(blocks, LANES, units)
    np.copyto(out.view(np.uint32).reshape(blocks, units, LANES), source.transpose(0, 2, 1))


def pack(matrix: Array) -> Array:
    """The packed form of a row-major [N, K] matrix of float32, or of uint16 holding bfloat16 bits."""
    dtype = "bfloat16" if matrix.dtype == np.uint16 else str(matrix.dtype)
    out = np.empty(packed_shape(matrix.shape[0], matrix.shape[1], dtype), matrix.dtype)
    pack_into(out, matrix)
    return out


def unpack(packed: Array, rows: int, columns: int) -> Array:
    """The row-major [rows, columns] matrix of a packed one; the inverse of `pack`."""
    blocks, units = packed.shape[0], packed.shape[1]
    lanes = np.ascontiguousarray(packed).view(np.uint32).reshape(blocks, units, LANES)
    whole = np.ascontiguousarray(lanes.transpose(0, 2, 1)).view(packed.dtype).reshape(blocks * LANES, -1)
    return np.ascontiguousarray(whole[:rows, :columns])
