"""What the endpoints answer, as the OpenAPI document has it. The answers themselves are plain dictionaries."""

from typing import Any, Literal

from pydantic import BaseModel

from mili.serve.errors import ErrorBody

FinishReason = Literal["stop", "length", "tool_calls"]


class CachedTokens(BaseModel):
    cached_tokens: int


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


class CompletionLogprobs(BaseModel):
    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(BaseModel):
    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason | None


class Completion(BaseModel):
    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None


class TopLogprob(BaseModel):
    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(TopLogprob):
    top_logprobs: list[TopLogprob]


class ChatLogprobs(BaseModel):
    content: list[TokenLogprob]
    refusal: None


class FunctionAnswer(BaseModel):
    name: str
    arguments: str


class ToolCallAnswer(BaseModel):
    id: str
    type: Literal["function"]
    function: FunctionAnswer


class ChatMessage(BaseModel):
    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallAnswer] | None = None


class ChatChoice(BaseModel):
    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(BaseModel):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class GeneratedOutput(BaseModel):
    index: int
    text: str
    ids: list[int]
    finish_reason: Literal["stop", "length"]
    logprobs: list[TokenLogprob] | None = None


class Generated(BaseModel):
    id: str
    text: str
    ids: list[int]
    finish_reason: Literal["stop", "length"]
    outputs: list[GeneratedOutput]
    prompt_ids: list[int]
    usage: Usage
    timings: dict[str, float | None]


class ModelCard(BaseModel):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int | None


class ModelList(BaseModel):
    object: Literal["list"]
    data: list[ModelCard]


class Health(BaseModel):
    live: bool
    ready: bool
    status: Literal["loading", "ready", "draining", "failed"]


class Status(BaseModel):
    status: Literal["loading", "ready", "draining", "failed"]
    model: str
    uptime_seconds: float
    launch: dict[str, Any]
    engine: dict[str, Any] | None


ERRORS: dict[int | str, dict[str, Any]] = {"4XX": {"model": ErrorBody}, "5XX": {"model": ErrorBody}}

EVENT_STREAM: dict[str, Any] = {"text/event-stream": {}}
"""Without a schema: of the stream it could only say "a string", and tools that read OpenAPI apply it to each event."""


def streamed(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """Documentation of an endpoint that answers JSON, or server-sent events if asked to stream."""
    return {200: {"model": model, "content": EVENT_STREAM}, **ERRORS}
