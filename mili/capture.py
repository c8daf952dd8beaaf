"""Decode steps captured as device graphs and replayed: one launch a step instead of one a kernel.

A captured graph has fixed shapes and fixed addresses. So there is one for each number of rows and each width of the
page table that the scheduler pads decode steps to, all reading the same device memory:

    tokens | positions | slots | context lengths | sampling fields | page table      int32 words, each part on 256 bytes

A step writes them into pinned host memory of the same layout and copies that over in one piece; row offsets and logit
rows are always 0, 1, 2, ... and stay on the device. Of what a replay gives only the drawn tokens are copied back.
"""

from collections.abc import Callable, Sequence

import numpy as np
from max.driver import Buffer, Device, Usage
from max.dtype import DType
from max.engine import Model
from numpy.typing import NDArray

from mili.batch import Batch
from mili.errors import DeviceError
from mili.kv_cache import PagedKVCache

SAMPLING_FIELDS = 5  # temperature, top_k, top_p, min_p, random number
_ALIGN = 64  # words
_SMALL = (1, 2, 4, 8, 16, 24, 32, 48, 64)

Shape = tuple[int, int]
"""Rows and page-table width of a decode step."""


def decode_buckets(max_running: int) -> tuple[int, ...]:
    """Row counts to capture: close together where a step is short, every 32 up to 256, every 64 beyond."""
    sizes = [*_SMALL, *range(96, 257, 32), *range(320, max_running, 64)]
    return (*(size for size in sizes if size < max_running), max_running)


class _Layout:
    """Where the parts of a step of one shape lie, in words."""

    def __init__(self, rows: int, width: int) -> None:
        self.rows, self.width = rows, width
        part = -(-rows // _ALIGN) * _ALIGN
        self.vectors = [slice(i * part, i * part + rows) for i in range(4)]
        fields = 4 * part
        self.fields = slice(fields, fields + SAMPLING_FIELDS * rows)
        table = -(-self.fields.stop // _ALIGN) * _ALIGN
        self.table = slice(table, table + rows * width)
        self.size = self.table.stop

    def write(self, words: NDArray[np.int32], batch: Batch, sampling: NDArray[np.float32] | None) -> None:
        """Put a step into the host's memory."""
        arrays = (batch.tokens, batch.positions, batch.slots, batch.context_lengths)
        for part, array in zip(self.vectors, arrays, strict=True):
            words[part] = array
        words[self.fields] = 0 if sampling is None else sampling.reshape(-1).view(np.int32)
        words[self.table] = batch.page_table.reshape(-1)


class _Captured:
    """One captured shape: where its inputs lie, its graph's inputs and outputs, and host memory for its tokens."""

    def __init__(self, key: int, layout: _Layout, source: Buffer, words: Buffer, inputs: list[Buffer]) -> None:
        self.key, self.layout = key, layout
        self.source, self.words = source[: layout.size], words[: layout.size]
        self.inputs = inputs
        self.outputs: list[Buffer] = []
        self.tokens: Buffer | None = None


class DecodeGraphs:
    """The captured decode steps of a loaded model over one cache.

    shapes: the (rows, width) of every step to capture. Each runs once before it is captured, on padding rows alone, so
    nothing is written to the cache. Captures keep their working memory, about what the logits of their rows take.
    Raises DeviceError if a shape cannot be captured.
    """

    def __init__(
        self,
        model: Model,
        device: Device,
        cache: PagedKVCache,
        shapes: Sequence[Shape],
        on_capture: Callable[[int], object] = lambda done: None,
    ) -> None:
        self._model = model
        self._device = device
        self.cache = cache
        layouts = [_Layout(rows, width) for rows, width in shapes]
        size = max(layout.size for layout in layouts)
        most = max(rows for rows, _ in shapes)
        self._host = Buffer(DType.int32, (size,), device=device, usage=Usage.STAGING)
        self._words = Buffer(DType.int32, (size,), device=device)
        self._host.to_numpy()[-1] = 7
        if self._host.to_numpy()[-1] != 7:  # NumPy may hand out a copy where it must not write
            raise DeviceError(f"pinned memory of {device} cannot be written: run without captured steps (--no-capture)")
        self._counting = Buffer.from_numpy(np.arange(most + 1, dtype=np.int32)).to(device)
        self._captured: dict[Shape, _Captured] = {}
        # The largest first: if memory is short it shows at once.
        for key, layout in enumerate(sorted(layouts, key=lambda layout: -layout.size)):
            try:
                self._captured[layout.rows, layout.width] = self._capture(key, layout)
            except Exception as error:
                raise DeviceError(
                    f"a decode step of {layout.rows} rows with a page table {layout.width} wide could not be captured "
                    f"on {device}: {' '.join(str(error).split())[:400]}. Run without captured steps (--no-capture)."
                ) from error
            on_capture(len(self._captured))

    @property
    def shapes(self) -> list[Shape]:
        """What is captured."""
        return list(self._captured)

    def find(self, batch: Batch, cache: PagedKVCache) -> _Captured | None:
        """The graph that runs this step; None for a step that is no decode step, has another shape or cache."""
        if cache is not self.cache or not len(batch.tokens) == len(batch.context_lengths) == len(batch.logit_rows):
            return None
        return self._captured.get((len(batch.tokens), batch.page_table.shape[1]))

    def replay(
        self, found: _Captured, batch: Batch, sampling: NDArray[np.float32] | None = None
    ) -> tuple[Buffer, Buffer]:
        """Start the step; returns pinned memory that its tokens [L] are being copied to, and its logits [L, V].

        Reading the tokens with `to_numpy` waits for them. Both are overwritten by the next replay.
        """
        found.layout.write(self._host.to_numpy(), batch, sampling)
        found.words.inplace_copy_from(found.source)
        self._model.replay(found.key, *found.inputs)
        tokens, logits = found.outputs
        assert found.tokens is not None
        found.tokens.inplace_copy_from(tokens)
        return found.tokens, logits

    def _capture(self, key: int, layout: _Layout) -> _Captured:
        rows = layout.rows
        padding = Batch(
            tokens=np.zeros(rows, np.int32),
            positions=np.zeros(rows, np.int32),
            slots=np.full(rows, -1, np.int32),
            row_offsets=np.arange(rows + 1, dtype=np.int32),
            context_lengths=np.ones(rows, np.int32),
            page_table=np.zeros((rows, layout.width), np.int32),
            logit_rows=np.arange(rows, dtype=np.int32),
        )
        tokens, positions, slots, contexts = (self._words[part] for part in layout.vectors)
        inputs = [
            tokens,
            positions,
            slots,
            self._counting[: rows + 1],
            contexts,
            self._words[layout.table].view(DType.int32, (rows, layout.width)),
            self._counting[:rows],
            self._words[layout.fields].view(DType.float32, (rows, SAMPLING_FIELDS)),
            *self.cache.buffers,
        ]
        found = _Captured(key, layout, self._host, self._words, inputs)
        layout.write(self._host.to_numpy(), padding, None)
        found.words.inplace_copy_from(found.source)
        # What only a first run makes, such as a library's handle, must not be made while capturing.
        self._model.execute(*inputs)
        self._device.synchronize()
        found.outputs = self._model.capture(key, *inputs)
        found.tokens = Buffer(DType.int32, (rows,), device=self._device, usage=Usage.STAGING)
        return found
