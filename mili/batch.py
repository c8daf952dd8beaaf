"""The ragged batch: what the model sees of all scheduled requests in one step (docs/architecture.md)."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Int32Array: TypeAlias = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Batch:
    """Flat tokens of B requests; every array is int32.

    tokens, positions, slots: [T]; row_offsets: [B + 1]; context_lengths: [B]; page_table: [B, P]; logit_rows: [L].
    """

    tokens: Int32Array
    positions: Int32Array
    slots: Int32Array
    row_offsets: Int32Array
    context_lengths: Int32Array
    page_table: Int32Array
    logit_rows: Int32Array
