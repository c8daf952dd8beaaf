"""One request on its way through the scheduler: its tokens, its place in the queue or in the running table."""

from enum import Enum
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mili.radix_cache import RadixNode
from mili.sampling import SamplingParams

Int32Array: TypeAlias = NDArray[np.int32]
FinishReason: TypeAlias = Literal["stop", "length", "cancel", "error"]


class RequestState(Enum):
    """Waiting (new or preempted), running (it has a slot and pages), or finished."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


class Request:
    """A prompt and the tokens generated so far.

    `prompt` [n] int32; `max_tokens` generated at most; lower `priority` is served first. The scheduler sets the rest:
    `rank` (place in the order of service), `slot` (row of the running table, -1 while waiting), `node` (the deepest
    radix node it has locked), `cached_tokens` (prompt tokens found in the cache at its first admission).
    """

    __slots__ = (
        "cached_tokens",
        "finish_reason",
        "id",
        "known",
        "max_tokens",
        "node",
        "output",
        "overtaken",
        "owner",
        "params",
        "preemptions",
        "priority",
        "prompt",
        "rank",
        "slot",
        "state",
    )

    def __init__(self, id: str, prompt: Int32Array, max_tokens: int, params: SamplingParams, priority: int = 0) -> None:
        self.id = id
        self.prompt = prompt
        self.max_tokens = max_tokens
        self.params = params
        self.priority = priority
        self.output: list[int] = []
        self.state = RequestState.WAITING
        self.finish_reason: FinishReason | None = None
        self.rank = (0, 0)
        self.slot = -1
        self.node: RadixNode | None = None
        self.known = prompt  # tokens at the last admission: what has to be in the cache before the next new token
        self.cached_tokens = 0
        self.preemptions = 0
        self.overtaken = 0
        self.owner: object = None  # whoever wants to be found from the request; the scheduler does not look at it

    def all_tokens(self) -> Int32Array:
        """Prompt and output, [n + generated] int32."""
        if not self.output:
            return self.prompt
        return np.concatenate([self.prompt, np.array(self.output, np.int32)])

    def __repr__(self) -> str:
        return f"Request({self.id}, {self.state.value}, {len(self.prompt)}+{len(self.output)} tokens)"
