"""The endpoints over the fake model: what they answer, and that it is what the engine gives."""

import re

import pytest

from tests.engine.fakes import expected
from tests.serve.servers import TEMPLATE, events, fake_engine, running, script


def ids_of(server, text):
    return server.engine.tokenizer.encode(text)


def chat_ids(server, *messages):
    text = "".join(f"[{role}] {content}\n" for role, content in messages) + "[assistant] "
    return ids_of(server, text)


def test_health_status_and_models(server):
    assert server.client.get("/health").json() == {"live": True, "ready": True, "status": "ready"}
    assert server.client.get("/health/ready").status_code == 200
    assert server.client.get("/health/live").status_code == 200
    status = server.client.get("/status").json()
    assert status["model"] == "fake"
    assert status["engine"]["pages"]["total"] == 400
    models = server.client.get("/v1/models").json()
    assert [model["id"] for model in models["data"]] == ["fake"]
    assert server.client.get("/v1/models/fake").json() == models["data"][0]
    assert server.client.get("/v1/models/other").status_code == 404


def test_generate_text_and_ids(server):
    body = server.generate("hello", max_tokens=9, ignore_eos=True).json()
    prompt = ids_of(server, "hello")
    assert body["prompt_ids"] == prompt
    assert body["ids"] == body["outputs"][0]["ids"] == expected(prompt, 9)
    assert body["text"] == server.engine.tokenizer.decode(body["ids"])
    assert body["finish_reason"] == "length"
    assert body["usage"]["total_tokens"] == len(prompt) + 9
    assert body["timings"]["total_seconds"] > 0


def test_generate_streams_the_same(server):
    body = {"prompt": [5, 6, 7], "temperature": 0, "max_tokens": 30, "ignore_eos": True, "stream": True}
    with server.client.stream("POST", "/generate", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        *parts, last = events(response)
    assert [token for part in parts for token in part["ids"]] == expected([5, 6, 7], 30)
    assert "".join(part["text"] for part in parts) == server.engine.tokenizer.decode(expected([5, 6, 7], 30))
    assert [part.get("finish_reason") for part in parts][-1] == "length"
    assert last["usage"]["completion_tokens"] == 30


def test_completions_of_several_prompts_and_n(server):
    body = {"prompt": [[1, 2], [3]], "n": 2, "temperature": 0, "max_tokens": 4, "ignore_eos": True}
    answer = server.client.post("/v1/completions", json=body).json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    texts = [choice["text"] for choice in answer["choices"]]
    decode = server.engine.tokenizer.decode
    assert texts == [decode(expected([1, 2], 4))] * 2 + [decode(expected([3], 4))] * 2
    assert answer["usage"] == answer["usage"] | {"prompt_tokens": 3, "completion_tokens": 16, "total_tokens": 19}
    body |= {"stream": True, "stream_options": {"include_usage": True}}
    with server.client.stream("POST", "/v1/completions", json=body) as response:
        *chunks, last = events(response)
    streamed = [""] * 4
    for chunk in chunks:
        [choice] = chunk["choices"]
        streamed[choice["index"]] += choice["text"]
    assert streamed == texts
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 19)


def test_echo_and_logprobs_of_completions(server):
    body = {"prompt": "abc", "max_tokens": 3, "temperature": 0, "ignore_eos": True}
    plain = server.client.post("/v1/completions", json=body).json()["choices"][0]
    echoed = server.client.post("/v1/completions", json={**body, "echo": True}).json()["choices"][0]
    assert echoed["text"] == "abc" + plain["text"]
    logprobs = server.client.post("/v1/completions", json={**body, "logprobs": 2}).json()["choices"][0]["logprobs"]
    assert len(logprobs["tokens"]) == len(logprobs["token_logprobs"]) == len(logprobs["top_logprobs"]) == 3
    assert all(value < 0 for value in logprobs["token_logprobs"])
    with server.client.stream("POST", "/v1/completions", json={**body, "logprobs": 2, "stream": True}) as response:
        parts = [chunk["choices"][0]["logprobs"] for chunk in events(response)]
    for name in ("tokens", "token_logprobs", "text_offset"):
        assert [value for part in parts if part for value in part[name]] == logprobs[name]


def chat(server, *messages, **body):
    messages = [{"role": role, "content": content} for role, content in messages]
    return server.client.post("/v1/chat/completions", json={"messages": messages, "temperature": 0, **body})


