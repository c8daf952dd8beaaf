"""Trains the model for a given wall-clock time: `python -m training.train --corpus FOLDER --out FOLDER --seconds 270`.

Muon for the matrices, AdamW for embeddings and norms; the learning rate rises, stays, and falls linearly to zero
over the second half of the time. A checkpoint is written every minute and at the end; a repeated call goes on.
"""

from __future__ import annotations

import argparse
import json
import queue
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from training.model import Qwen3, Shape
from training.muon import Muon
from training.packing import Corpus

WARM_UP, DECAY = 0.02, 0.5  # shares of the training time


def rate(progress: float) -> float:
    """The learning rate's factor at `progress` in 0 to 1."""
    return min(1.0, progress / WARM_UP, max(0.0, (1 - progress) / DECAY))


def held_out_losses(model: Any, corpus: Corpus, length: int, device: str, limit: int = 32) -> dict[str, float]:
    """Mean loss in nats a token for each source, on rows of held-out documents."""
    names = ("writer", "grammar", "talk", "books")
    losses = {}
    for source, name in enumerate(names):
        rows = corpus.held_out(source, length, limit)
        if len(rows):
            with torch.no_grad(), torch.autocast(device, torch.bfloat16):
                parts = [
                    model(torch.from_numpy(r.astype(np.int64)).to(device)).item()
                    for r in np.array_split(rows, -(-len(rows) // 8))
                ]
            losses[name] = float(np.mean(parts))
    return losses


def prefetch(batches: Any, device: str, depth: int = 40) -> Any:
    """Batches on the device, made by a thread."""
    ready: queue.Queue[torch.Tensor] = queue.Queue(depth)

    def work() -> None:
        for rows in batches:
            tensor = torch.from_numpy(rows.astype(np.int32))
            ready.put(tensor.pin_memory() if device == "cuda" else tensor)

    threading.Thread(target=work, daemon=True).start()
    while True:
        yield ready.get(timeout=120).to(device, non_blocking=True).long()


def save(path: Path, content: dict[str, Any]) -> None:
    temporary = path.with_suffix(".tmp")
    torch.save(content, temporary)
    temporary.rename(path)


def train(
    corpus_path: Path,
    out: Path,
    shape: Shape,
    seconds: float,
    batch: int,
    device: str,
    seed: int = 5,
    length: int = 0,
    compiled: bool = True,
    steps: int = 0,
) -> dict[str, Any]:
    """Trains until `seconds` of training time (compilation included) have passed; returns a summary.

    With `steps` above 0 the number of steps decides instead of the clock.
    """
    begun = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    length = (length or shape.max_position_embeddings) + 1
    torch.manual_seed(seed)
    torch.set_float32_matmul_precision("high")
    corpus = Corpus(corpus_path / "corpus.npz")
    model = Qwen3(shape).to(device)
    if device == "cuda":
        model.stream = torch.bfloat16
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.dim() != 2 or "embed" in n]
    optimizers: list[torch.optim.Optimizer] = [
        Muon(matrices, lr=0.02),
        torch.optim.AdamW(others, lr=0.004, betas=(0.9, 0.98), weight_decay=0.0, fused=device == "cuda"),
    ]
    base = [0.02, 0.004]
    step, tokens, spent = 0, 0, 0.0
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        step, tokens, spent = state["step"], state["tokens"], state["spent"]
        print(f"resumed at step {step}, {spent:.0f} s", flush=True)
    phase = [0]
    feed = prefetch(corpus.batches(seed + step, batch, length, phase), device)
    run = torch.compile(model, dynamic=False) if compiled else model
    log = (out / "log.jsonl").open("a", encoding="utf-8")

    def now() -> float:
        return spent + time.monotonic() - begun

    last_save = last_note = now()
    losses: list[torch.Tensor] = []
    bar = tqdm(total=int(seconds), unit="s", mininterval=10)
    while (progress := step / steps if steps else now() / seconds) < 1:
        phase[0] = int(progress > 1 - DECAY)
        rows = next(feed)
        with torch.autocast(device, torch.bfloat16):
            loss = run(rows)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, lr in zip(optimizers, base, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = lr * rate(progress)
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.detach())
        step += 1
        tokens += batch * (length - 1)
        if step % 20 == 0:
            mean = torch.stack(losses).mean().item()  # waits for the device, so the clock is right
            losses.clear()
            if not np.isfinite(mean):
                raise FloatingPointError(f"the loss is {mean} at step {step}: lower the learning rate")
            entry: dict[str, Any] = {"step": step, "tokens": tokens, "seconds": round(now(), 2), "loss": round(mean, 4)}
            if now() - last_note > seconds / 12:
                entry["held_out"] = held_out_losses(model, corpus, length, device)
                last_note = now()
                print(json.dumps(entry), flush=True)
            log.write(json.dumps(entry) + "\n")
            log.flush()
            bar.n = int(now())
            bar.set_postfix_str(f"loss {mean:.3f}, {tokens / 1e6:.1f}M tokens")
            if now() - last_save > 60:
                save_all(checkpoint, model, optimizers, step, tokens, now(), shape)
                last_save = now()
    save_all(checkpoint, model, optimizers, step, tokens, now(), shape)
    summary = {
        "step": step,
        "tokens": tokens,
        "seconds": round(now(), 1),
        "parameters": sum(p.numel() for p in model.parameters()),
        "held_out": held_out_losses(model, corpus, length, device, 200),
        "shape": asdict(shape),
        "batch": batch,
    }
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(summary), flush=True)
    return summary


def save_all(path: Path, model: Qwen3, optimizers: Any, step: int, tokens: int, spent: float, shape: Shape) -> None:
    states = [optimizer.state_dict() for optimizer in optimizers]
    save(
        path,
        {
            "model": model.state_dict(),
            "optimizers": states,
            "step": step,
            "tokens": tokens,
            "spent": spent,
            "shape": asdict(shape),
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=270)
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--length", type=int, default=0, help="tokens of a row; 0: the model's context")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--layers", type=int, default=Shape.num_hidden_layers)
    parser.add_argument("--eager", action="store_true", help="do not compile")
    a = parser.parse_args()
    tokenizer = json.loads((a.corpus / "tokenizer.json").read_text(encoding="utf-8"))
    size = len(tokenizer["model"]["vocab"]) + sum(
        t["content"] not in tokenizer["model"]["vocab"] for t in tokenizer["added_tokens"]
    )
    shape = Shape(vocab_size=-(-size // 64) * 64, num_hidden_layers=a.layers)
    train(a.corpus, a.out, shape, a.seconds, a.batch, a.device, a.seed, a.length, not a.eager)


if __name__ == "__main__":
    main()
