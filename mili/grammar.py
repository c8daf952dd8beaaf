"""Constrained output: which tokens a JSON schema, a regular expression or a grammar allows next, by llguidance.

https://github.com/guidance-ai/llguidance builds the tables of a vocabulary once and then computes a mask of allowed
tokens in well under a millisecond a step.
"""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mili.errors import RequestError
from mili.sampling import Grammar


class GrammarCompiler:
    """Compiles grammars for one vocabulary.

    tokenizer_json: the tokenizer in the format of `tokenizer.json`. eos_token_ids: the ids that end the output.
    The tables are built at the first use, which takes up to a few seconds for a large vocabulary.
    """

    def __init__(self, tokenizer_json: str, vocab_size: int, eos_token_ids: tuple[int, ...]) -> None:
        self._json = tokenizer_json
        self._eos = eos_token_ids
        self.vocab_size = vocab_size
        self._tokenizer: Any = None

    def compile(self, grammar: Grammar) -> "GrammarState":
        """The state at the start of the output. Raises RequestError with the library's reason for a bad grammar."""
        from llguidance import LLMatcher, LLTokenizer

        if self._tokenizer is None:
            self._tokenizer = LLTokenizer(self._json, n_vocab=self.vocab_size, eos_token=list(self._eos) or None)
        try:
            source = _source(grammar, LLMatcher)
        except (ValueError, TypeError) as error:
            raise RequestError(f"the grammar of kind {grammar.kind!r} cannot be read: {error}") from None
        matcher = LLMatcher(self._tokenizer, source, log_level=0)
        if matcher.is_error():
            raise RequestError(f"the grammar of kind {grammar.kind!r} is not valid: {matcher.get_error().strip()}")
        return GrammarState(matcher, self.vocab_size)


class GrammarState:
    """Where one output stands in its grammar."""

    def __init__(self, matcher: Any, vocab_size: int) -> None:
        self._matcher = matcher
        self._vocab_size = vocab_size

    def forbid(self, logits: NDArray[np.float32]) -> None:
        """Set the logits [V] of all tokens that are not allowed next to minus infinity, in place."""
        packed = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        allowed = np.unpackbits(packed, bitorder="little")[: self._vocab_size].astype(bool)
        logits[: self._vocab_size][~allowed] = -np.inf
        logits[self._vocab_size :] = -np.inf

    def advance(self, token: int) -> None:
        """Book a generated token. Raises RuntimeError if the grammar did not allow it."""
        if not self._matcher.consume_token(token):
            raise RuntimeError(f"token {token} is not allowed by the grammar: {self._matcher.get_error()}")

    @property
    def complete(self) -> bool:
        """Whether nothing but the end can follow."""
        return bool(self._matcher.is_stopped())

    def copy(self) -> "GrammarState":
        """An independent state at the same place."""
        return GrammarState(self._matcher.deep_copy(), self._vocab_size)


def _source(grammar: Grammar, matcher: Any) -> str:
    if grammar.kind == "json_schema":
        return str(matcher.grammar_from_json_schema(grammar.text))
    if grammar.kind == "json_object":
        return str(matcher.grammar_from_json_schema({"type": "object"}))
    if grammar.kind == "regex":
        return str(matcher.grammar_from_regex(grammar.text))
    if grammar.kind == "lark":
        return str(matcher.grammar_from_lark(grammar.text))
    choices = json.loads(grammar.text)
    if not isinstance(choices, list) or not choices or not all(isinstance(c, str) and c for c in choices):
        raise ValueError("a choice is a JSON list of strings that are not empty")
    return str(matcher.grammar_from_lark("start: " + " | ".join(json.dumps(choice) for choice in choices)))
