"""Generated and broken requests: no 500, answers as the OpenAPI document has them, and no page lost."""

import json
import os
import random

import hypothesis
import pytest
import schemathesis
from hypothesis import settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from mili.serve.app import create_app
from mili.serve.settings import ServerSettings
from mili.serve.state import ServerState
from tests.serve.servers import fake_engine, running

EXAMPLES = int(os.environ.get("MILI_SCHEMA_EXAMPLES", "30"))  # for each endpoint
MALFORMED = int(os.environ.get("MILI_FUZZ_REQUESTS", "200"))

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def server():
    """A short context: many generated requests ask for all of it."""
    with running(fake_engine(max_context=48)) as started:
        yield started
        assert started.idle(), "requests or pages are left over"


schema = schemathesis.openapi.from_dict(create_app(ServerState(ServerSettings(), "fake", {})).openapi())


@schema.exclude(path="/events").parametrize()  # endless
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(hypothesis.HealthCheck),
    database=None,
)
def test_what_the_document_allows_is_answered_as_it_says(case, server):
    case.call_and_validate(base_url=server.url, checks=CHECKS)


def malformed(rng):
    """A path and a body that is broken in some way: bytes, JSON, types, values or sizes."""
    path = rng.choice(
        ["/generate", "/v1/completions", "/v1/chat/completions", "/v1/chat/completions/", "/x", "/health"]
    )
    good = {"prompt": "abc", "max_tokens": 3}
    if "chat" in path:
        good = {"messages": [{"role": "user", "content": "abc"}], "max_tokens": 3}
    kind = rng.randrange(6)
    if kind == 0:
        return path, rng.randbytes(rng.randrange(200))
    if kind == 1:
        text = json.dumps(good)
        return path, text[: rng.randrange(len(text))].encode()
    values = [
        None,
        True,
        -1,
        0,
        1e308,
        float("nan"),
        float("inf"),
        10**30,
        "",
        "\ud800",
        "\0",
        [],
        {},
        [[]],
        [None],
        {"a": 1},
    ]
    names = [*good, "temperature", "top_p", "n", "stop", "logit_bias", "stream", "response_format", "tools", "seed"]
    names += ["tool_choice", "logprobs", "regex", "choice", "grammar", "stop_token_ids", "max_tokens", "model", "echo"]
    body = dict(good)
    for _ in range(rng.randrange(1, 4)):
        body[rng.choice(names)] = rng.choice(values)
    if kind == 2:
        body = {rng.choice(["\ud800", "x" * 1000, "", "prompt\0"]): body}
    if kind == 3:
        nested = body
        for _ in range(rng.randrange(1, 3000)):
            nested = [nested]
        text = "[" * 3000 + "]" * 3000
        return path, text.encode() if rng.random() < 0.5 else json.dumps({"prompt": [[1]] * 500}).encode()
    return path, json.dumps(body).encode()


def test_malformed_requests_leave_the_server_answering():
    rng = random.Random(1)
    with running() as server:
        seen = set()
        for _ in range(MALFORMED):
            path, content = malformed(rng)
            headers = {
                "Content-Type": rng.choice(["application/json", "text/plain", "application/json; charset=x", ""])
            }
            method = rng.choice(["POST", "POST", "POST", "GET", "PUT", "DELETE", "OPTIONS"])
            response = server.client.request(method, path, content=content, headers=headers)
            seen.add(response.status_code)
            assert response.status_code < 500, (path, content[:500], response.text)
            if response.status_code >= 400:
                assert set(response.json()["error"]) == {"message", "type", "param", "code"}
        assert {400, 404, 405} <= seen
        assert server.generate(max_tokens=4, ignore_eos=True).status_code == 200
        assert server.idle()