def test_chat_renders_the_template(server):
    body = chat(server, ("system", "be brief"), ("user", "hi"), max_tokens=6, ignore_eos=True, logprobs=True).json()
    prompt = chat_ids(server, ("system", "be brief"), ("user", "hi"))
    [choice] = body["choices"]
    assert body["usage"]["prompt_tokens"] == len(prompt)
    tokens = expected(prompt, 6)
    assert [bytes(e["bytes"] or b"") for e in choice["logprobs"]["content"]] == [
        bytes(server.engine.tokenizer.decode([t]).encode()) if t < 129 else bytes(e["bytes"])
        for t, e in zip(tokens, choice["logprobs"]["content"], strict=True)
    ]
    assert choice["finish_reason"] == "length"
    parts = chat(server, ("developer", "be brief"), ("user", "hi"), max_tokens=6, ignore_eos=True).json()
    assert parts["choices"][0]["message"] == choice["message"], "developer is system"


def test_text_parts_are_joined(server):
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    body = chat(server, ("user", parts), max_tokens=1).json()
    assert body["usage"]["prompt_tokens"] == len(chat_ids(server, ("user", "a\nb")))


def test_the_next_turn_finds_the_first_in_the_cache(server):
    question = "what is there in the cache of the engine?"
    first = chat(server, ("user", question), max_tokens=30, ignore_eos=True).json()
    answer = first["choices"][0]["message"]["content"]
    second = chat(server, ("user", question), ("assistant", answer), ("user", "more"), max_tokens=2).json()
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] >= first["usage"]["prompt_tokens"] // 8 * 8


def test_scripted_chat_streams_reasoning_text_and_calls():
    engine = fake_engine(template="{% if tools %}{{ tools }}{% endif %}" + TEMPLATE)
    prompt = "[user] weather?\n[assistant] "
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    body = {"messages": [{"role": "user", "content": "weather?"}], "tools": [tool], "temperature": 0}
    # The fake model knows its script by the first token of the prompt, which the rendered tools begin with.
    rendered = engine.tokenizer.encode(engine.tokenizer.render_chat(body["messages"], tools=[tool]))
    assert engine.tokenizer.decode(rendered).endswith(prompt)
    text = "<think>\nhmm\n</think>\n\nI look.\n<tool_call>\n"
    text += '{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
    script(engine, text, first=rendered[0])
    engine.model.prompt_length = len(rendered)
    with running(engine) as server:
        whole = server.client.post("/v1/chat/completions", json=body).json()["choices"][0]
        assert whole["finish_reason"] == "tool_calls"
        assert whole["message"]["reasoning_content"] == "hmm"
        assert whole["message"]["content"] == "I look."
        [call] = whole["message"]["tool_calls"]
        assert call["function"] == {"name": "weather", "arguments": '{"city": "Oslo"}'}
        with server.client.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as response:
            deltas = [chunk["choices"][0] for chunk in events(response)]
        assert "".join(d["delta"].get("reasoning_content", "") for d in deltas).strip() == "hmm"
        assert "".join(d["delta"].get("content", "") for d in deltas) == "I look."
        calls = [call for d in deltas for call in d["delta"].get("tool_calls", [])]
        assert all(c["index"] == 0 for c in calls)
        assert [c["function"]["name"] for c in calls if "id" in c] == ["weather"] == [calls[0]["function"]["name"]]
        pieces = [c["function"]["arguments"] for c in calls]
        assert "".join(pieces) == call["function"]["arguments"]
        assert len(pieces) > 5, "the arguments came at once"
        assert deltas[-1]["finish_reason"] == "tool_calls"
        none = server.client.post("/v1/chat/completions", json={**body, "tool_choice": "none"}).json()["choices"][0]
        assert "tool_calls" not in none["message"]


def test_metrics_are_prometheus_text(server):
    server.generate(max_tokens=3, ignore_eos=True)
    text = server.client.get("/metrics").text
    values = dict(re.findall(r"^(\w+(?:\{[^}]*\})?) ([\d.e+-]+)$", text, re.MULTILINE))
    assert float(values["mili_generated_tokens_total"]) >= 3
    assert float(values["mili_pages"]) == 400
    assert values['mili_ready{model="fake"}'] == "1.0"
    assert values['mili_first_token_seconds_bucket{le="+Inf"}'] == values["mili_first_token_seconds_count"]
    assert "# HELP mili_step_seconds" in text


def test_request_ids_are_taken_over_or_made(server):
    given = server.client.get("/health", headers={"X-Request-Id": "mine-1"}).headers["x-request-id"]
    assert given == "mine-1"
    made = server.client.get("/health", headers={"X-Request-Id": "no good\t!"}).headers["x-request-id"]
    assert made.startswith("req-")


