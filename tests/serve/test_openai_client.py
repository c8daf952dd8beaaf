"""The official OpenAI client, and curl, against a running server, unchanged."""

import asyncio
import json
import shutil
import subprocess

import openai
import pytest
from pydantic import BaseModel

from mili.serve.prompt import chat_prompt
from mili.serve.schemas import ChatRequest
from tests.engine.fakes import expected
from tests.serve.servers import fake_engine, running

MESSAGES = [{"role": "user", "content": "hello"}]
GREEDY = {"model": "fake", "temperature": 0, "extra_body": {"ignore_eos": True}}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Oslo", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


class City(BaseModel):
    name: str
    code: int


def client_of(server, kind=openai.OpenAI, **options):
    return kind(base_url=server.url + "/v1", api_key="any", max_retries=0, timeout=30, **options)


@pytest.fixture(scope="module")
def client(server):
    return client_of(server)


def answer_to(server, messages, count):
    ids = chat_prompt(ChatRequest(messages=messages), server.engine.tokenizer).ids
    return server.engine.tokenizer.decode(expected(ids, count))


def test_models(client):
    assert [model.id for model in client.models.list()] == ["fake"]
    assert client.models.retrieve("fake").owned_by == "mili"


def test_completion_and_stream(server, client):
    answer = client.completions.create(prompt="abc", max_tokens=7, **GREEDY)
    ids = server.engine.tokenizer.encode("abc")
    assert answer.choices[0].text == server.engine.tokenizer.decode(expected(ids, 7))
    stream = client.completions.create(prompt="abc", max_tokens=7, stream=True, **GREEDY)
    assert "".join(chunk.choices[0].text for chunk in stream) == answer.choices[0].text


def test_chat_and_stream(server, client):
    answer = client.chat.completions.create(messages=MESSAGES, max_tokens=9, logprobs=True, top_logprobs=3, **GREEDY)
    assert answer.choices[0].message.content == answer_to(server, MESSAGES, 9)
    assert len(answer.choices[0].logprobs.content) == 9
    assert all(len(entry.top_logprobs) == 3 for entry in answer.choices[0].logprobs.content)
    options = {"include_usage": True}
    stream = client.chat.completions.create(
        messages=MESSAGES, max_completion_tokens=9, stream=True, stream_options=options, n=2, **GREEDY
    )
    texts, usage = ["", ""], None
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [answer.choices[0].message.content] * 2
    assert usage.completion_tokens == 18


def test_the_streaming_helper_builds_the_whole_answer(server, client):
    ids = chat_prompt(ChatRequest(messages=MESSAGES), server.engine.tokenizer).ids
    tokens = expected(ids, 9)
    extra = {"ignore_eos": True, "stop_token_ids": [tokens[-1]]}
    with client.chat.completions.stream(messages=MESSAGES, model="fake", temperature=0, extra_body=extra) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    assert final.choices[0].finish_reason == "stop"
    text = server.engine.tokenizer.decode(tokens[: tokens.index(tokens[-1])])
    assert final.choices[0].message.content == text


def test_asynchronous_client(server):
    async def main():
        async with client_of(server, openai.AsyncOpenAI) as client:
            whole = await client.chat.completions.create(messages=MESSAGES, max_tokens=9, **GREEDY)
            stream = await client.chat.completions.create(messages=MESSAGES, max_tokens=9, stream=True, **GREEDY)
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
            many = await asyncio.gather(
                *(client.completions.create(prompt=[i + 1, 2], max_tokens=20, **GREEDY) for i in range(24))
            )
            return whole, text, many

    whole, text, many = asyncio.run(main())
    assert text == whole.choices[0].message.content == answer_to(server, MESSAGES, 9)
    decode = server.engine.tokenizer.decode
    assert [answer.choices[0].text for answer in many] == [decode(expected([i + 1, 2], 20)) for i in range(24)]


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_is_demanded_fits_its_schema(client, choice, stream):
    arguments = {"messages": MESSAGES, "model": "fake", "tools": [TOOL], "tool_choice": choice, "seed": 3}
    if stream:
        with client.chat.completions.stream(**arguments) as events:
            for _ in events:
                pass
            [answer] = events.get_final_completion().choices
    else:
        [answer] = client.chat.completions.create(**arguments).choices
    assert answer.finish_reason == "tool_calls"
    [call] = answer.message.tool_calls
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments)["city"] in ("Oslo", "Rome")
    assert call.id.startswith("call_")


