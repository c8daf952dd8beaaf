"""The parts of a chat answer as it streams: reasoning in <think>, calls in <tool_call>, and the text around them.

The format is that of Qwen3 and Hermes (https://github.com/NousResearch/Hermes-Function-Calling): a call is
<tool_call>{"name": ..., "arguments": {...}}</tool_call>. What looks like a beginning of a tag is held back until it is
known to be one or not, so nothing is ever taken back.
"""

import json
import uuid
from dataclasses import dataclass, field
from typing import Any

THINK, THINK_END = "<think>", "</think>"
CALL, CALL_END = "<tool_call>", "</tool_call>"


@dataclass(slots=True)
class Parts:
    """What is new: reasoning, text, and whole calls as {"id", "type", "function": {"name", "arguments"}}."""

    reasoning: str = ""
    content: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.reasoning or self.content or self.calls)


class AnswerParser:
    """Splits one answer. `thinking`: the prompt has opened <think> already; `tools`: look for calls."""

    def __init__(self, thinking: bool = False, tools: bool = False) -> None:
        self._state = "think" if thinking else "start"
        self._tools = tools
        self._held = ""
        self._strip = thinking  # drop white space before the next text
        self.calls = 0

    def push(self, text: str) -> Parts:
        """The parts that are certain after `text`."""
        self._held += text
        parts = Parts()
        while self._advance(parts):
            pass
        return parts

    def finish(self) -> Parts:
        """What is still held back at the end of the answer; a call that was cut off is text."""
        parts = Parts()
        rest, self._held = self._held, ""
        if self._state == "call":
            self._call(rest, parts, CALL + rest)
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
                self._state = "call"
            return found
        inside, self._held, found = _whole(self._held, CALL_END)
        if found:
            self._call(inside, parts, CALL + inside + CALL_END)
            self._state, self._strip = "text", True
        return found

    def _call(self, inside: str, parts: Parts, raw: str) -> None:
        call = parse_call(inside)
        if call is None:
            parts.content += raw
        else:
            parts.calls.append(call)
            self.calls += 1


def parse_call(text: str) -> dict[str, Any] | None:
    """A call in OpenAI's form from the JSON between the tags; None if it is no call."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    function = {"name": value["name"], "arguments": arguments}
    return {"id": f"call_{uuid.uuid4().hex[:24]}", "type": "function", "function": function}


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


def _whole(text: str, tag: str) -> tuple[str, str, bool]:
    """As `_until`, but nothing is given before the tag is there."""
    at = text.find(tag)
    return (text[:at], text[at + len(tag) :], True) if at >= 0 else ("", text, False)
