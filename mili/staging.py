"""Pinned host memory between Python and a GPU, twice each: one half is written while the other is on its way.

A copy between pinned memory and a device is only queued when the call returns. While a step runs, the host writes the
inputs of the next one and reads the tokens of the one before, so two steps use each kind of memory at a time.
"""

import numpy as np
from max.driver import Buffer, Device, Usage
from max.dtype import DType
from numpy.typing import NDArray

from mili.errors import DeviceError


class StagedInputs:
    """`size` int32 words of a step's inputs, in two halves of pinned memory and once on the device (`words`)."""

    def __init__(self, device: Device, size: int) -> None:
        self._halves = [Buffer(DType.int32, (size,), device=device, usage=Usage.STAGING) for _ in range(2)]
        self._turn = 0
        self.words = Buffer(DType.int32, (size,), device=device)
        for half in self._halves:
            half.to_numpy()[-1] = 7
            if half.to_numpy()[-1] != 7:  # NumPy may hand out a copy where it must not write
                raise DeviceError(
                    f"pinned memory of {device} cannot be written: run without captured steps (--no-capture)"
                )

    def next_half(self) -> NDArray[np.int32]:
        """Memory for the inputs of the next step; the step before the last, which used it, has been read by now."""
        self._turn ^= 1
        words: NDArray[np.int32] = self._halves[self._turn].to_numpy()
        return words

    def send(self, size: int) -> None:
        """Queue the copy of the first `size` words of that half to the device."""
        self.words[:size].inplace_copy_from(self._halves[self._turn][:size])


class TokenLanding:
    """Where the tokens of a step arrive on the host: two buffers for each number of rows, taken in turn."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._pairs: dict[int, list[Buffer]] = {}
        self._turn = 0

    def land(self, tokens: Buffer) -> Buffer:
        """Queue the copy of tokens [L]; reading the result waits for it alone, not for what is queued after it.

        The result is overwritten by the copy after the next one.
        """
        rows = tokens.num_elements
        if rows not in self._pairs:
            self._pairs[rows] = [
                Buffer(DType.int32, (rows,), device=self._device, usage=Usage.STAGING) for _ in range(2)
            ]
        self._turn ^= 1
        landed = self._pairs[rows][self._turn]
        landed.inplace_copy_from(tokens)
        return landed
