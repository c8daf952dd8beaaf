"""Complete one prompt: `python -m mili.generate "Once upon a time"`.

Text goes to standard output, everything else to standard error. `-` reads the prompt from standard input.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from mili.console import run
from mili.errors import RequestError
from mili.handle import RequestOutput
from mili.interfaces import Tokenizer
from mili.launch import add_arguments, launch_from
from mili.sampling_options import add_sampling_arguments, chat_prompt, failed, sampling_from, timings

EPILOG = """examples:
  python -m mili.generate "The three primary colours are" --max-tokens 30
  python -m mili.generate --chat --model smollm2 "What is the capital of France?" --stream
  python -m mili.generate --prompt-ids 9707,11,1879 --ignore-eos --json
"""


def parser() -> argparse.ArgumentParser:
    """The options; see --help."""
    result = argparse.ArgumentParser(
        prog="python -m mili.generate",
        description="Complete one prompt.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = result.add_argument
    add("prompt", nargs="?", help="the text to complete, or - to read it from standard input")
    add("--prompt-ids", metavar="1,2,3", help="token ids instead of text; works for a model without a tokenizer")
    add("--chat", action="store_true", help="the prompt is a user's message: put the model's chat template around it")
    add("--system", metavar="TEXT", help="with --chat: the system message")
    add("--no-thinking", action="store_true", help="with --chat: ask a reasoning model to answer at once")
    add("--stream", action="store_true", help="print the text as it is generated")
    add("--json", action="store_true", help="last line of output: an object with ids, text, finish_reason and timings")
    add("--quiet", action="store_true", help="no figures on standard error at the end")
    add_sampling_arguments(result, max_tokens=128, temperature=0.0)
    add_arguments(result)
    result.set_defaults(max_running=1)  # one request: the cache needs no more room than its context
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; see `parser`."""
    options = parser().parse_args(arguments)
    params = sampling_from(options)
    launch = launch_from(options)
    asked = _read(options)  # what is wrong with the prompt is told before the model is loaded
    engine = launch.engine()
    handle = engine.submit(_ids(options, asked, engine.tokenizer), params)
    try:
        for delta in handle.stream():
            if options.stream:
                text = delta.text if engine.tokenizer else "".join(f"{token} " for token in delta.token_ids)
                print(text, end="", flush=True)
    finally:
        engine.stop()
    output = handle.snapshot()
    if output.error is not None:
        raise failed(output)
    _print(output, options, engine.tokenizer)
    return 0


def _read(options: argparse.Namespace) -> str | list[int]:
    """The prompt as it was given: text or token ids. Raises RequestError."""
    if (options.prompt is None) == (options.prompt_ids is None):
        raise RequestError("give a prompt (text, or - for standard input) or --prompt-ids, one of the two")
    if options.prompt_ids is not None:
        if options.chat:
            raise RequestError("--prompt-ids and --chat exclude each other: the chat template needs text")
        return parse_ids(options.prompt_ids)
    if not options.chat and (options.system is not None or options.no_thinking):
        raise RequestError("--system and --no-thinking belong to --chat: give --chat as well")
    text = sys.stdin.read() if options.prompt == "-" else options.prompt
    if not text:
        raise RequestError("the prompt is empty: give at least one character")
    return str(text)


def parse_ids(text: str) -> list[int]:
    """Token ids from a text such as 1,2,3 (commas or blanks). Raises RequestError."""
    parts = text.replace(",", " ").split()
    if not parts or not all(part.isascii() and part.isdigit() for part in parts):
        raise RequestError(f"--prompt-ids is {text!r}: give whole numbers with commas between, such as 1,2,3")
    return [int(part) for part in parts]


def _ids(options: argparse.Namespace, asked: str | list[int], tokenizer: Tokenizer | None) -> str | list[int]:
    if not options.chat or not isinstance(asked, str):
        return asked
    messages = [{"role": "system", "content": options.system}] if options.system is not None else []
    messages.append({"role": "user", "content": asked})
    return chat_prompt(tokenizer, messages, False if options.no_thinking else None)


def _print(output: RequestOutput, options: argparse.Namespace, tokenizer: Tokenizer | None) -> None:
    answer, times = output.outputs[0], timings(output)
    if options.stream:
        print()
    elif not options.json:
        print(answer.text if tokenizer else " ".join(str(token) for token in answer.token_ids))
    if options.json:
        result: dict[str, Any] = {
            "prompt_ids": output.prompt_ids,
            "ids": answer.token_ids,
            "text": answer.text,
            "finish_reason": answer.finish_reason,
            "timings": times,
        }
        print(json.dumps(result))
    elif not options.quiet:
        sys.stdout.flush()
        prefill, decode = times["prefill_tokens_per_second"], times["decode_tokens_per_second"]
        print(
            f"{output.usage.prompt_tokens} prompt tokens ({prefill or 0:.0f}/s), "
            f"{output.usage.completion_tokens} generated ({decode or 0:.1f}/s), end: {answer.finish_reason}",
            file=sys.stderr,
        )


if __name__ == "__main__":
    run(main)
