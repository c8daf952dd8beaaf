"""One tool call as it streams: {"name": ..., "arguments": {...}} in OpenAI's deltas.

The first delta has index, id, type and the function's name, and comes as soon as the text says `{"name": "f",
"arguments": {`: then it is a call, whatever follows. The arguments are handed on as the model writes them, up to the
brace that closes them. A call written in another way, such as arguments first or as a string, comes whole at its end.
"""

import json
import re
import uuid
from typing import Any, Literal

CALL, CALL_END = "<tool_call>", "</tool_call>"
# Without "<", so that whether a text begins a call does not depend on where it was cut.
_HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*"([^"\\<]+)"\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)')

Delta = dict[str, Any]


class CallReader:
    """Reads call number `index` of an answer from its JSON and the closing tag."""

    def __init__(self, index: int) -> None:
        self.index = index
        self._state: Literal["head", "arguments", "tail"] = "head"
        self._depth = 0
        self._in_string = self._escaped = False

    @property
    def begun(self) -> bool:
        """Whether the name is out: what is read is a call."""
        return self._state != "head"

    def read(self, text: str) -> tuple[Delta | None, str, bool]:
        """(what is new of the call, text to be given again with what follows it, whether the call has ended).

        A text that is no call, or not written so that it can be streamed, is given back whole.
        """
        delta: Delta | None = None
        if self._state == "head":
            head = _HEAD.match(text)
            if head is None:
                return None, text, False
            delta, text = _first(self.index, head[1], ""), text[head.end() :]
            self._state = "arguments"
        if self._state == "arguments":
            size = self._scan(text)
            if size and delta is None:
                delta = {"index": self.index, "function": {"arguments": ""}}
            if delta is not None:
                delta["function"]["arguments"] = text[:size]
            text = text[size:]
        if self._state == "tail":
            at, next_call = text.find(CALL_END), text.find(CALL)
            if next_call >= 0 and (at < 0 or next_call < at):
                return delta, text[next_call:], True  # the closing tag was forgotten
            if at >= 0:
                return delta, text[at + len(CALL_END) :], True
            text = text[-len(CALL_END) + 1 :]
        return delta, text, False

    def _scan(self, text: str) -> int:
        """How much of `text` belongs to the arguments; moves on to the tail after their last brace."""
        for i, letter in enumerate(text):
            if self._escaped:
                self._escaped = False
            elif self._in_string:
                self._escaped = letter == "\\"
                self._in_string = letter != '"'
            elif letter == '"':
                self._in_string = True
            elif letter in "{[":
                self._depth += 1
            elif letter in "}]":
                self._depth -= 1
                if self._depth == 0:
                    self._state = "tail"
                    return i + 1
            elif letter == "<":  # no JSON: perhaps the tag, before all braces are closed
                if text.startswith(CALL_END, i):
                    self._state = "tail"
                    return i
                if CALL_END.startswith(text[i:]):
                    return i
        return len(text)


def whole_call(index: int, text: str) -> Delta | None:
    """A whole call as one delta from the JSON between the tags; None if it is no call."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return _first(index, value["name"], arguments)


def _first(index: int, name: str, arguments: str) -> Delta:
    function = {"name": name, "arguments": arguments}
    return {"index": index, "id": f"call_{uuid.uuid4().hex[:24]}", "type": "function", "function": function}
