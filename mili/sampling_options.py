"""The sampling options that command line programs share."""

import argparse
from collections.abc import Sequence
from typing import Any

from mili.errors import MiliError, RequestError
from mili.handle import RequestOutput
from mili.interfaces import Tokenizer
from mili.sampling import SamplingParams


def add_sampling_arguments(parser: argparse.ArgumentParser, *, max_tokens: int, temperature: float) -> None:
    """Options for `sampling_from`, with the program's own defaults. Values are checked by `SamplingParams`."""
    group = parser.add_argument_group("sampling")
    add = group.add_argument
    add("--max-tokens", type=int, default=max_tokens, help=f"most tokens to generate (default {max_tokens})")
    add("--min-tokens", type=int, default=0, help="no end before so many tokens")
    add(
        "--temperature",
        type=float,
        default=temperature,
        help=f"0 takes the likeliest token each time; higher is more random (default {temperature:g})",
    )
    add("--top-k", type=int, default=0, help="choose among the K likeliest tokens (default 0: all)")
    add("--top-p", type=float, default=1.0, help="choose among the likeliest that together reach P (default 1)")
    add("--min-p", type=float, default=0.0, help="only tokens at least P times as likely as the likeliest (default 0)")
    add("--repetition-penalty", type=float, default=1.0, help="above 1 discourages tokens that have occurred")
    add("--frequency-penalty", type=float, default=0.0, help="subtracted for each time a token has been generated")
    add("--presence-penalty", type=float, default=0.0, help="subtracted for tokens that have been generated")
    add("--seed", type=int, help="same seed, same text (default: a new one each time)")
    add("--stop", action="append", default=[], metavar="TEXT", help="end before this text; may be given again")
    add("--ignore-eos", action="store_true", help="go on after the model's end tokens, up to --max-tokens")


def sampling_from(arguments: argparse.Namespace) -> SamplingParams:
    """The parameters that parsed options ask for. Raises RequestError for a value that is out of range."""
    return SamplingParams(
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        top_p=arguments.top_p,
        min_p=arguments.min_p,
        repetition_penalty=arguments.repetition_penalty,
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
