"""Pinned host memory between Python and a GPU, two pieces of each kind, taken in turn.

A copy between pinned memory and a device is only queued when the call returns. While a step runs, the host writes the
inputs of the next one and reads the tokens of the one before, so two steps use each kind of memory at a time.

The memory is not tracked by MAX, which would make the host wait for everything that is queued: `StagedInputs` relies on
the engine to have read a step's tokens before it launches the second step after it, `TokenLanding` on an event.
"""

from functools import cached_property

import numpy as np
from max.driver import Buffer, Device, DeviceEvent, Usage
from max.dtype import DType
from numpy.typing import NDArray

from mili.errors import DeviceError

_PINNED = Usage.STAGING | Usage.UNTRACKED


class StagedInputs:
    """`size` int32 words of a step's inputs, in two halves of pinned memory and once on the device (`words`)."""

    def __init__(self, device: Device, size: int) -> None:
        self._halves = [Buffer(DType.int32, (size,), device=device, usage=_PINNED) for _ in range(2)]
        self._views: list[NDArray[np.int32]] = [half.to_numpy() for half in self._halves]
        self._turn = 0
        self.words = Buffer(DType.int32, (size,), device=device)
        for half, view in zip(self._halves, self._views, strict=True):
            view[-1] = 7
            if half.to_numpy()[-1] != 7:  # NumPy may hand out a copy where it must not write
                raise DeviceError(
                    f"pinned memory of {device} cannot be written: run without captured steps (--no-capture)"
                )

    def next_half(self) -> NDArray[np.int32]:
        """Memory for the inputs of the next step; the step before the last, which used it, has been read by now."""
        self._turn ^= 1
        return self._views[self._turn]

    def send(self, size: int) -> None:
        """Queue the copy of the first `size` words of that half to the device."""
        self.words[:size].inplace_copy_from(self._halves[self._turn][:size])


class Landed:
    """Tokens [L] of a step on their way to the host."""

    def __init__(self, memory: NDArray[np.int32], event: DeviceEvent) -> None:
        self._memory, self._event = memory, event

    @cached_property
    def tokens(self) -> NDArray[np.int32]:
        """[L] int32; the first use waits for this step's tokens, not for what is queued after them."""
        self._event.synchronize()
        return self._memory.copy()  # the memory is that of the step after the next as well


class TokenLanding:
    """Where the tokens of a step arrive on the host: two buffers for each number of rows, taken in turn."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._pairs: dict[int, list[tuple[Buffer, NDArray[np.int32]]]] = {}
        self._turn = 0

    def land(self, tokens: Buffer) -> Landed:
        """Queue the copy of tokens [L]; to be read before the second call after this one."""
        rows = tokens.num_elements
        if rows not in self._pairs:
            buffers = [Buffer(DType.int32, (rows,), device=self._device, usage=_PINNED) for _ in range(2)]
            self._pairs[rows] = [(buffer, buffer.to_numpy()) for buffer in buffers]
        self._turn ^= 1
        buffer, memory = self._pairs[rows][self._turn]
        buffer.inplace_copy_from(tokens)
        return Landed(memory, self._device.default_queue.record_event())