@pytest.mark.parametrize(
    ("path", "body", "message", "param"),
    [
        ("/generate", {}, "prompt: field required", "prompt"),
        ("/generate", {"prompt": ""}, "the prompt is empty", None),
        ("/generate", {"prompt": []}, "the prompt is empty", None),
        ("/generate", {"prompt": [272]}, "token id 272", None),
        ("/generate", {"prompt": [1] * 1024}, "the prompt has 1024 tokens", None),
        ("/generate", {"prompt": "a", "temperature": -1}, "temperature: input should be greater", "temperature"),
        ("/generate", {"prompt": "a", "temperature": "hot"}, "temperature: input should be a valid", "temperature"),
        ("/generate", {"prompt": "a", "temperature": 0.000001}, "temperature is 1e-06", "temperature"),
        ("/generate", {"prompt": "a", "top_p": 0}, "top_p: input should be greater", "top_p"),
        ("/generate", {"prompt": "a", "temperature_2": 1}, "temperature_2 is no parameter", "temperature_2"),
        ("/generate", {"prompt": "a", "stop": [""]}, "stop has the entry ''", "stop"),
        ("/generate", {"prompt": "a", "min_tokens": 500}, "min_tokens is 500", "min_tokens"),
        ("/generate", {"prompt": "a", "max_tokens": 2000}, "at most 1024 fit in the context", None),
        ("/generate", {"prompt": "a", "logit_bias": {"x": 1}}, "logit_bias has the key 'x'", "logit_bias"),
        ("/generate", {"prompt": "a", "logit_bias": {"999": 1}}, "logit_bias has the token id 999", "logit_bias"),
        ("/generate", {"prompt": "a", "regex": "("}, "grammar of kind 'regex'", None),
        ("/generate", {"prompt": "a", "regex": "a", "choice": ["b"]}, "exclude each other", None),
        ("/v1/completions", {"prompt": "a", "suffix": "b"}, "suffix is not supported", "suffix"),
        ("/v1/completions", {"prompt": "a", "best_of": 2}, "best_of", "best_of"),
        ("/v1/completions", {"prompt": "a", "model": "gpt-4"}, "model 'gpt-4' is not served", "model"),
        ("/v1/completions", {"prompt": ["a"] * 128, "n": 2}, "at most 128 together", "n"),
        ("/v1/chat/completions", {"messages": []}, "messages: list should have at least 1", "messages"),
        ("/v1/chat/completions", {"messages": [{"role": "king", "content": "a"}]}, "role", "messages[0].role"),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0] has content of type 'image_url'; only text is supported",
            None,
        ),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": "a"}], "tool_choice": "required"},
            "there are no tools",
            "tool_choice",
        ),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": "a"}], "response_format": {"type": "json_schema"}},
            "needs json_schema",
            "response_format",
        ),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": "a"}], "top_logprobs": 2},
            "needs logprobs",
            "top_logprobs",
        ),
    ],
)
def test_bad_requests_are_400_with_one_sentence(server, path, body, message, param):
    response = server.client.post(path, json=body)
    assert response.status_code == (404 if "model" in body else 400)
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert message in error["message"]
    assert error["param"] == param


def test_other_errors_have_the_same_shape(server):
    post = server.client.post
    json = {"Content-Type": "application/json"}
    answers = {
        404: server.client.get("/nothing"),
        405: server.client.get("/generate"),
        400: post("/generate", content=b'{"prompt": ', headers=json),
    }
    for status, response in answers.items():
        assert response.status_code == status
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    for content in (
        b"\xff\xfe",
        b'"text"',
        b"NaN",
        b"[" * 100_000,
        b'{"prompt": "\\ud800"}',
        b'{"seed": 1' + b"0" * 5000,
    ):
        response = post("/generate", content=content, headers=json)
        assert response.status_code == 400
        assert response.json()["error"]["message"]
    response = post("/generate", content=b'{"prompt": "a"}', headers={"Content-Type": "text/plain"})
    assert response.status_code == 400, "a web page elsewhere may send this without asking"


def test_a_model_without_a_template_says_so():
    with running(fake_engine(template=None)) as server:
        error = chat(server, ("user", "a")).json()["error"]
        assert "no chat template" in error["message"]


def test_a_failing_model_is_a_500_and_the_server_goes_on():
    with running() as server:
        server.engine.model.fail_at = 2
        answer = server.generate(max_tokens=9, ignore_eos=True)
        assert answer.status_code == 500
        assert "caught fire" in answer.json()["error"]["message"]
        server.engine.model.fail_at = server.engine.model.steps + 3
        body = {"prompt": [1, 2, 3], "max_tokens": 9, "temperature": 0, "ignore_eos": True, "stream": True}
        with server.client.stream("POST", "/generate", json=body) as response:
            text = response.read().decode()
        assert "caught fire" in text
        assert "[DONE]" not in text
        assert server.generate(max_tokens=9, ignore_eos=True).json()["ids"] == expected([1, 2, 3], 9)
        assert server.idle()
