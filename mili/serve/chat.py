"""POST /v1/chat/completions."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from mili.engine import Engine
from mili.handle import Delta, RequestHandle
from mili.sampling import SamplingParams
from mili.serve.answers import ChatCompletion, streamed
from mili.serve.convert import TokenNames, sampling_params, usage_of
from mili.serve.errors import ApiError
from mili.serve.generation import DONE, EventStream, check, gather, sse, submit
from mili.serve.parser import AnswerParser, Parts
from mili.serve.prompt import ChatPrompt, chat_prompt
from mili.serve.schemas import ChatRequest
from mili.serve.state import ServerState, new_id

router = APIRouter()


@router.post("/v1/chat/completions", responses=streamed(ChatCompletion))
async def chat_completions(body: ChatRequest, request: Request) -> Response:
    """Answer a conversation (OpenAI's chat completions)."""
    state: ServerState = request.app.state.server
    engine = state.need_engine()
    state.check_model(body.model)
    prompt = await asyncio.to_thread(chat_prompt, body, engine.tokenizer)
    params = _params(body, prompt, engine)
    answer = _Answer(new_id("chatcmpl"), state.name, prompt, TokenNames(engine.tokenizer), bool(body.logprobs))
    log: dict[str, Any] = request.state.log
    log["id"] = answer.id
    handles = await submit(engine, [prompt.ids], params, priority=body.priority or 0, request_id=answer.id)
    log["prompt_tokens"] = len(prompt.ids)
    timeout = state.settings.request_timeout
    if body.stream:
        usage = body.stream_options is not None and bool(body.stream_options.include_usage)
        return EventStream(_events(answer, handles[0], usage, log), handles, timeout)
    await gather(request, handles, timeout)
    log["completion_tokens"] = handles[0].usage.completion_tokens
    return JSONResponse(answer.whole(handles[0]))


def _params(body: ChatRequest, prompt: ChatPrompt, engine: Engine) -> SamplingParams:
    if body.top_logprobs is not None and not body.logprobs:
        raise ApiError(400, "top_logprobs needs logprobs: true", param="top_logprobs")
    limit = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    return sampling_params(
        body,
        engine.recommended,
        max_tokens=limit,
        logprobs=logprobs,
        response_format=body.response_format,
        grammar=prompt.forced_call,
    )


class _Answer:
    """The answer to one chat request, whole or in chunks."""

    def __init__(self, id: str, model: str, prompt: ChatPrompt, names: TokenNames, logprobs: bool) -> None:
        self.id = id
        self.model = model
        self.created = int(time.time())
        self.prompt = prompt
        self.names = names
        self.logprobs = logprobs

    def parser(self) -> AnswerParser:
        return AnswerParser(self.prompt.thinking, self.prompt.tools, self.prompt.forced_call is not None)

    def parts(self, parser: AnswerParser, text: str, ended: bool) -> Parts:
        """What `text` adds, all of it if the answer has ended."""
        parts = parser.push(text)
        return parts + parser.finish() if ended else parts

    def whole(self, handle: RequestHandle) -> dict[str, Any]:
        """The body of an answer without streaming."""
        choices = []
        for output in handle.answers:
            parts = self.parts(self.parser(), output.text, True)
            message: dict[str, Any] = {"role": "assistant", "content": parts.content, "refusal": None}
            if parts.reasoning:
                message["reasoning_content"] = parts.reasoning
            if parts.calls:
                calls = [{name: value for name, value in call.items() if name != "index"} for call in parts.calls]
                message |= {"tool_calls": calls, "content": parts.content or None}
            entries = {"content": [self.names.chat(e) for e in output.logprobs], "refusal": None}
            reason = "tool_calls" if parts.calls and output.finish_reason == "stop" else output.finish_reason
            choices.append(
                {
                    "index": output.index,
                    "message": message,
                    "logprobs": entries if self.logprobs else None,
                    "finish_reason": reason,
                }
            )
        head = {"id": self.id, "object": "chat.completion", "created": self.created, "model": self.model}
        return {**head, "choices": choices, "usage": usage_of([handle.usage])}

    def chunk(self, choices: Sequence[dict[str, Any]], usage: dict[str, Any] | None = None) -> bytes:
        """One event of a stream."""
        head = {"id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model}
        return sse({**head, "choices": choices, **({"usage": usage} if usage is not None else {})})


async def _events(answer: _Answer, handle: RequestHandle, usage: bool, log: dict[str, Any]) -> AsyncIterator[bytes]:
    choices = [_ChoiceStream(answer, index) for index in range(len(handle.outputs))]
    for choice in choices:
        yield answer.chunk([choice.choice({"role": "assistant", "content": ""})])
    async for delta in handle:
        event = choices[delta.index].read(delta)
        if delta.finish_reason in ("cancel", "error"):
            check(handle)
        if event:
            yield answer.chunk(event)
    log["completion_tokens"] = handle.usage.completion_tokens
    if usage:
        yield answer.chunk([], usage_of([handle.usage]))
    yield DONE


class _ChoiceStream:
    """One of the n answers as it streams."""

    def __init__(self, answer: _Answer, index: int) -> None:
        self.answer = answer
        self.index = index
        self.parser = answer.parser()

    def read(self, delta: Delta) -> list[dict[str, Any]]:
        """The choices of the next chunk for what is new; empty if nothing can be shown yet."""
        ended = delta.finish_reason is not None
        parts = self.answer.parts(self.parser, delta.text, ended)
        message: dict[str, Any] = {}
        if parts.reasoning:
            message["reasoning_content"] = parts.reasoning
        if parts.content:
            message["content"] = parts.content
        if parts.calls:
            message["tool_calls"] = parts.calls
        entries = [self.answer.names.chat(entry) for entry in delta.logprobs] if self.answer.logprobs else []
        if not (message or entries or ended):
            return []
        reason = "tool_calls" if self.parser.calls and delta.finish_reason == "stop" else delta.finish_reason
        return [self.choice(message, entries, reason)]

    def choice(
        self, message: dict[str, Any], entries: Sequence[dict[str, Any]] = (), reason: str | None = None
    ) -> dict[str, Any]:
        logprobs = {"content": list(entries), "refusal": None} if entries else None
        return {"index": self.index, "delta": message, "logprobs": logprobs, "finish_reason": reason}
