"""Chat templates: equal to transformers, inside the sandbox, with clear words about what cannot be rendered."""

import json
from datetime import datetime
from typing import Any

import pytest

from mili.chat_template import ChatTemplate
from mili.errors import RequestError, TokenizerError
from tests.chat_cases import CASES, SPECIAL_TOKENS, TEMPLATES, TOOL_TURN, WEATHER, transformers_rendering, user
from tests.golden import FOLDER

STORED: dict[str, str] = json.loads((FOLDER / "chat.json").read_text())["prompts"]


def render(source: str, messages: Any = None, **options: Any) -> str:
    return ChatTemplate(source, SPECIAL_TOKENS).render(messages or [user("Hi.")], **options)


def test_every_case_is_stored() -> None:
    assert set(STORED) == set(CASES)
    assert len(set(STORED.values())) > 25


@pytest.mark.parametrize("name", CASES)
def test_equal_to_what_transformers_rendered(name: str) -> None:
    template, case = CASES[name]
    assert render(TEMPLATES[template].read_text(), **case) == STORED[name]


@pytest.mark.oracle
@pytest.mark.parametrize("name", CASES)
def test_equal_to_what_transformers_renders_now(name: str) -> None:
    template, case = CASES[name]
    assert render(TEMPLATES[template].read_text(), **case) == transformers_rendering(template, case)


def test_helpers_that_templates_expect() -> None:
    assert render("{{ bos_token }}{{ {'a': '<ä>'} | tojson }}{{ eos_token }}") == '<|im_start|>{"a": "<ä>"}<|im_end|>'
    assert render("{{ [1, {'b': 2}] | tojson(indent=2) }}") == json.dumps([1, {"b": 2}], indent=2)
    assert render("{{ {'b': 1, 'a': 2} | tojson(sort_keys=true, separators=(',', ':')) }}") == '{"a":2,"b":1}'
    assert render("{{ strftime_now('%Y') }}") in {str(datetime.now().year), str(datetime.now().year - 1)}
    loop = "{% for m in messages %}{% if loop.index0 %}{% break %}{% endif %}{{ m.content }}{% endfor %}"
    assert render(loop, [user("a"), user("b")]) == "a"
    assert render("a{% generation %}b{{ messages[0].content }}{% endgeneration %}c") == "abHi.c"
    assert render("  {% if true %}\n  x\n  {% endif %}\ny") == "  x\ny", "blocks leave no blank lines"
    assert render("{{ documents is none }} {{ tools is none }} {{ tool_calls is defined }}") == "True True False"
    assert render("{{ add_generation_prompt }}", add_generation_prompt=False) == "False"


def test_reasoning_is_found_under_each_name() -> None:
    for name in ("reasoning_content", "thinking", "reasoning"):
        message = {"role": "assistant", "content": "2", name: "add"}
        assert render("{{ messages[0].reasoning_content }}/{{ messages[0].thinking }}", [message]) == "add/add"


def test_parts_of_text_are_joined() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert render("{{ messages[0].content }}", [{"role": "user", "content": parts}]) == "one\ntwo"
    with pytest.raises(RequestError, match=r"messages\[0\] has content of type 'image_url'; only text"):
        render("x", [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}])


def test_a_call_without_content() -> None:
    messages = [TOOL_TURN[0], TOOL_TURN[1] | {"content": None}, TOOL_TURN[2]]
    text = render(TEMPLATES["qwen3"].read_text(), messages, tools=[WEATHER])
    assert '<|im_start|>assistant\n<tool_call>\n{"name": "get_weather"' in text


BAD: dict[str, tuple[str, list[Any], str]] = {
    "nothing": ("x", [], "messages is empty"),
    "no role": ("x", [{"content": "Hi."}], r"messages\[0\] is {'content': 'Hi\.'}; it must be an object with a role"),
    "no object": ("x", ["Hi."], r"messages\[0\] is 'Hi\.'"),
    "refused": ("{{ raise_exception('Roles must alternate!') }}", [user("Hi.")], "Roles must alternate!"),
    "undefined": ("{{ messages[0].content + messages[0].nothing }}", [user("Hi.")], "cannot render these messages"),
    "no JSON": ("x", [{"role": "user", "content": object()}], r"messages\[0\] holds a object; only JSON values"),
    "arithmetic": ("{{ 1 / 0 }}", [user("Hi.")], "division by zero"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_rendered(name: str) -> None:
    source, messages, words = BAD[name]
    with pytest.raises(RequestError, match=words):
        ChatTemplate(source, {}).render(messages)


def test_a_template_that_is_no_jinja() -> None:
    with pytest.raises(TokenizerError, match="chat template is not valid Jinja"):
        ChatTemplate("{% if %}", {})


@pytest.mark.parametrize(
    "attack",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'content': 'x'}) }}",
        "{{ raise_exception.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{% set x = namespace() %}{{ x.__class__ }}{{ x.__init__.__globals__ }}",
        "{{ strftime_now.__globals__ }}{{ namespace.__init__.__globals__ }}",
    ],
)
def test_the_sandbox_holds(attack: str) -> None:
    try:
        text = render(attack)
    except RequestError:
        return
    assert text == ""  # what is unsafe counts as undefined
