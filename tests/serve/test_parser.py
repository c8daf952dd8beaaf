"""Reasoning and tool calls out of a stream, however it is cut."""

import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mili.serve.parser import AnswerParser, Parts

CALL = '<tool_call>\n{"name": "f", "arguments": {"x": "</tool_cal"}}\n</tool_call>'


def joined(deltas):
    """The calls that deltas make up, as a client puts them together."""
    calls = []
    for delta in deltas:
        if calls and calls[-1]["index"] == delta["index"]:
            function = calls[-1]["function"]
            arguments = function["arguments"] + delta["function"]["arguments"]
            calls[-1] = {**calls[-1], "function": {**function, "arguments": arguments}}
        else:
            calls.append(delta)
    return calls


def parse(pieces, **options):
    parser = AnswerParser(**options)
    each = [*(parser.push(piece) for piece in pieces), parser.finish()]
    for parts in each:
        assert len({call["index"] for call in parts.calls}) == len(parts.calls)
    total = sum(each, Parts())
    calls = joined(total.calls)
    assert [call["index"] for call in calls] == list(range(parser.calls))
    assert all(call["type"] == "function" and call["id"].startswith("call_") for call in calls)
    return total.reasoning, total.content, [call["function"] for call in calls]


def call_of(arguments, name="f"):
    return {"name": name, "arguments": arguments}


F = call_of('{"x": "</tool_cal"}')
CASES = [
    ("plain", {}, ("", "plain", [])),
    ("a < b <thing>", {"tools": True}, ("", "a < b <thing>", [])),
    ("<think>why\nnot</think>\n\nanswer", {}, ("why\nnot", "answer", [])),
    ("why</think>answer", {"thinking": True}, ("why", "answer", [])),
    ("never ends", {"thinking": True}, ("never ends", "", [])),
    ("answer with <think> inside", {}, ("", "answer with <think> inside", [])),
    ("  <thin", {}, ("", "  <thin", [])),
    (CALL, {"tools": True}, ("", "", [F])),
    (CALL, {"tools": False}, ("", CALL, [])),
    (f"first\n{CALL}\n{CALL}\n", {"tools": True}, ("", "first", [F, F])),
    (f"<think>x</think>{CALL} and more", {"tools": True}, ("x", "and more", [F])),
    ("<tool_call>not json</tool_call>", {"tools": True}, ("", "<tool_call>not json</tool_call>", [])),
    ("<tool_call>[1]</tool_call>", {"tools": True}, ("", "<tool_call>[1]</tool_call>", [])),
    ('<tool_call>{"name": "f"', {"tools": True}, ("", '<tool_call>{"name": "f"', [])),
    ('<tool_call>{"name": "f", "arguments": {}}', {"tools": True}, ("", "", [call_of("{}")])),
    # Arguments are handed on as they are written, up to the brace that closes them; a tag in a string is text.
    (
        '<tool_call>{"name":"f","arguments":{"a":[{}, "}"], "b": "\\"</tool_call>"}, "id": 1}</tool_call>!',
        {"tools": True},
        ("", "!", [call_of('{"a":[{}, "}"], "b": "\\"</tool_call>"}')]),
    ),
    ('<tool_call>{"name": "f", "parameters": {"x": 1}}</tool_call>', {"tools": True}, ("", "", [call_of('{"x": 1}')])),
    # Once it is known to be a call it stays one, cut off or closed too early.
    ('<tool_call>{"name": "f", "arguments": {"x": [1, ', {"tools": True}, ("", "", [call_of('{"x": [1, ')])),
    ('<tool_call>{"name": "f", "arguments": {"x": 1</tool_call>a', {"tools": True}, ("", "a", [call_of('{"x": 1')])),
    # The next call ends one whose closing tag was forgotten.
    (
        '<tool_call>{"name": "f", "arguments": {}}\n<tool_call>{"name": "g", "arguments": {}}</tool_call>',
        {"tools": True},
        ("", "", [call_of("{}"), call_of("{}", "g")]),
    ),
    # What is not written in the usual way comes whole.
    ('<tool_call>{"arguments": {"x":1}, "name": "f"}</tool_call>', {"tools": True}, ("", "", [call_of('{"x": 1}')])),
    ('<tool_call>{"name": "f", "arguments": "{}"}</tool_call>', {"tools": True}, ("", "", [call_of("{}")])),
    ('<tool_call>{"name": "\\u0066"}</tool_call>', {"tools": True}, ("", "", [call_of("{}")])),
    ('<tool_call>{"name": "</tool_call>", "arguments": {}}', {"tools": True}, None),
    # A call that was demanded has no tags.
    ('{"name": "f", "arguments": {"x": 1}}', {"forced": True}, ("", "", [call_of('{"x": 1}')])),
    ('{"name": "f", "argum', {"forced": True}, ("", '{"name": "f", "argum', [])),
]
# No call, since the first closing tag ends it: all of it is text.
CASES = [(text, options, want or ("", text, [])) for text, options, want in CASES]


@given(st.sampled_from(CASES), st.lists(st.integers(0, 80), max_size=12))
def test_any_cut_gives_the_same(case, cuts):
    text, options, expected = case
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[a:b] for a, b in pairwise([*places, len(text)])]
    assert parse(pieces, **options) == expected


def test_letter_by_letter_and_cut_at_every_place():
    for text, options, expected in CASES:
        assert parse(list(text), **options) == expected
        for place in range(len(text) + 1):
            assert parse([text[:place], text[place:]], **options) == expected


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.just("</tool_call><tool_call>"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.lists(st.dictionaries(st.text(max_size=5), values, max_size=3), min_size=1, max_size=3),
    st.booleans(),
    st.sampled_from([None, 1]),
    st.lists(st.integers(0, 300), max_size=30),
)
def test_any_arguments_arrive_as_they_are_written(several, ascii_only, indent, cuts):
    written = [json.dumps(arguments, ensure_ascii=ascii_only, indent=indent) for arguments in several]
    calls = "\n".join(f'<tool_call>{{"name": "f", "arguments": {text}}}</tool_call>' for text in written)
    places = sorted({0, *(cut for cut in cuts if cut < len(calls))})
    pieces = [calls[a:b] for a, b in pairwise([*places, len(calls)])]
    assert parse(pieces, tools=True) == ("", "", [call_of(text) for text in written])
    assert parse(list(calls), tools=True) == ("", "", [call_of(text) for text in written])


def test_a_call_streams_from_its_name_on():
    parser = AnswerParser(tools=True)
    head, arguments = '<tool_call>\n{"name": "f", "arguments": ', '{"city": "Oslo"}'
    assert not parser.push(head)
    [first] = parser.push("{").calls
    assert (first["index"], first["function"]) == (0, {"name": "f", "arguments": "{"})
    for letter in arguments[1:]:
        assert parser.push(letter).calls == [{"index": 0, "function": {"arguments": letter}}]
    assert not parser.push("}\n</tool_call>")
    assert not parser.finish()
