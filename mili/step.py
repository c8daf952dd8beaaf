"""`Step`: what the scheduler hands to the engine, one call of the model."""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mili.batch import Batch
from mili.request import Request, RequestState
from mili.running import IntArray


@dataclass(slots=True)
class Step:
    """What one step computes: row i of the batch is `requests[i]` in slot `slots[i]` with `take[i]` new tokens.

    The first `len(sampled)` logit rows belong to `sampled`, in slots `sampled_slots`; any more are padding. `lengths`
    [len(sampled)] are their tokens, prompt and output, with the one that the step draws. `ended` is how many requests
    the scheduler had ended before.
    """

    batch: Batch
    requests: list[Request]
    slots: IntArray
    take: NDArray[np.int32]
    sampled: list[Request]
    sampled_slots: IntArray
    lengths: NDArray[np.int32]
    ended: int = 0
    admitted: list[Request] = field(default_factory=list)
    preempted: dict[Request, int] = field(default_factory=dict)  # with the slots they had

    @property
    def contexts(self) -> NDArray[np.int32]:
        """Tokens in the context of each row after the step, [B] int32."""
        return self.batch.context_lengths[: len(self.requests)]

    @property
    def decode_tokens(self) -> int:
        """Rows that feed one token and get one."""
        return int((self.take == 1).sum())

    @property
    def prefill_tokens(self) -> int:
        """Tokens of rows that feed more than one."""
        return int(self.take[self.take > 1].sum())

    def without_ended(self) -> tuple["Step", IntArray]:
        """The step with only those of `sampled` that still run, and their rows among all."""
        kept = [i for i, request in enumerate(self.sampled) if request.state is RequestState.RUNNING]
        rows = np.array(kept, np.int64)
        sampled = [self.sampled[i] for i in kept]
        slots, lengths = self.sampled_slots[rows], self.lengths[rows]
        return replace(self, sampled=sampled, sampled_slots=slots, lengths=lengths), rows
