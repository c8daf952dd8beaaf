"""From the messages and tools of a chat request to token ids, and what that means for reading the answer."""

import json
from dataclasses import dataclass
from typing import Any

from mili.errors import RequestError
from mili.interfaces import Tokenizer
from mili.sampling import Grammar
from mili.serve.calls import CALL, CALL_END
from mili.serve.errors import ApiError
from mili.serve.parser import THINK
from mili.serve.schemas import ChatRequest, Message, NamedTool, Tool
from mili.tokenizer import QwenTokenizer

_INSTRUCTIONS = """You may call functions to help with the user's request. The functions, as JSON schemas:
<tools>
{tools}
</tools>
To call one, answer with a JSON object inside tags:
<tool_call>
{{"name": <function>, "arguments": <object>}}
</tool_call>"""


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """A prompt, and how its answer begins: inside <think>, or inside a call that the client demands."""

    ids: list[int]
    thinking: bool
    tools: bool
    forced_call: Grammar | None


def chat_prompt(request: ChatRequest, tokenizer: Tokenizer | None) -> ChatPrompt:
    """Render a conversation. Raises RequestError, TokenizerError (no chat template) or ApiError."""
    if not isinstance(tokenizer, QwenTokenizer):
        raise RequestError("the model has no tokenizer, so it cannot chat: use /generate with token ids")
    choice = request.tool_choice
    tools = [] if choice == "none" or not request.tools else request.tools
    forced = _forced(choice, tools)
    messages = [_message(message) for message in request.messages]
    schemas = [tool.model_dump(exclude_none=True, exclude={"function": {"strict"}}) for tool in tools]
    template = tokenizer.chat_template.source if tokenizer.chat_template is not None else ""
    if "tools" not in template:
        messages = _plain_tools(messages, schemas)
        schemas = []
    variables = dict(request.chat_template_kwargs or {})
    for name in ("messages", "tools", "add_generation_prompt", "self"):
        if name in variables:
            raise ApiError(400, f"chat_template_kwargs has {name!r}, which has a field of its own", param=name)
    quiet = request.reasoning_effort in ("none", "minimal")
    structured = request.response_format is not None and request.response_format.type != "text"
    if quiet or forced or structured or request.regex or request.choice or request.grammar:
        variables["enable_thinking"] = False  # constrained output leaves no room for reasoning
    text = tokenizer.render_chat(messages, tools=schemas or None, **variables)
    if forced is not None:
        text += f"{CALL}\n"
    ids = tokenizer.encode(text, add_special_tokens=False)
    return ChatPrompt(ids, text.rstrip().endswith(THINK), bool(tools), forced)


def _forced(choice: Any, tools: list[Tool]) -> Grammar | None:
    """The grammar of the call that tool_choice demands: one of the tools, or the named one."""
    if isinstance(choice, NamedTool):
        named = [tool for tool in tools if tool.function.name == choice.function.name]
        if not named:
            message = f"tool_choice names {choice.function.name!r}, which is not among tools"
            raise ApiError(400, message, param="tool_choice")
        tools = named
    elif choice != "required":
        return None
    if not tools:
        raise ApiError(400, "tool_choice is 'required', but there are no tools", param="tool_choice")
    calls = [
        {
            "type": "object",
            "properties": {
                "name": {"const": tool.function.name},
                "arguments": tool.function.parameters or {"type": "object"},
            },
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for tool in tools
    ]
    return Grammar("json_schema", json.dumps(calls[0] if len(calls) == 1 else {"anyOf": calls}))


def _message(message: Message) -> dict[str, Any]:
    """A message as chat templates expect it: arguments of calls as objects, developer as system."""
    plain = message.model_dump(exclude_none=True)
    if plain["role"] == "developer":
        plain["role"] = "system"
    for call in plain.get("tool_calls", ()):
        arguments = call["function"]["arguments"]
        if isinstance(arguments, str):
            try:
                parsed = json.loads(arguments)
            except (ValueError, RecursionError):
                continue
            if isinstance(parsed, dict):
                call["function"]["arguments"] = parsed
    return plain


def _plain_tools(messages: list[dict[str, Any]], schemas: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same conversation for a template that knows no tools: all of it as plain text."""
    result: list[dict[str, Any]] = []
    for message in messages:
        content = message.get("content")
        if message["role"] == "tool":
            result.append({"role": "user", "content": f"<tool_response>\n{content}\n</tool_response>"})
        elif message.get("tool_calls"):
            calls = [json.dumps(call["function"], ensure_ascii=False) for call in message["tool_calls"]]
            texts = [content] if isinstance(content, str) and content else []
            texts += [f"{CALL}\n{call}\n{CALL_END}" for call in calls]
            result.append({"role": message["role"], "content": "\n".join(texts)})
        else:
            result.append(message)
    if schemas:
        tools = "\n".join(json.dumps(schema, ensure_ascii=False) for schema in schemas)
        instructions = _INSTRUCTIONS.format(tools=tools)
        if result and result[0]["role"] == "system" and isinstance(result[0].get("content"), str):
            result[0] = {**result[0], "content": f"{result[0]['content']}\n\n{instructions}"}
        else:
            result.insert(0, {"role": "system", "content": instructions})
    return result
