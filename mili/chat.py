"""Talk to a model in the terminal: `python -m mili.chat`.

Every turn sends the whole conversation; what the turns before have computed comes from the prefix cache.
"""

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import replace

from mili.console import run
from mili.engine import Engine
from mili.errors import MiliError, TokenizerError
from mili.launch import add_arguments, launch_from
from mili.sampling import SamplingParams
from mili.sampling_options import add_sampling_arguments, chat_prompt, failed, sampling_from, timings

HELP = """/system TEXT  set the system message and start anew (without TEXT: none)
/reset        forget the conversation
/help         this list
/exit         leave (so does Ctrl-D); Ctrl-C ends an answer"""


class Chat:
    """A conversation with a started engine."""

    def __init__(self, engine: Engine, params: SamplingParams, system: str | None, thinking: bool | None) -> None:
        self.engine = engine
        self.params = params
        self.system = system
        self.thinking = thinking
        self.messages: list[dict[str, str]] = []
        self.reset()

    def reset(self) -> None:
        """Forget all turns but the system message."""
        self.messages = [{"role": "system", "content": self.system}] if self.system else []

    def command(self, line: str) -> bool:
        """Obey a line that starts with a slash; False if the user wants to leave."""
        name, _, rest = line.partition(" ")
        if name in ("/exit", "/quit"):
            return False
        if name == "/reset":
            self.reset()
            note("The conversation is empty.")
        elif name == "/system":
            self.system = rest.strip() or None
            self.reset()
            note("System message set, conversation emptied." if self.system else "No system message any more.")
        elif name == "/help":
            note(HELP)
        else:
            note(f"{name} is no command. They are:\n{HELP}")
        return True

    def say(self, text: str) -> None:
        """Send a message and print the answer as it comes. A turn that fails leaves the conversation as it was."""
        turn = [*self.messages, {"role": "user", "content": text}]
        ids = chat_prompt(self.engine.tokenizer, turn, self.thinking)
        room = max(1, self.engine.max_context - len(ids))
        params = replace(self.params, max_tokens=min(room, self.params.max_tokens or room))
        handle = self.engine.submit(ids, params)
        try:
            for delta in handle.stream():
                print(delta.text, end="", flush=True)
        except KeyboardInterrupt:
            handle.cancel()
            for delta in handle.stream():
                print(delta.text, end="", flush=True)
        print(flush=True)
        output = handle.snapshot()
        if output.error is not None:
            raise failed(output)
        self.messages = [*turn, {"role": "assistant", "content": output.text}]
        usage, rate = output.usage, timings(output)["decode_tokens_per_second"]
        reason = output.outputs[0].finish_reason
        ending = {"length": ", cut at --max-tokens or the context", "cancel": ", interrupted"}.get(reason or "", "")
        note(
            f"{usage.completion_tokens} tokens{f', {rate:.1f}/s' if rate else ''}, first after "
            f"{output.first_token_time or 0:.2f} s, {usage.cached_tokens} of {usage.prompt_tokens} prompt tokens from "
            f"the cache{ending}"
        )


def note(text: str) -> None:
    """Something that is no part of the conversation, on standard error, dim on a terminal."""
    print(f"\x1b[2m{text}\x1b[0m" if sys.stderr.isatty() else text, file=sys.stderr, flush=True)


def parser() -> argparse.ArgumentParser:
    """The options; see --help."""
    result = argparse.ArgumentParser(
        prog="python -m mili.chat",
        description="Talk to a model in the terminal.",
        epilog=f"in the conversation:\n{HELP}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("--system", metavar="TEXT", help="the system message")
    result.add_argument("--no-thinking", action="store_true", help="ask a reasoning model to answer at once")
    add_sampling_arguments(result, max_tokens=512, temperature=None)
    add_arguments(result)
    result.set_defaults(max_running=1)
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; see `parser`."""
    options = parser().parse_args(arguments)
    sampling_from(options)  # a wrong value is told before the model is loaded
    launch = launch_from(options)
    if importlib.util.find_spec("readline") is not None:
        import readline  # noqa: F401  (line editing and history for input())
    engine = launch.engine()
    if engine.tokenizer is None or getattr(engine.tokenizer, "chat_template", None) is None:
        raise TokenizerError("the model has no chat template, so it cannot chat: use python -m mili.generate")
    with engine:
        params = sampling_from(options, {"temperature": 0.7, **engine.recommended})
        chat = Chat(engine, params, options.system, False if options.no_thinking else None)
        prompt = "> " if sys.stdin.isatty() else ""
        if prompt:
            note("/help lists the commands.")
        while True:
            try:
                line = input(prompt).strip()
            except EOFError:
                return 0
            try:
                if line.startswith("/"):
                    if not chat.command(line):
                        return 0
                elif line:
                    chat.say(line)
            except MiliError as error:
                note(f"error: {error}")


if __name__ == "__main__":
    run(main)
