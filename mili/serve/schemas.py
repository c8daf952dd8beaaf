"""What the endpoints accept. Fields have OpenAI's names and meaning; those of other engines are marked as extensions.

Unknown fields are refused, so that a misspelt one is not silently without effect. Fields of OpenAI's that have no
meaning for one local model are accepted and ignored.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mili.sampling import MAX_CHOICES, MAX_LOGPROBS, MAX_STOPS

TokenId = Annotated[int, Field(ge=0, lt=2**31)]
Json = dict[str, Any]
MAX_PROMPTS = 128


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())


class Loose(BaseModel):
    """Parts of messages: fields that are not known are passed on to the chat template."""

    model_config = ConfigDict(extra="allow", strict=True)


class StreamOptions(Strict):
    include_usage: bool | None = None
    include_obfuscation: bool | None = Field(None, description="ignored")


class Sampling(Strict):
    """Fields that all generating endpoints share; see `mili.sampling.SamplingParams`."""

    temperature: float | None = Field(None, ge=0, le=100, allow_inf_nan=False)
    top_p: float | None = Field(None, gt=0, le=1, allow_inf_nan=False)
    n: int | None = Field(None, ge=1, le=MAX_CHOICES)
    stop: str | Annotated[list[str], Field(max_length=MAX_STOPS)] | None = None
    seed: int | None = Field(None, ge=-(2**63), lt=2**64)
    frequency_penalty: float | None = Field(None, ge=-2, le=2, allow_inf_nan=False)
    presence_penalty: float | None = Field(None, ge=-2, le=2, allow_inf_nan=False)
    logit_bias: dict[str, float] | None = None
    stream: bool | None = None
    # Extensions, with the names that vLLM and SGLang use.
    top_k: int | None = Field(None, ge=-1, lt=2**31)
    min_p: float | None = Field(None, ge=0, le=1, allow_inf_nan=False)
    repetition_penalty: float | None = Field(None, ge=0.01, le=100, allow_inf_nan=False)
    min_tokens: int | None = Field(None, ge=0, lt=2**31)
    ignore_eos: bool | None = None
    stop_token_ids: list[TokenId] | None = Field(None, max_length=128)
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    priority: int | None = Field(None, ge=-(2**31), lt=2**31, description="lower is served first")
    regex: str | None = Field(None, description="the output matches this regular expression")
    choice: list[str] | None = Field(None, description="the output is one of these texts")
    grammar: str | None = Field(None, description="the output follows this Lark grammar")


class JsonSchema(Strict):
    name: str
    description: str | None = None
    schema_: Json | None = Field(None, alias="schema")
    strict: bool | None = None


class ResponseFormat(Strict):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class GenerateRequest(Sampling):
    """POST /generate: one prompt, plainly."""

    prompt: str | list[TokenId]
    max_tokens: int | None = Field(128, ge=1, lt=2**31)
    logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    response_format: ResponseFormat | None = None


class OpenAIFields(Sampling):
    model: str | None = None
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    user: str | None = Field(None, description="ignored")


class CompletionRequest(OpenAIFields):
    """POST /v1/completions."""

    prompt: (
        str
        | Annotated[list[str], Field(min_length=1, max_length=MAX_PROMPTS)]
        | Annotated[list[TokenId], Field(min_length=1)]
        | Annotated[list[list[TokenId]], Field(min_length=1, max_length=MAX_PROMPTS)]
    )
    max_tokens: int | None = Field(16, ge=1, lt=2**31)
    logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    echo: bool | None = None
    best_of: int | None = Field(None, ge=1, le=MAX_CHOICES)
    suffix: str | None = Field(None, description="not supported: must be null or empty")


class FunctionCall(Loose):
    name: str
    arguments: str | Json = "{}"


class ToolCall(Loose):
    id: str | None = None
    type: Literal["function"] = "function"
    function: FunctionCall


class Message(Loose):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Json] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None


class Function(Strict):
    name: str = Field(min_length=1, max_length=256)
    description: str | None = None
    parameters: Json | None = None
    strict: bool | None = None


class Tool(Strict):
    type: Literal["function"]
    function: Function


class NamedFunction(Strict):
    name: str


class NamedTool(Strict):
    type: Literal["function"]
    function: NamedFunction


class ChatRequest(OpenAIFields):
    """POST /v1/chat/completions."""

    messages: list[Message] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1, lt=2**31)
    max_completion_tokens: int | None = Field(None, ge=1, lt=2**31)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    tools: list[Tool] | None = Field(None, max_length=128)
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = Field(None, description="ignored")
    reasoning_effort: str | None = Field(None, description="none or minimal: the model answers without reasoning")
    chat_template_kwargs: Json | None = Field(None, description="values for the chat template, as enable_thinking")
    metadata: Json | None = Field(None, description="ignored")
    store: bool | None = Field(None, description="ignored")
    service_tier: str | None = Field(None, description="ignored")
    safety_identifier: str | None = Field(None, description="ignored")
    prompt_cache_key: str | None = Field(None, description="ignored: prefixes are always shared")
    modalities: list[Literal["text"]] | None = None
    verbosity: str | None = Field(None, description="ignored")