def test_arguments_of_a_call_stream(client):
    arguments = {"messages": MESSAGES, "model": "fake", "tools": [TOOL], "tool_choice": "required", "seed": 3}
    chunks = list(client.chat.completions.create(**arguments, stream=True))
    pieces = [piece for chunk in chunks for piece in chunk.choices[0].delta.tool_calls or ()]
    first, *later = pieces
    assert (first.index, first.type, first.function.name) == (0, "function", "weather")
    assert len(later) > 5
    assert all((piece.index, piece.id, piece.type, piece.function.name) == (0, None, None, None) for piece in later)
    text = "".join(piece.function.arguments for piece in pieces)
    [whole] = client.chat.completions.create(**arguments).choices
    assert whole.message.tool_calls[0].function.arguments == text
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_a_conversation_with_a_call_and_its_result(client):
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    messages = [
        *MESSAGES,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    ]
    answer = client.chat.completions.create(messages=messages, tools=[TOOL], max_tokens=5, **GREEDY)
    assert answer.choices[0].finish_reason == "length"


def test_structured_output(client):
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "blue"]}, "count": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["colour", "count"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "thing", "schema": schema, "strict": True}}
    answer = client.chat.completions.create(messages=MESSAGES, model="fake", seed=1, response_format=form)
    value = json.loads(answer.choices[0].message.content)
    assert value["colour"] in ("red", "blue")
    assert 1 <= value["count"] <= 9
    assert answer.choices[0].finish_reason == "stop"


def test_parsed_answers(client):
    # A schema of free strings and numbers lets the fake model write on for long, so the end is made likely.
    bias = {str(1 + b): 40 for b in b'"}'}
    answer = client.chat.completions.parse(
        messages=MESSAGES, model="fake", seed=2, response_format=City, logit_bias=bias, max_tokens=900
    )
    assert isinstance(answer.choices[0].message.parsed, City)


def test_json_mode(client):
    bias = {str(1 + b"}"[0]): 40}
    form = {"type": "json_object"}
    answer = client.chat.completions.create(
        messages=MESSAGES, model="fake", seed=5, response_format=form, logit_bias=bias, max_tokens=900
    )
    assert isinstance(json.loads(answer.choices[0].message.content), dict)


def test_errors_are_the_clients_own_exceptions(client):
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(messages=[], model="fake")
    assert error.value.param == "messages"
    with pytest.raises(openai.NotFoundError) as error:
        client.chat.completions.create(messages=MESSAGES, model="gpt-4")
    assert error.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as error:
        client.completions.create(prompt=[1] * 2000, model="fake")
    assert error.value.code == "context_length_exceeded"


def test_a_failure_in_a_stream_is_an_exception():
    engine = fake_engine()
    engine.model.fail_at = 4
    with running(engine) as server, pytest.raises(openai.APIError, match="caught fire"):
        for _ in client_of(server).completions.create(prompt="abc", max_tokens=50, stream=True, **GREEDY):
            pass


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(server):
    body = json.dumps({"messages": MESSAGES, "max_tokens": 5, "temperature": 0, "ignore_eos": True, "stream": True})
    command = ["curl", "-sN", server.url + "/v1/chat/completions", "-H", "Content-Type: application/json", "-d", body]
    lines = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.splitlines()
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == answer_to(server, MESSAGES, 5)
    assert lines[-2:] == ["data: [DONE]", ""]
