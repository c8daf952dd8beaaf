"""Constrained output: whatever the model prefers, the text follows the schema, expression or grammar."""

import json
import re

import pytest

from mili.engine import Engine
from mili.errors import RequestError
from mili.sampling import Grammar, SamplingParams
from tests.engine.fakes import FakeCache, FakeModel, fake_tokenizer

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def make():
    cache = FakeCache(200, 8)
    return Engine(FakeModel(cache), fake_tokenizer(), cache)


def complete(engine, grammar, **options):
    params = SamplingParams(max_tokens=120, grammar=grammar, **options)
    return engine.generate("a", params, progress=False)[0].outputs[0]


@pytest.mark.parametrize("seed", range(6))
def test_json_schema(seed):
    answer = complete(make(), Grammar("json_schema", json.dumps(SCHEMA)), temperature=3.0, seed=seed)
    assert answer.finish_reason == "stop"
    value = json.loads(answer.text)
    assert set(value) == {"name", "age"}
    assert isinstance(value["age"], int)


@pytest.mark.parametrize("temperature", [0, 1, 5])
def test_regex_choice_and_lark(temperature):
    engine = make()
    answer = complete(engine, Grammar("regex", "[0-9]{3}-[a-f]{2}"), temperature=temperature)
    assert re.fullmatch("[0-9]{3}-[a-f]{2}", answer.text)
    assert answer.finish_reason == "stop"
    answer = complete(engine, Grammar("choice", '["the king", "ten"]'), temperature=temperature)
    assert answer.text in ("the king", "ten")
    answer = complete(engine, Grammar("lark", 'start: "a" "b"+ "c"'), temperature=temperature)
    assert re.fullmatch("ab+c?", answer.text)


def test_a_grammar_survives_preemption_and_n_answers_are_independent():
    engine = make()
    params = SamplingParams(temperature=4.0, max_tokens=60, n=3, seed=1, grammar=Grammar("regex", "[a-z]{40}"))
    handle = engine.submit("a", params)
    for _ in range(5):
        engine.step()
    scheduler = engine._scheduler
    scheduler._preempt(scheduler.running[-1])
    scheduler._try_admission = True
    answers = handle.result().outputs
    assert len({answer.text for answer in answers}) == 3
    for answer in answers:
        assert re.fullmatch("[a-z]{40}", answer.text)


def test_it_ends_at_the_end_token_even_with_ignore_eos():
    answer = complete(make(), Grammar("regex", "a{2,}"), temperature=1, ignore_eos=True, seed=3)
    assert answer.finish_reason in ("stop", "length")
    assert set(answer.text) == {"a"}


@pytest.mark.parametrize(
    "grammar",
    [
        Grammar("regex", "[0-9"),
        Grammar("json_schema", "{not json"),
        Grammar("json_schema", '{"type": "banana"}'),
        Grammar("lark", "start: missing_rule"),
        Grammar("choice", "[]"),
        Grammar("choice", '"x"'),
    ],
)
def test_bad_grammars_are_refused_before_they_run(grammar):
    with pytest.raises(RequestError, match=grammar.kind):
        make().submit("a", SamplingParams(grammar=grammar))


def test_a_grammar_needs_a_tokenizer():
    cache = FakeCache(20, 8)
    engine = Engine(FakeModel(cache), None, cache)
    with pytest.raises(RequestError, match="needs a tokenizer"):
        engine.submit([1], SamplingParams(grammar=Grammar("json_object")))
