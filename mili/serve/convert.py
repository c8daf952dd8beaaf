"""From what a client wrote to `SamplingParams`, and from tokens to what a client reads."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mili.detokenizer import token_bytes
from mili.handle import Usage
from mili.interfaces import Tokenizer
from mili.sampler import TokenLogprobs
from mili.sampling import Grammar, SamplingParams
from mili.serve.errors import ApiError
from mili.serve.schemas import ResponseFormat, Sampling


def sampling_params(
    request: Sampling,
    defaults: Mapping[str, Any],
    *,
    max_tokens: int | None,
    logprobs: int | None = None,
    response_format: ResponseFormat | None = None,
    grammar: Grammar | None = None,
) -> SamplingParams:
    """The parameters of a request; what it leaves out comes from `defaults`, else from `SamplingParams`.

    Raises RequestError.
    """
    given: dict[str, Any] = {
        "temperature": request.temperature,
        "top_k": request.top_k,
        "top_p": request.top_p,
        "min_p": request.min_p,
        "repetition_penalty": request.repetition_penalty,
        "frequency_penalty": request.frequency_penalty,
        "presence_penalty": request.presence_penalty,
        "logit_bias": None if request.logit_bias is None else _bias(request.logit_bias),
        "seed": request.seed,
        "logprobs": logprobs,
        "stop": request.stop if request.stop is None or isinstance(request.stop, str) else tuple(request.stop),
        "stop_token_ids": None if request.stop_token_ids is None else tuple(request.stop_token_ids),
        "max_tokens": max_tokens,
        "min_tokens": request.min_tokens,
        "ignore_eos": request.ignore_eos,
        "n": request.n,
        "grammar": grammar or _grammar(request, response_format),
        "include_stop": request.include_stop_str_in_output,
        "skip_special_tokens": request.skip_special_tokens,
    }
    return SamplingParams(**{**defaults, **{name: value for name, value in given.items() if value is not None}})


def _bias(given: dict[str, float]) -> dict[int, float]:
    result = {}
    for key, value in given.items():
        if not (key.isascii() and key.isdigit() and len(key) < 11):
            raise ApiError(400, f"logit_bias has the key {key!r}: keys are token ids", param="logit_bias")
        result[int(key)] = value
    return result


def _grammar(request: Sampling, response_format: ResponseFormat | None) -> Grammar | None:
    asked: list[Grammar] = []
    if request.regex is not None:
        asked.append(Grammar("regex", request.regex))
    if request.choice is not None:
        asked.append(Grammar("choice", json.dumps(request.choice)))
    if request.grammar is not None:
        asked.append(Grammar("lark", request.grammar))
    if response_format is not None and response_format.type != "text":
        asked.append(_json_grammar(response_format))
    if len(asked) > 1:
        raise ApiError(400, "response_format, regex, choice and grammar exclude each other: give one of them")
    return asked[0] if asked else None


def _json_grammar(given: ResponseFormat) -> Grammar:
    if given.type == "json_object":
        return Grammar("json_object")
    if given.json_schema is None or given.json_schema.schema_ is None:
        message = "response_format of type json_schema needs json_schema with a name and a schema"
        raise ApiError(400, message, param="response_format")
    return Grammar("json_schema", json.dumps(given.json_schema.schema_))


def usage_of(parts: Sequence[Usage]) -> dict[str, Any]:
    """Tokens of all prompts of a request, with OpenAI's names."""
    prompt, completion = sum(u.prompt_tokens for u in parts), sum(u.completion_tokens for u in parts)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": sum(u.cached_tokens for u in parts)},
    }


class TokenNames:
    """Texts and bytes of single tokens, for log-probabilities. `tokenizer` may be None: texts are then the ids."""

    def __init__(self, tokenizer: Tokenizer | None) -> None:
        self._tokenizer = tokenizer

    def text(self, token: int) -> str:
        """The text of one token; U+FFFD stands for parts of characters."""
        return str(token) if self._tokenizer is None else self._tokenizer.decode([token], skip_special_tokens=False)

    def bytes(self, token: int) -> list[int] | None:
        """The token's bytes; None if they are not known."""
        spelled = getattr(self._tokenizer, "tokens", None)
        text = self.text(token)
        if "\ufffd" not in text or spelled is None:
            return None if self._tokenizer is None else list(text.encode())
        return list(token_bytes(spelled([token])[0]))

    def chat(self, entry: TokenLogprobs) -> dict[str, Any]:
        """A token's entry in the form of chat completions."""
        top = [self._entry(token, logprob) for token, logprob in entry.top]
        return {**self._entry(entry.token, entry.logprob), "top_logprobs": top}

    def completion(self, entries: Sequence[TokenLogprobs], offset: int) -> dict[str, Any]:
        """Tokens' entries in the form of completions; `offset` is the place of the first in the text."""
        texts = [self.text(entry.token) for entry in entries]
        offsets = []
        for text in texts:
            offsets.append(offset)
            offset += len(text)
        return {
            "tokens": texts,
            "token_logprobs": [finite(entry.logprob) for entry in entries],
            "top_logprobs": [{self.text(t): finite(p) for t, p in entry.top} for entry in entries],
            "text_offset": offsets,
        }

    def _entry(self, token: int, logprob: float) -> dict[str, Any]:
        return {"token": self.text(token), "logprob": finite(logprob), "bytes": self.bytes(token)}


def finite(logprob: float) -> float:
    """JSON has no infinity; OpenAI writes -9999 for what cannot occur."""
    return max(float(logprob), -9999.0)
