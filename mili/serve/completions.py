"""POST /v1/completions, and the native POST /generate."""

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from mili.engine import Engine, Prompt
from mili.handle import RequestHandle
from mili.sampling import SamplingParams
from mili.sampling_options import timings
from mili.serve.answers import Completion, Generated, streamed
from mili.serve.convert import TokenNames, sampling_params, usage_of
from mili.serve.errors import ApiError
from mili.serve.generation import DONE, EventStream, check, gather, merged, sse, submit
from mili.serve.schemas import MAX_PROMPTS, CompletionRequest, GenerateRequest
from mili.serve.state import ServerState, new_id

router = APIRouter()


@router.post("/v1/completions", responses=streamed(Completion))
async def completions(body: CompletionRequest, request: Request) -> Response:
    """Complete one or more prompts, texts or token ids (OpenAI's completions)."""
    state: ServerState = request.app.state.server
    engine = state.need_engine()
    state.check_model(body.model)
    _check(body)
    prompts = _prompts(body)
    params = _params(body, engine)
    if len(prompts) * params.n > MAX_PROMPTS:
        raise ApiError(400, f"{len(prompts)} prompts times n = {params.n}: at most {MAX_PROMPTS} together", param="n")
    answer = _Completion(new_id("cmpl"), state.name, engine, params.n, body)
    log: dict[str, Any] = request.state.log
    log["id"] = answer.id
    handles = await submit(engine, prompts, params, priority=body.priority or 0, request_id=answer.id)
    log["prompt_tokens"] = sum(len(handle.prompt_ids) for handle in handles)
    if body.stream:
        usage = body.stream_options is not None and bool(body.stream_options.include_usage)
        return EventStream(answer.events(handles, usage, log), handles, state.settings.request_timeout)
    await gather(request, handles, state.settings.request_timeout)
    log["completion_tokens"] = sum(handle.usage.completion_tokens for handle in handles)
    return JSONResponse(answer.whole(handles))


def _params(body: CompletionRequest | GenerateRequest, engine: Engine) -> SamplingParams:
    return sampling_params(
        body,
        engine.recommended,
        max_tokens=body.max_tokens,
        logprobs=body.logprobs,
        response_format=body.response_format,
    )


def _check(body: CompletionRequest) -> None:
    if body.suffix:
        raise ApiError(400, "suffix is not supported: leave it out", param="suffix")
    if body.best_of is not None and body.best_of != (body.n or 1):
        raise ApiError(400, "best_of other than n is not supported: leave it out", param="best_of")
    if body.echo and body.logprobs is not None:
        raise ApiError(400, "echo with logprobs is not supported: leave one of them out", param="echo")


def _prompts(body: CompletionRequest) -> list[Prompt]:
    """One entry for each prompt; a flat list of ids is one."""
    prompt = body.prompt
    if isinstance(prompt, str) or isinstance(prompt[0], int):
        return [cast(Prompt, prompt)]
    return list(cast(Sequence[Prompt], prompt))


