"""Decode steps captured as device graphs and replayed: one launch a step instead of one a kernel.

A captured graph has fixed shapes and fixed addresses. So there is one for each number of rows and each width of the
page table that the scheduler pads decode steps to, all reading the same device memory:

    tokens | positions | slots | context lengths | sampling fields | page table      int32 words, each part on 256 bytes

A step writes them into pinned host memory of the same layout and copies that over in one piece; row offsets and logit
rows are always 0, 1, 2, ... and stay on the device. Tokens that the step before has drawn and the host does not know
yet are copied from its output to a place of their own, where the graph looks them up (kernels/resolve_tokens.mojo).
"""

from collections.abc import Callable, Sequence

import numpy as np
from max.driver import Buffer, Device
from max.dtype import DType
from max.engine import Model
from numpy.typing import NDArray

from mili.batch import Batch
from mili.errors import DeviceError
from mili.kv_cache import PagedKVCache
from mili.staging import StagedInputs

SAMPLING_FIELDS = 5  # temperature, top_k, top_p, min_p, random number
_ALIGN = 64  # words
_SMALL = (1, 2, 4, 8, 16, 24, 32, 48, 64)

Shape = tuple[int, int]
"""Rows and page-table width of a decode step."""


def decode_buckets(max_running: int) -> tuple[int, ...]:
    """Row counts to capture: close together where a step is short, every 16 up to 256, every 64 beyond."""
    sizes = [*_SMALL, *range(80, 257, 16), *range(320, max_running, 64)]
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
    """One captured shape: how its inputs are laid out, and its graph's inputs and outputs."""

    def __init__(self, key: int, layout: _Layout, inputs: list[Buffer]) -> None:
        self.key, self.layout = key, layout
        self.inputs = inputs
        self.outputs: list[Buffer] = []


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
        self._staged = StagedInputs(device, size)
        self._drawn = Buffer.from_numpy(np.zeros(most, np.int32)).to(device)
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

    def find(self, batch: Batch, cache: PagedKVCache, drawn: Buffer) -> _Captured | None:
        """The graph that runs this step; None for a step that is no decode step, has another shape or cache.

        drawn: the tokens [R] of the step before; None as well if they are too many.
        """
        if cache is not self.cache or not len(batch.tokens) == len(batch.context_lengths) == len(batch.logit_rows):
            return None
        if drawn.num_elements > self._drawn.num_elements:
            return None
        return self._captured.get((len(batch.tokens), batch.page_table.shape[1]))

    def replay(
        self, found: _Captured, batch: Batch, drawn: Buffer, sampling: NDArray[np.float32] | None = None
    ) -> tuple[Buffer, Buffer]:
        """Queue the step; returns its tokens [L] and logits [L, V] on the device, where the next replay's will be.

        drawn: the tokens [R] of the step before on the device, which those of the batch may stand for.
        """
        found.layout.write(self._staged.next_half(), batch, sampling)
        self._staged.send(found.layout.size)
        if batch.tokens.min() < 0:
            self._drawn[: drawn.num_elements].inplace_copy_from(drawn)
        self._model.replay(found.key, *found.inputs)
        tokens, logits = found.outputs
        return tokens, logits

    def _capture(self, key: int, layout: _Layout) -> _Captured:
        rows = layout.rows
        padding = Batch(
            tokens=np.zeros(rows, np.int32),
            positions=np.zeros(rows, np.int32),
            slots=np.full(rows, -1, np.int32),
            row_offsets=np.arange(rows + 1, dtype=np.int32),
            context_lengths=np.zeros(rows, np.int32),
            page_table=np.zeros((rows, layout.width), np.int32),
            logit_rows=np.arange(rows, dtype=np.int32),
        )
        words = self._staged.words
        tokens, positions, slots, contexts = (words[part] for part in layout.vectors)
        inputs = [
            tokens,
            positions,
            slots,
            self._counting[: rows + 1],
            contexts,
            words[layout.table].view(DType.int32, (rows, layout.width)),
            self._counting[:rows],
            words[layout.fields].view(DType.float32, (rows, SAMPLING_FIELDS)),
            self._drawn,
            *self.cache.buffers,
        ]
        found = _Captured(key, layout, inputs)
        layout.write(self._staged.next_half(), padding, None)
        self._staged.send(layout.size)
        # What only a first run makes, such as a library's handle, must not be made while capturing.
        self._model.execute(*inputs)
        self._device.synchronize()
        found.outputs = self._model.capture(key, *inputs)
        return found
