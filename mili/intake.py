"""From what a caller submits to requests the scheduler can run: every check that can fail happens here, at once."""

import itertools
import secrets
import threading
from collections.abc import Sequence

import numpy as np

from mili.errors import ConfigError, RequestError
from mili.grammar import GrammarCompiler, GrammarState
from mili.handle import Host, Output, RequestHandle
from mili.interfaces import ModelConfig, Tokenizer
from mili.request import Request
from mili.sampler import RowState
from mili.sampling import SamplingParams
from mili.text import TextStream


class Intake:
    """Checks and prepares prompts, in the caller's thread.

    max_context: tokens of prompt and output together. tokenizer: None takes token ids only and gives no text.
    """

    def __init__(self, config: ModelConfig, tokenizer: Tokenizer | None, max_context: int) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.max_context = max_context
        self._numbers = itertools.count()
        self._compiling = threading.Lock()
        self._compiler: GrammarCompiler | None = None

    def prepare(
        self,
        prompt: str | Sequence[int],
        params: SamplingParams,
        priority: int,
        request_id: str | None,
        engine: Host,
    ) -> tuple[RequestHandle, list[RowState | None]]:
        """The handle with its `params.n` outputs, and what the sampler needs to know of each. Raises RequestError."""
        ids = self._prompt_ids(prompt)
        self._check_token_ids(params)
        room = self.max_context - len(ids)
        max_tokens = params.max_tokens if params.max_tokens is not None else max(1, room)
        grammar = self._compile(params)
        seed = params.seed if params.seed is not None else secrets.randbits(63)
        ends = np.array(sorted({*self.config.eos_token_ids, *params.stop_token_ids}), np.int64)
        handle = RequestHandle(request_id or f"r{next(self._numbers)}", ids, engine)
        tokens = np.array(ids, np.int32)
        outputs: list[Output] = []
        states: list[RowState | None] = []
        for index in range(params.n):
            name = handle.id if params.n == 1 else f"{handle.id}-{index}"
            request = Request(name, tokens, max_tokens, params, priority)
            engine.check(request)
            decoder = None if self.tokenizer is None else self.tokenizer.decoder(params.skip_special_tokens)
            output = Output(
                handle, index, request, TextStream(decoder, params.stop, params.include_stop, params.min_tokens)
            )
            request.owner = output
            outputs.append(output)
            own = None if grammar is None else grammar.copy()
            states.append(RowState(request, ends, seed + index, own) if params.needs_logits else None)
        handle.attach(outputs)
        return handle, states

    def _prompt_ids(self, prompt: str | Sequence[int]) -> list[int]:
        if isinstance(prompt, str):
            if self.tokenizer is None:
                raise RequestError("the prompt is text and the model has no tokenizer: give token ids")
            ids = list(self.tokenizer.encode(prompt))
        else:
            ids = list(prompt)
        if not ids:
            raise RequestError("the prompt is empty: give at least one token")
        if len(ids) >= self.max_context:
            raise RequestError(
                f"the prompt has {len(ids)} tokens: the context holds {self.max_context}, with room for at least one "
                "new token; shorten the prompt"
            )
        vocab = self.config.vocab_size
        for token in ids:
            if isinstance(token, bool) or not isinstance(token, int | np.integer) or not 0 <= token < vocab:
                raise RequestError(
                    f"the prompt has the token id {token!r}: ids are whole numbers from 0 to {vocab - 1}"
                )
        return [int(token) for token in ids]

    def _check_token_ids(self, params: SamplingParams) -> None:
        vocab = self.config.vocab_size
        for name, ids in (("logit_bias", params.logit_bias), ("stop_token_ids", params.stop_token_ids)):
            for token in ids:
                if token >= vocab:
                    raise RequestError(f"{name} has the token id {token}: the vocabulary ends at {vocab - 1}")
        if params.stop and self.tokenizer is None:
            raise RequestError(f"stop is {params.stop}: stop strings need a tokenizer; use stop_token_ids")

    def _compile(self, params: SamplingParams) -> GrammarState | None:
        if params.grammar is None:
            return None
        source = getattr(self.tokenizer, "to_json", None)
        if source is None:
            raise RequestError("a grammar needs a tokenizer, and this model has none: leave the grammar out")
        if not self.config.eos_token_ids:
            raise ConfigError("a grammar needs a model with an end token: set eos_token_id in its config.json")
        with self._compiling:
            if self._compiler is None:
                self._compiler = GrammarCompiler(source(), self.config.vocab_size, self.config.eos_token_ids)
            return self._compiler.compile(params.grammar)
