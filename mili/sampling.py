"""`SamplingParams`: what a request asks of the sampler and when it ends. Every value is checked when it is made."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from mili.errors import RequestError

MAX_LOGPROBS = 20
MAX_STOPS = 16
MAX_CHOICES = 128
GrammarKind: TypeAlias = Literal["json_schema", "json_object", "regex", "lark", "choice"]


@dataclass(frozen=True, slots=True)
class Grammar:
    """A constraint on the output, enforced token by token (mili/grammar.py).

    `text` is a JSON schema, a regular expression, a Lark grammar, or for `choice` a JSON list of strings;
    `json_object` needs none.
    """

    kind: GrammarKind
    text: str = ""

    def __post_init__(self) -> None:
        if self.kind not in get_args(GrammarKind):
            raise RequestError(f"grammar kind is {self.kind!r}: choose one of {', '.join(get_args(GrammarKind))}")
        if self.kind != "json_object" and not self.text:
            raise RequestError(f"the grammar of kind {self.kind!r} is empty: give its text")


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the tokens of one request are chosen, and when it ends.

    temperature         0 is exact argmax; otherwise logits are divided by it (0 to 100)
    top_k               only the k likeliest tokens; 0 or -1: all
    top_p               only the likeliest tokens that together reach this probability (above 0, up to 1)
    min_p               only tokens at least this times as likely as the likeliest (0 to 1)
    repetition_penalty  logits of tokens in prompt or output are divided (if positive) or multiplied by it (0.01 to 100)
    frequency_penalty   subtracted once for each time the token stands in the output (-2 to 2)
    presence_penalty    subtracted if the token stands in the output (-2 to 2)
    logit_bias          added to the logits of these token ids (-100 to 100)
    seed                same seed, same text, whatever else is in the batch; None: a new one for each request
    logprobs            log-probabilities of the chosen token and of this many of the likeliest (0 to 20); None: none
    stop                the text ends before the first of these strings
    stop_token_ids      the text ends at one of these tokens, beside the model's own end tokens
    max_tokens          most tokens to generate; None: as many as the context has room for
    min_tokens          no end token and no stop string before so many tokens
    ignore_eos          the model's own end tokens are tokens like any other
    n                   this many answers to the prompt (seed, seed + 1, ...)
    grammar             the output follows a JSON schema, a regular expression or a grammar
    include_stop        keep the stop string in the text
    skip_special_tokens leave special tokens out of the text

    They apply in this order: bias, penalties, temperature, top_k, top_p, min_p, each on what the one before left.
    Log-probabilities are those of the raw logits.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    logprobs: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    max_tokens: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    n: int = 1
    grammar: Grammar | None = None
    include_stop: bool = False
    skip_special_tokens: bool = True

    def __post_init__(self) -> None:
        _number("temperature", self.temperature, 0, 100)
        if 0 < self.temperature < 1e-5:
            raise RequestError(f"temperature is {self.temperature}: it must be 0 (greedy) or from 0.00001 to 100")
        _integer("top_k", self.top_k, -1, 2**31 - 1)
        _number("top_p", self.top_p, 0, 1, above=True)
        _number("min_p", self.min_p, 0, 1)
        _number("repetition_penalty", self.repetition_penalty, 0.01, 100)
        _number("frequency_penalty", self.frequency_penalty, -2, 2)
        _number("presence_penalty", self.presence_penalty, -2, 2)
        if not isinstance(self.logit_bias, Mapping):
            raise RequestError(f"logit_bias is {self.logit_bias!r}: it must map token ids to numbers")
        for token, bias in self.logit_bias.items():
            _integer("a token id of logit_bias", token, 0, 2**31 - 1)
            _number(f"logit_bias of token {token}", bias, -100, 100)
        if self.seed is not None:
            _integer("seed", self.seed, -(2**63), 2**64 - 1)
        if self.logprobs is not None:
            _integer("logprobs", self.logprobs, 0, MAX_LOGPROBS)
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        object.__setattr__(self, "stop", tuple(self.stop))
        object.__setattr__(self, "stop_token_ids", tuple(self.stop_token_ids))
        if len(self.stop) > MAX_STOPS:
            raise RequestError(f"stop has {len(self.stop)} strings: at most {MAX_STOPS} are allowed")
        for text in self.stop:
            if not isinstance(text, str) or not text:
                raise RequestError(f"stop has the entry {text!r}: each must be a string that is not empty")
        for token in self.stop_token_ids:
            _integer("a token id of stop_token_ids", token, 0, 2**31 - 1)
        if self.max_tokens is not None:
            _integer("max_tokens", self.max_tokens, 1, 2**31 - 1)
        _integer("min_tokens", self.min_tokens, 0, 2**31 - 1 if self.max_tokens is None else self.max_tokens)
        _integer("n", self.n, 1, MAX_CHOICES)
        if self.grammar is not None and not isinstance(self.grammar, Grammar):
            raise RequestError(f"grammar is {self.grammar!r}: it must be a Grammar")
        for name in ("ignore_eos", "include_stop", "skip_special_tokens"):
            if not isinstance(getattr(self, name), bool):
                raise RequestError(f"{name} is {getattr(self, name)!r}: it must be true or false")

    @property
    def needs_logits(self) -> bool:
        """Whether the argmax of the raw logits is not enough; min_tokens bans end tokens, so it needs them too."""
        return (
            self.temperature > 0
            or self.repetition_penalty != 1
            or self.frequency_penalty != 0
            or self.presence_penalty != 0
            or bool(self.logit_bias)
            or self.logprobs is not None
            or self.grammar is not None
            or self.min_tokens > 0
        )


def _number(name: str, value: object, low: float, high: float, *, above: bool = False) -> None:
    bounds = f"above {low} and at most {high}" if above else f"from {low} to {high}"
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RequestError(f"{name} is {value!r}: it must be a number {bounds}")
    if not low <= value <= high or (above and value == low):
        raise RequestError(f"{name} is {value}: it must be {bounds}")


def _integer(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise RequestError(f"{name} is {value!r}: it must be a whole number from {low} to {high}")
    if not low <= value <= high:
        raise RequestError(f"{name} is {value}: it must be from {low} to {high}")


GREEDY = SamplingParams(temperature=0.0)
