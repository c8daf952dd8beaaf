"""The whole recipe in two timed stages, for a machine that is lent for minutes.

`--stage corpus` has SmolLM2 (--weights) write stories for --seconds, then builds the corpus; with --written, the
filtered stories of an earlier run, nothing is written. `--stage train` trains for --seconds, exports, evaluates (beside
SmolLM2 with --weights) and packs what is worth keeping into --out.
"""

from __future__ import annotations

import argparse
import json
import lzma
import subprocess
import sys
import tarfile
import time
from multiprocessing import get_context
from pathlib import Path

PART = 15 * 2**20  # bytes of one packed file


def step(module: str, *arguments: object, limit: float) -> bool:
    """Runs `python -m training.MODULE`; False, with the reason printed, if it failed or outran `limit` seconds."""
    begun = time.monotonic()
    command = [sys.executable, "-m", f"training.{module}", *map(str, arguments)]
    try:
        code: object = subprocess.run(command, timeout=limit, check=False).returncode
    except subprocess.TimeoutExpired:
        code = f"stopped after {limit:.0f} s"
    print(f"== {module}: {'ok' if code == 0 else code}, {time.monotonic() - begun:.0f} s", flush=True)
    return code == 0


def written_now(a: argparse.Namespace) -> Path:
    """The folder of the stories that SmolLM2 has written in --seconds."""
    stories: Path = a.work / "stories"
    stories.mkdir(parents=True, exist_ok=True)
    if a.weights is None:
        sys.exit("give --weights for a writer or --written for stories written before")
    sizes = ["--seconds", a.seconds, "--batch", a.batch, "--new-tokens", a.new_tokens]
    if not step("generate", "--weights", a.weights, "--out", stories, *sizes, limit=a.seconds + 60):
        print("the writer failed: the corpus is made of what it has written so far, the grammar, the books", flush=True)
    return stories


def corpus_stage(a: argparse.Namespace) -> None:
    stories = a.written or written_now(a)
    books = ["--books", a.books] if a.books else []
    counts = ["--grammar", a.grammar, "--talk", a.grammar // 2, "--workers", a.workers]
    if not step("corpus", "--stories", stories, *books, "--out", a.work / "corpus", *counts, limit=200):
        sys.exit("no corpus")
    written = (a.work / "corpus" / "writer.jsonl").read_text(encoding="utf-8").splitlines()
    for line in written[:: max(1, len(written) // 6)][:6]:
        print("--", json.loads(line), flush=True)


def train_stage(a: argparse.Namespace) -> None:
    corpus, run, model = a.work / "corpus", a.work / "run", a.work / "mili-tiny"
    extra = ["--eager"] if a.eager else []
    sizes = ["--batch", a.train_batch, "--layers", a.layers]
    if a.length:
        sizes += ["--length", a.length]
    arguments = ["--corpus", corpus, "--out", run, "--seconds", a.seconds, *sizes]
    if not step("train", *arguments, *extra, limit=a.seconds + 60) and not (run / "checkpoint.pt").exists():
        print("compiled training failed, trying uncompiled", flush=True)
        step("train", *arguments, "--eager", limit=a.seconds + 60)
    step("export", "--checkpoint", run / "checkpoint.pt", "--tokenizer", corpus, "--out", model, limit=60)
    pack(a.out, a.work, model, run, corpus)  # once before the evaluation, so that a failure there costs nothing
    evaluation = ["--model", model, "--corpus", corpus, "--out", run / "evaluation.json"]
    beside = ["--weights", a.weights] if a.weights else []
    step("evaluate", *evaluation, *beside, "--count", a.samples, "--new-tokens", a.eval_tokens, limit=a.eval_limit)
    pack(a.out, a.work, model, run, corpus)


def pack(out: Path, work: Path, model: Path, run: Path, corpus: Path) -> None:
    """model.tar.gz, results.tar.gz and, once, the writer's stories as writer.jsonl.xz in parts."""
    out.mkdir(parents=True, exist_ok=True)
    with tarfile.open(out / "model.tar.gz", "w:gz", compresslevel=6) as tar:
        tar.add(model, "mili-tiny")
    with tarfile.open(out / "results.tar.gz", "w:gz") as tar:
        for path in (
            run / "log.jsonl",
            run / "summary.json",
            run / "evaluation.json",
            corpus / "corpus.json",
            work / "stories" / "state.json",
        ):
            if path.exists():
                tar.add(path, path.name)
    if not (out / "writer.jsonl.xz.00").exists():
        text = (corpus / "writer.jsonl").read_bytes()
        size = max(1, len(text) // 16 + 1)
        with get_context("spawn").Pool(16) as pool:  # streams one after another are one xz file
            data = b"".join(pool.map(lzma.compress, [text[i : i + size] for i in range(0, len(text), size)]))
        for i, start in enumerate(range(0, min(len(data), 3 * PART), PART)):
            (out / f"writer.jsonl.xz.{i:02d}").write_bytes(data[start : start + PART])
        print(f"writer.jsonl.xz: {len(data)} bytes (three parts of {PART} are kept)", flush=True)
    print({p.name: p.stat().st_size for p in sorted(out.iterdir())}, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", choices=("corpus", "train"), required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--written", type=Path)
    parser.add_argument("--seconds", type=float, default=150)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--books", type=Path)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--new-tokens", type=int, default=384)
    parser.add_argument("--grammar", type=int, default=120_000)
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--train-batch", type=int, default=96)
    parser.add_argument("--length", type=int, default=0)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--eval-tokens", type=int, default=400)
    parser.add_argument("--eval-limit", type=float, default=100)
    parser.add_argument("--eager", action="store_true")
    a = parser.parse_args()
    (corpus_stage if a.stage == "corpus" else train_stage)(a)


if __name__ == "__main__":
    main()
