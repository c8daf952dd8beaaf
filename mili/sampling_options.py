"""The sampling options that command line programs share."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from mili.errors import MiliError, RequestError
from mili.handle import RequestOutput
from mili.interfaces import Tokenizer
from mili.sampling import SamplingParams


def add_sampling_arguments(parser: argparse.ArgumentParser, *, max_tokens: int, temperature: float | None) -> None:
    """Options for `sampling_from`, with the program's own defaults; a temperature of None means the model's own."""
    group = parser.add_argument_group("sampling")
    add = group.add_argument
    add("--max-tokens", type=int, default=max_tokens, help=f"most tokens to generate (default {max_tokens})")
    add("--min-tokens", type=int, default=0, help="no end before so many tokens")
    add(
        "--temperature",
        type=float,
        default=temperature,
        help="0 takes the likeliest token each time; higher is more random "
        f"(default {'what the model recommends' if temperature is None else temperature})",
    )
    add("--top-k", type=int, help="choose among the K likeliest tokens (0: all)")
    add("--top-p", type=float, help="choose among the likeliest that together reach P (1: all)")
    add("--min-p", type=float, help="only tokens at least P times as likely as the likeliest (0: all)")
    add("--repetition-penalty", type=float, help="above 1 discourages tokens that have occurred")
    add("--frequency-penalty", type=float, default=0.0, help="subtracted for each time a token has been generated")
    add("--presence-penalty", type=float, default=0.0, help="subtracted for tokens that have been generated")
    add("--seed", type=int, help="same seed, same text (default: a new one each time)")
    add("--stop", action="append", default=[], metavar="TEXT", help="end before this text; may be given again")
    add("--ignore-eos", action="store_true", help="go on after the model's end tokens, up to --max-tokens")


def sampling_from(arguments: argparse.Namespace, recommended: Mapping[str, Any] | None = None) -> SamplingParams:
    """The parameters that parsed options ask for, with `recommended` values for those that are not given.

    Raises RequestError for a value that is out of range.
    """
    names = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
    chosen = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    return SamplingParams(
        **{**(recommended or {}), **chosen},
        frequency_penalty=arguments.frequency_penalty,
        presence_penalty=arguments.presence_penalty,
        seed=arguments.seed,
        stop=tuple(arguments.stop),
        max_tokens=arguments.max_tokens,
        min_tokens=arguments.min_tokens,
        ignore_eos=arguments.ignore_eos,
    )


def chat_prompt(
    tokenizer: Tokenizer | None, messages: Sequence[dict[str, Any]], enable_thinking: bool | None = None
) -> list[int]:
    """Token ids of a conversation. Raises RequestError if the model has no tokenizer, TokenizerError if no template."""
    encode = getattr(tokenizer, "encode_chat", None)
    if encode is None:
        raise RequestError("the model has no tokenizer, so it cannot chat: give --prompt-ids to mili.generate")
    ids: list[int] = encode(messages, enable_thinking=enable_thinking)
    return ids


def timings(output: RequestOutput) -> dict[str, float | None]:
    """Seconds until the first token and in all, and tokens per second of prefill and decode.

    Prefill counts the prompt tokens that were computed (not those from the prefix cache), decode the tokens after the
    first.
    """
    first, total, usage = output.first_token_time, output.total_time, output.usage
    decode = None if first is None or total is None else total - first
    return {
        "first_token_seconds": _rounded(first),
        "total_seconds": _rounded(total),
        "prefill_tokens_per_second": _rate(usage.prompt_tokens - usage.cached_tokens, first),
        "decode_tokens_per_second": _rate(usage.completion_tokens - 1, decode),
    }


def failed(output: RequestOutput) -> MiliError:
    """The error of a request that the engine could not finish."""
    return MiliError(f"the model failed: {output.error}; run python -m mili.doctor")


def _rate(tokens: int, seconds: float | None) -> float | None:
    return round(tokens / seconds, 2) if seconds and tokens > 0 else None


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)
