"""The parts of a chat answer as it streams: reasoning in <think>, calls in <tool_call>, and the text around them.

The format is that of Qwen3 and Hermes (https://github.com/NousResearch/Hermes-Function-Calling): a call is
<tool_call>{"name": ..., "arguments": {...}}</tool_call>. What looks like a beginning of a tag is held back until it is
known to be one or not, so nothing is ever taken back. Calls stream (mili/serve/calls.py).
"""

from dataclasses import dataclass, field
from typing import Any

from mili.serve.calls import CALL, CALL_END, CallReader, whole_call

THINK, THINK_END = "<think>", "</think>"


@dataclass(slots=True)
class Parts:
    """What is new: reasoning, text, and of calls {"index", "id", "type", "function": {"name", "arguments"}}, at most
    one of each index; without id, type and name if they have been given before."""

    reasoning: str = ""
    content: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.reasoning or self.content or self.calls)

    def __add__(self, later: "Parts") -> "Parts":
        return Parts(self.reasoning + later.reasoning, self.content + later.content, self.calls + later.calls)


class AnswerParser:
    """Splits one answer. `thinking`: the prompt has opened <think> already; `tools`: look for calls.

    forced: the answer is one call, without tags.
    """

    def __init__(self, thinking: bool = False, tools: bool = False, forced: bool = False) -> None:
        self._state = "call" if forced else "think" if thinking else "start"
        self._tools = tools
        self._held = ""
        self._strip = thinking  # drop white space before the next text
        self._tag = "" if forced else CALL
        self._call = CallReader(0)
        self.calls = 0  # begun so far

    def push(self, text: str) -> Parts:
        """The parts that are certain after `text`."""
        self._held += text
        parts = Parts()
        while self._advance(parts):
            pass
        return parts

    def finish(self) -> Parts:
        """What is still held back at the end of the answer; of a call that was cut off what there is, or its text."""
        parts = Parts()
        rest, self._held = self._held, ""
        if self._state == "call":
            if not self._call.begun:
                self._whole_call(rest, parts, self._tag + rest)
        elif self._state == "think":
            parts.reasoning += rest.lstrip() if self._strip else rest
        elif not (self._strip and not rest.strip()):
            parts.content += rest
        return parts

    def _advance(self, parts: Parts) -> bool:
        """Do as much as one state allows; True if there may be more."""
        if self._state == "start":  # <think> counts only before everything else
            bare = self._held.lstrip()
            if bare.startswith(THINK):
                self._state, self._held, self._strip = "think", bare[len(THINK) :], True
                return True
            if THINK.startswith(bare):
                return False
            self._state = "text"
            return True
        if self._strip:
            self._held = self._held.lstrip()
            if not self._held:
                return False
            self._strip = False
        if self._state == "think":
            done, self._held, found = _until(self._held, THINK_END)
            parts.reasoning += done
            if found:
                self._state, self._strip = "text", True
            return found
        if self._state == "text":
            if not self._tools:
                parts.content += self._held
                self._held = ""
                return False
            done, self._held, found = _until(self._held, CALL)
            parts.content += done
            if found:
                self._state, self._call = "call", CallReader(self.calls)
            return found
        delta, self._held, ended = self._call.read(self._held)
        if delta is not None:
            parts.calls.append(delta)
            self.calls = self._call.index + 1
        if not self._call.begun:
            inside, tag, rest = self._held.partition(CALL_END)
            if ended := bool(tag):
                self._held = rest
                self._whole_call(inside, parts, self._tag + inside + tag)
        if ended:
            self._state, self._strip = "text", True
        return ended

    def _whole_call(self, inside: str, parts: Parts, raw: str) -> None:
        call = whole_call(self._call.index, inside)
        if call is None:
            parts.content += raw
        else:
            parts.calls.append(call)
            self.calls += 1


def _until(text: str, tag: str) -> tuple[str, str, bool]:
    """(text before the tag, what remains, whether it was there).

    An end that may begin the tag remains, and so does white space at the end, which is dropped before a tag.
    """
    at = text.find(tag)
    if at >= 0:
        return text[:at].rstrip(), text[at + len(tag) :], True
    keep = next((n for n in range(min(len(tag) - 1, len(text)), 0, -1) if text.endswith(tag[:n])), 0)
    size = len(text[: len(text) - keep].rstrip())
    return text[:size], text[size:], False
