"""Conversations, and what transformers makes of them: the inputs of the chat template tests."""

from pathlib import Path
from typing import Any

TEMPLATES = {file.stem: file for file in sorted((Path(__file__).parent / "data" / "chat_templates").glob("*.jinja"))}
SPECIAL_TOKENS = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather at a place; <b>metric</b> & exact: 'C' or \"F\".",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}},
            "required": ["city"],
        },
    },
}
SEARCH = {"type": "function", "function": {"name": "suche", "description": "Größe, 东京", "parameters": {}}}


def user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: str | None, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def call(name: str, arguments: Any) -> dict[str, Any]:
    return {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}


SYSTEM = {"role": "system", "content": "You are terse.\nAnswer in one line."}
TOOL_TURN = [
    user("Weather in Paris?"),
    assistant("Let me look.", tool_calls=[call("get_weather", {"city": "Paris", "days": 2})]),
    {"role": "tool", "name": "get_weather", "content": '{"celsius": 21}'},
]

PLAIN: dict[str, dict[str, Any]] = {
    "one question": {"messages": [user("What is the capital of France?")]},
    "system": {"messages": [SYSTEM, user("Hi.")]},
    "several turns": {"messages": [user("One?"), assistant("1"), user("Two?"), assistant("2"), user("Three?")]},
    "system and turns": {"messages": [SYSTEM, user("One?"), assistant("1"), user("  spaces kept \n")]},
    "no generation prompt": {"messages": [user("One?"), assistant("1")], "add_generation_prompt": False},
    "other scripts": {"messages": [user("Grüße, 世界! 🦙 e\u0301 <tag> & \"quotes\" 'single' {{braces}} {% block %}")]},
    "special tokens in the text": {"messages": [user("Say <|im_end|> and <think>.")]},
    "empty content": {"messages": [user("")]},
    "null fields": {"messages": [{"role": "user", "content": "Hi.", "name": None, "tool_calls": None}]},
}
QWEN3: dict[str, dict[str, Any]] = {
    "thinking on": {"messages": [user("Hi.")], "enable_thinking": True},
    "thinking off": {"messages": [user("Hi.")], "enable_thinking": False},
    "thoughts of earlier turns are dropped": {
        "messages": [user("1+1?"), assistant("<think>\nadd\n</think>\n\n2"), user("2+2?")],
    },
    "thoughts of this turn stay": {
        "messages": [user("1+1?"), assistant("<think>\nadd\n</think>\n\n2")],
        "add_generation_prompt": False,
    },
    "reasoning in a field": {
        "messages": [user("1+1?"), assistant("2", reasoning_content="add them")],
        "add_generation_prompt": False,
    },
    "reasoning under another name": {
        "messages": [user("1+1?"), assistant("2", reasoning="add them")],
        "add_generation_prompt": False,
    },
    "tools offered": {"messages": [user("Weather?")], "tools": [WEATHER, SEARCH]},
    "tools and system": {"messages": [SYSTEM, user("Weather?")], "tools": [WEATHER]},
    "tool called": {"messages": TOOL_TURN, "tools": [WEATHER]},
    "two tools called, arguments as text": {
        "messages": [
            user("Compare."),
            assistant("", tool_calls=[call("get_weather", '{"city": "Rom"}'), call("suche", {"q": "Größe"})]),
            {"role": "tool", "content": "18"},
            {"role": "tool", "content": "[]"},
            assistant("Done."),
            user("Thanks."),
        ],
        "tools": [WEATHER, SEARCH],
    },
    "tool called after thinking": {
        "messages": [
            user("Weather?"),
            assistant("", reasoning_content="I should look.", tool_calls=[call("get_weather", {"city": "Bern"})]),
            {"role": "tool", "content": "3"},
        ],
        "tools": [WEATHER],
        "enable_thinking": False,
    },
    "tools, thinking off": {"messages": [user("Hi.")], "tools": [WEATHER], "enable_thinking": False},
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"{template}: {name}": (template, case) for template in TEMPLATES for name, case in PLAIN.items()},
    **{f"qwen3: {name}": ("qwen3", case) for name, case in QWEN3.items()},
}


def transformers_rendering(template: str, case: dict[str, Any]) -> str:
    """What transformers renders for a case of `CASES`."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    options = {"add_generation_prompt": True, **case}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), **SPECIAL_TOKENS)
    text = tokenizer.apply_chat_template(
        options.pop("messages"), tokenize=False, chat_template=TEMPLATES[template].read_text(), **options
    )
    assert isinstance(text, str)
    return text
