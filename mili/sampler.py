"""`Sampler`: from the logits of a step to one token for each request.

Greedy requests take the model's argmax. Requests that ask for temperature, top-k, top-p or min-p alone are drawn by the
model where the logits are, if it can (`fields`). Only for the others do the logits come to the host: there the rows are
changed one by one (penalties, bias, grammar) and drawn in blocks. Which way a request goes depends on its own
parameters alone, so its tokens do not depend on its neighbours.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mili.draw import draw, log_softmax_at, uniform
from mili.grammar import GrammarState
from mili.interfaces import ForwardOutput
from mili.request import Request
from mili.sampling import SamplingParams

BLOCK_ELEMENTS = 1 << 18  # logits drawn at once: few enough to stay in the second-level cache


class TokenLogprobs(NamedTuple):
    """Log-probability of the chosen token, and of the likeliest, likeliest first."""

    token: int
    logprob: float
    top: list[tuple[int, float]]


@dataclass(slots=True)
class Sampled:
    """`tokens` [n] int32, -1 where the logits of a row were no numbers; `logprobs` by row, where asked for."""

    tokens: NDArray[np.int32]
    logprobs: dict[int, TokenLogprobs]


class _Counts:
    """The distinct tokens of a text and how often each stands in the output, in arrays that grow."""

    def __init__(self, prompt: NDArray[np.int32]) -> None:
        distinct = np.unique(prompt)
        self.size = len(distinct)
        self.ids = np.zeros(self.size + 64, np.int64)
        self.ids[: self.size] = distinct
        self.output = np.zeros(self.size + 64, np.float32)
        self._index = {token: i for i, token in enumerate(distinct.tolist())}

    def add(self, token: int) -> None:
        i = self._index.setdefault(token, self.size)
        if i == self.size:
            if i == len(self.ids):
                self.ids, self.output = np.resize(self.ids, 2 * i), np.append(self.output, np.zeros(i, np.float32))
            self.ids[i] = token
            self.size += 1
        self.output[i] += 1

    def penalise(self, row: NDArray[np.float32], params: SamplingParams) -> None:
        ids, count = self.ids[: self.size], self.output[: self.size]
        values = row[ids]
        if params.repetition_penalty != 1:
            values = np.where(values > 0, values / params.repetition_penalty, values * params.repetition_penalty)
        values -= params.frequency_penalty * count + params.presence_penalty * (count > 0)
        row[ids] = values


class RowState:
    """What the sampler remembers of a request that asks for more than argmax; it outlives preemptions."""

    def __init__(self, request: Request, ends: NDArray[np.int64], seed: int, grammar: GrammarState | None) -> None:
        p = request.params
        self.params = p
        self.seed = seed % 2**64
        self.grammar = grammar
        self.ends = ends
        penalised = p.repetition_penalty != 1 or p.frequency_penalty != 0 or p.presence_penalty != 0
        self.counts = _Counts(request.prompt) if penalised else None
        self.bias_ids = np.array(list(p.logit_bias), np.int64)
        self.bias = np.array(list(p.logit_bias.values()), np.float32)

    @property
    def simple(self) -> bool:
        """Whether temperature and filters are all that is asked for."""
        p = self.params
        return (
            p.temperature > 0
            and self.counts is None
            and self.grammar is None
            and p.logprobs is None
            and not p.min_tokens
            and not p.logit_bias
        )

    def adjust(self, row: NDArray[np.float32], generated: int) -> None:
        """Change the logits [V] of the next token in place."""
        if len(self.bias_ids):
            row[self.bias_ids] += self.bias
        if self.counts is not None:
            self.counts.penalise(row, self.params)
        if self.grammar is not None:
            self.grammar.forbid(row)
        elif generated < self.params.min_tokens:
            row[self.ends] = -np.inf

    def book(self, token: int) -> None:
        """The token was chosen."""
        if self.counts is not None:
            self.counts.add(token)
        if self.grammar is not None and token >= 0:
            self.grammar.advance(token)


class Sampler:
    """Samples for up to `max_running` requests, each known by its slot in the running table.

    on_device: the model draws what needs nothing but the logits and five numbers.
    """

    def __init__(self, max_running: int, on_device: bool = False) -> None:
        self.on_device = on_device
        self.plain = np.ones(max_running, bool)  # argmax is all it asks for
        self._drawn = np.zeros(max_running, bool)  # drawn by the model
        self._prompt = np.zeros(max_running, np.int32)
        self._states: dict[str, RowState] = {}
        self._temperature = np.zeros(max_running, np.float32)
        self._top_k = np.zeros(max_running, np.int32)
        self._top_p = np.ones(max_running, np.float32)
        self._min_p = np.zeros(max_running, np.float32)
        self._seed = np.zeros(max_running, np.uint64)

    def register(self, request: Request, state: RowState) -> None:
        """A new request whose params need logits."""
        self._states[request.id] = state

    def forget(self, request: Request) -> None:
        """The request has ended."""
        self._states.pop(request.id, None)

    def state(self, request: Request) -> RowState | None:
        """The request's state; None if argmax is all it asks for."""
        return self._states.get(request.id)

    def admit(self, request: Request) -> None:
        """The request has got a slot, for the first time or again."""
        slot, state, p = request.slot, self._states.get(request.id), request.params
        self.plain[slot] = state is None
        self._drawn[slot] = self.on_device and state is not None and state.simple
        self._prompt[slot] = len(request.prompt)
        if state is not None:
            self._temperature[slot] = p.temperature
            self._top_k[slot] = max(p.top_k, 0)
            self._top_p[slot] = p.top_p
            self._min_p[slot] = p.min_p
            self._seed[slot] = state.seed

    def on_host(self, slots: NDArray[np.int64]) -> NDArray[np.bool_]:
        """[n] whether the host must see a request's logits before its next token is known."""
        return ~(self.plain[slots] | self._drawn[slots])

    def fields(self, slots: NDArray[np.int64], lengths: NDArray[np.int32], rows: int) -> NDArray[np.float32] | None:
        """What the model draws the next tokens by, [rows, 5]; None if it draws none.

        lengths: tokens known of each request, of which those after its prompt number its random numbers.
        """
        drawn = self._drawn[slots]
        if not drawn.any():
            return None
        fields = np.zeros((rows, 5), np.float32)
        own = fields[: len(slots)]
        own[:, 0] = self._temperature[slots] * drawn
        own[:, 1] = self._top_k[slots]
        own[:, 2] = self._top_p[slots]
        own[:, 3] = self._min_p[slots]
        random = uniform(self._seed[slots], (lengths - self._prompt[slots]).astype(np.uint64))
        own[:, 4] = np.floor(random * 2.0**24) * 2.0**-24  # rounding to float32 must not reach 1
        return fields

    def sample(self, requests: list[Request], slots: NDArray[np.int64], output: ForwardOutput) -> Sampled:
        """A token for each of `requests`, whose logits are the first rows of `output`, in this order."""
        count = len(requests)
        on_host = self.on_host(slots)
        if not on_host.any():
            return Sampled(output.tokens[:count], {})
        tokens = np.array(output.tokens[:count], np.int32)
        logits = output.logits
        logprobs: dict[int, TokenLogprobs] = {}
        rows = np.flatnonzero(on_host)
        block = max(1, BLOCK_ELEMENTS // logits.shape[1])
        for start in range(0, len(rows), block):
            part = rows[start : start + block]
            tokens[part] = self._sample_block(part, [requests[i] for i in part.tolist()], slots[part], logits)
        for i in rows.tolist():
            state, token = self._states[requests[i].id], int(tokens[i])
            if state.params.logprobs is not None and token >= 0:
                logprobs[i] = TokenLogprobs(token, *log_softmax_at(logits[i], token, state.params.logprobs))
            state.book(token)
        return Sampled(tokens, logprobs)

    def _sample_block(
        self, rows: NDArray[np.int64], requests: list[Request], slots: NDArray[np.int64], logits: NDArray[np.float32]
    ) -> NDArray[np.int32]:
        values = np.array(logits[rows], np.float32)  # a copy: the raw logits are still needed for log-probabilities
        for row, request in zip(values, requests, strict=True):
            self._states[request.id].adjust(row, len(request.output))
        tokens: NDArray[np.int32] = values.argmax(axis=1).astype(np.int32)
        tokens[~np.isfinite(np.take_along_axis(values, tokens[:, None].astype(np.int64), axis=1)[:, 0])] = -1
        drawn = np.flatnonzero((self._temperature[slots] > 0) & (tokens >= 0))
        if len(drawn):
            at = slots[drawn]
            counters = np.array([len(requests[i].output) for i in drawn.tolist()], np.uint64)
            tokens[drawn] = draw(
                values[drawn],
                self._temperature[at],
                self._top_k[at],
                self._top_p[at],
                self._min_p[at],
                uniform(self._seed[at], counters),
            )
        return tokens