class _Completion:
    """The answer to one completions request. Choice i * n + j is answer j to prompt i."""

    def __init__(self, id: str, model: str, engine: Engine, n: int, body: CompletionRequest) -> None:
        self.id = id
        self.n = n
        self.body = body
        self.engine = engine
        self.names = TokenNames(engine.tokenizer)
        self.head = {"id": id, "object": "text_completion", "created": int(time.time()), "model": model}

    def echo(self, handle: RequestHandle) -> str:
        """What stands before the answer: the prompt, if the client wants it back."""
        if not self.body.echo or self.engine.tokenizer is None:
            return ""
        return self.engine.tokenizer.decode(handle.prompt_ids, skip_special_tokens=False)

    def whole(self, handles: Sequence[RequestHandle]) -> dict[str, Any]:
        choices = []
        for i, handle in enumerate(handles):
            for output in handle.answers:
                logprobs = None if self.body.logprobs is None else self.names.completion(output.logprobs, 0)
                choices.append(
                    {
                        "index": i * self.n + output.index,
                        "text": self.echo(handle) + output.text,
                        "logprobs": logprobs,
                        "finish_reason": output.finish_reason,
                    }
                )
        return {**self.head, "choices": choices, "usage": usage_of([handle.usage for handle in handles])}

    async def events(self, handles: Sequence[RequestHandle], usage: bool, log: dict[str, Any]) -> AsyncIterator[bytes]:
        offsets = [0] * (len(handles) * self.n)
        begun = [not self.body.echo] * len(offsets)
        async for i, delta in merged(handles):
            index = i * self.n + delta.index
            if delta.finish_reason in ("cancel", "error"):
                check(handles[i])
            text = delta.text if begun[index] else self.echo(handles[i]) + delta.text
            begun[index] = True
            logprobs = None
            if self.body.logprobs is not None and delta.logprobs:
                logprobs = self.names.completion(delta.logprobs, offsets[index])
                offsets[index] += sum(len(token) for token in logprobs["tokens"])
            if not (text or logprobs or delta.finish_reason):
                continue
            choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": delta.finish_reason}
            yield sse({**self.head, "choices": [choice]})
        log["completion_tokens"] = sum(handle.usage.completion_tokens for handle in handles)
        if usage:
            yield sse({**self.head, "choices": [], "usage": usage_of([handle.usage for handle in handles])})
        yield DONE


@router.post("/generate", responses=streamed(Generated))
async def generate(body: GenerateRequest, request: Request) -> Response:
    """Complete one prompt; token ids in and out beside the text. Streams events with `index`, `text` and `ids`."""
    state: ServerState = request.app.state.server
    engine = state.need_engine()
    params = _params(body, engine)
    id = new_id("gen")
    log: dict[str, Any] = request.state.log
    log["id"] = id
    [handle] = await submit(engine, [body.prompt], params, priority=body.priority or 0, request_id=id)
    log["prompt_tokens"] = len(handle.prompt_ids)
    names = TokenNames(engine.tokenizer) if body.logprobs is not None else None
    if body.stream:
        return EventStream(_native_events(handle, names, log), [handle], state.settings.request_timeout)
    await gather(request, [handle], state.settings.request_timeout)
    log["completion_tokens"] = handle.usage.completion_tokens
    return JSONResponse(_native(handle, names))


def _native(handle: RequestHandle, names: TokenNames | None) -> dict[str, Any]:
    outputs = []
    for answer in handle.answers:
        output = {"index": answer.index, "text": answer.text, "ids": answer.token_ids}
        output["finish_reason"] = answer.finish_reason
        if names is not None:
            output["logprobs"] = [names.chat(entry) for entry in answer.logprobs]
        outputs.append(output)
    first = handle.answers[0]
    return {
        "id": handle.id,
        "text": first.text,
        "ids": first.token_ids,
        "finish_reason": first.finish_reason,
        "outputs": outputs,
        "prompt_ids": handle.prompt_ids,
        "usage": usage_of([handle.usage]),
        "timings": timings(handle.snapshot()),
    }


async def _native_events(handle: RequestHandle, names: TokenNames | None, log: dict[str, Any]) -> AsyncIterator[bytes]:
    """One event for each piece of news; the last has `usage` and `timings`, then comes [DONE]."""
    async for delta in handle:
        if delta.finish_reason in ("cancel", "error"):
            check(handle)
        event: dict[str, Any] = {"index": delta.index, "text": delta.text, "ids": delta.token_ids}
        if names is not None:
            event["logprobs"] = [names.chat(entry) for entry in delta.logprobs]
        if delta.finish_reason is not None:
            event["finish_reason"] = delta.finish_reason
        yield sse(event)
    log["completion_tokens"] = handle.usage.completion_tokens
    whole = _native(handle, names)
    yield sse({"id": handle.id, "usage": whole["usage"], "timings": whole["timings"]})
    yield DONE
