"""Reasoning and tool calls out of a stream, however it is cut."""

import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mili.serve.parser import AnswerParser, Parts

CALL = '<tool_call>\n{"name": "f", "arguments": {"x": "</tool_cal"}}\n</tool_call>'


def parse(pieces, **options):
    parser = AnswerParser(**options)
    total = Parts()
    for parts in [*(parser.push(piece) for piece in pieces), parser.finish()]:
        total.reasoning += parts.reasoning
        total.content += parts.content
        total.calls += parts.calls
    return total.reasoning, total.content, [call["function"] for call in total.calls]


F = {"name": "f", "arguments": json.dumps({"x": "</tool_cal"})}
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
    ('<tool_call>{"name": "f", "arguments": {}}', {"tools": True}, ("", "", [{"name": "f", "arguments": "{}"}])),
]


@given(st.sampled_from(CASES), st.lists(st.integers(0, 80), max_size=12))
def test_any_cut_gives_the_same(case, cuts):
    text, options, expected = case
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[a:b] for a, b in pairwise([*places, len(text)])]
    assert parse(pieces, **options) == expected


def test_letter_by_letter():
    for text, options, expected in CASES:
        assert parse(list(text), **options) == expected
