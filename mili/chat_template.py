"""Chat templates: the Jinja program in a checkpoint that turns messages into a prompt.

Templates come from strangers, so they run in Jinja's immutable sandbox and see plain JSON values only. The helpers
are those that Hugging Face templates expect: https://huggingface.co/docs/transformers/chat_templating_writing.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mili.errors import RequestError, TokenizerError

Message: TypeAlias = Mapping[str, Any]
_REASONING = ("reasoning_content", "thinking", "reasoning")


class _GenerationTag(Extension):
    """`{% generation %}` marks the assistant's text for training; for a prompt its contents are simply rendered."""

    tags = {"generation"}  # noqa: RUF012 (the base class declares it so)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """Plain JSON: Jinja's own filter would escape HTML characters."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


class ChatTemplate:
    """A compiled chat template. Raises TokenizerError if `source` is not valid Jinja."""

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        self.source = source
        self._special_tokens = dict(special_tokens)
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = _strftime_now
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise TokenizerError(f"The chat template is not valid Jinja: {error}.") from None

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        **variables: Any,
    ) -> str:
        """The prompt text of `messages` (dicts with `role` and `content`), ready for the assistant to continue.

        `tools` are JSON schemas; `variables` reach the template, such as Qwen3's `enable_thinking`. Raises RequestError
        with the template's own words if it refuses the conversation.
        """
        if not messages:
            raise RequestError("messages is empty; a chat needs at least one message.")
        try:
            return self._template.render(
                **self._special_tokens,
                messages=[_normalised(message, i) for i, message in enumerate(messages)],
                tools=_plain(tools, "tools") if tools else None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **_plain(variables, "template variables"),
            )
        except (jinja2.TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
            raise RequestError(f"The chat template cannot render these messages: {error}.") from None


def _normalised(message: Message, index: int) -> dict[str, Any]:
    """Plain values without nulls (templates test for absence), text parts joined, reasoning under its usual name."""
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise RequestError(f"messages[{index}] is {message!r}; it must be an object with a role and content.")
    plain = {key: value for key, value in _plain(message, f"messages[{index}]").items() if value is not None}
    if isinstance(plain.get("content"), list):
        plain["content"] = "\n".join(_text(part, index) for part in plain["content"])
    if plain.get("tool_calls"):
        plain.setdefault("content", "")  # clients send null; templates add to it
    reasoning = next((plain[key] for key in _REASONING if key in plain), None)
    return plain if reasoning is None else {"thinking": reasoning, **plain, "reasoning_content": reasoning}


def _text(part: Any, index: int) -> str:
    """The text of a content part; no other kind of part can be rendered by a text model."""
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    kind = part.get("type") if isinstance(part, dict) else part
    raise RequestError(f"messages[{index}] has content of type {kind!r}; only text is supported.")


def _plain(value: Any, name: str) -> Any:
    """A copy made of JSON types alone, so that a template reaches no methods of other objects."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item, name) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, name) for item in value]
    raise RequestError(f"{name} holds a {type(value).__name__}; only JSON values can be rendered.")
