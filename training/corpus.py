"""The corpus: filtered stories by SmolLM2, stories and talk of our own grammar, children's books; as token ids.

`python -m training.corpus --stories FOLDER --books FOLDER --out FOLDER` writes tokenizer.json and corpus.npz.
`--stories` may also be the filtered stories of an earlier call: its writer.jsonl, or that file compressed (.xz).
"""

from __future__ import annotations

import argparse
import json
import lzma
import random
import re
import time
from collections import Counter
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from tqdm import tqdm

from training.dialogues import chat_about, conversation
from training.filter import clean, why_not
from training.grammar import story
from training.tokenizer import END_OF_TEXT, render, save_tokenizer, token_id, train_tokenizer

SOURCES = ("writer", "grammar", "talk", "books")
HELD_OUT = 100  # one story in this many is held out


def forms(rng: random.Random, asked: str, text: str) -> list[str]:
    """The story as plain text and in chat form."""
    messages = chat_about(rng, asked, text)
    return [text, render((m["role"], m["content"]) for m in messages)]


def filter_shard(path: Path) -> tuple[list[tuple[str, str]], Counter[str]]:
    """The kept (request, story) pairs of one shard, and how many were dropped for which reason."""
    kept, reasons = [], Counter[str]()
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        text = clean(row["text"])
        reason = why_not(text, row["name"], row["ended"])
        reasons[reason or "kept"] += 1
        if not reason:
            kept.append((row["asked"], text))
    return kept, reasons


def read_written(path: Path) -> dict[str, tuple[str, str]]:
    """The (request, story) pairs of a writer.jsonl, compressed or not."""
    data = path.read_bytes()
    text = (lzma.decompress(data) if ".xz" in path.suffixes else data).decode()
    pairs = [json.loads(line) for line in text.splitlines()]
    return {story_[:160]: (asked, story_) for asked, story_ in pairs}


def grammar_part(job: tuple[int, int]) -> list[tuple[str, str]]:
    seed, count = job
    rng = random.Random(seed)
    return [story(rng)[:2] for _ in range(count)]


def talk_part(job: tuple[int, int]) -> list[str]:
    seed, count = job
    rng = random.Random(seed)
    return [render((m["role"], m["content"]) for m in conversation(rng)) for _ in range(count)]


def passages(folder: Path) -> list[str]:
    """Passages of about 150 to 300 words, cut between paragraphs; front matter and verse are left out."""
    out = []
    for path in sorted(folder.glob("*.txt")):
        paragraphs = [
            " ".join(p.split()) for p in re.split(r"\n\s*\n", path.read_text(encoding="utf-8-sig", errors="replace"))
        ]
        passage: list[str] = []
        for paragraph in paragraphs:
            text = clean(paragraph.replace("_", ""))
            prose = len(text.split()) > 8 and text[-1] in ".!?\"'" and text.isascii() and "[" not in text
            if not prose:
                passage = []
                continue
            passage.append(text)
            count = sum(len(p.split()) for p in passage)
            if count >= 150:
                if count <= 400:
                    out.append("\n\n".join(passage))
                passage = []
    return out


def build(
    stories: Path, books: Path | None, out: Path, grammar: int, talk: int, size: int, context: int, workers: int
) -> dict[str, object]:
    """Writes tokenizer.json, tokenizer_config.json, corpus.npz (tokens, offsets, source, held) and corpus.json."""
    begun = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    rng = random.Random(11)
    reasons = Counter[str]()
    shards = [] if stories.is_file() else sorted(stories.glob("shard-*.jsonl"))
    written = read_written(stories) if stories.is_file() else {}
    with get_context("spawn").Pool(workers) as pool:
        part = 500
        grammar_jobs = pool.map_async(
            grammar_part, [(1000 + i, min(part, grammar - i * part)) for i in range(-(-grammar // part))]
        )
        talk_jobs = pool.map_async(
            talk_part, [(9_000_000 + i, min(part, talk - i * part)) for i in range(-(-talk // part))]
        )
        for kept, why in tqdm(
            pool.imap_unordered(filter_shard, shards),
            desc="filter",
            mininterval=5,
        ):
            reasons += why
            for asked, text in kept:
                written[text[:160]] = (asked, text)  # stories that begin alike count once
        own = [pair for chunk in grammar_jobs.get() for pair in chunk]
        talks = [text for chunk in talk_jobs.get() for text in chunk]
    counts = f"{len(written)} stories kept; grammar {len(own)}, talk {len(talks)}"
    print(f"filter: {dict(reasons)}; {counts}; {time.monotonic() - begun:.0f} s", flush=True)
    with (out / "writer.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(pair) + "\n" for pair in written.values())
    texts: list[str] = []
    source: list[int] = []
    held: list[bool] = []
    for number, pairs in enumerate((list(written.values()), own)):
        for i, (asked, text) in enumerate(pairs):
            texts += forms(rng, asked, text)
            source += [number] * 2
            held += [i % HELD_OUT == 0] * 2
    book_passages = passages(books) if books else []
    for number, plain in ((2, talks), (3, book_passages)):
        texts += plain
        source += [number] * len(plain)
        held += [i % HELD_OUT == 0 for i in range(len(plain))]
    sample = rng.sample(texts, min(len(texts), 60_000)) + book_passages
    tokenizer = train_tokenizer(sample, size)
    save_tokenizer(tokenizer, out, context)
    print(f"tokenizer: {tokenizer.get_vocab_size()} entries; {time.monotonic() - begun:.0f} s", flush=True)
    summary = encode(tokenizer, texts, np.array(source, np.uint8), np.array(held), out)
    summary |= {"dropped": dict(reasons), "characters": sum(map(len, texts))}
    (out / "corpus.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    print(f"corpus: {summary}; {time.monotonic() - begun:.0f} s", flush=True)
    return summary


def encode(
    tokenizer: Tokenizer, texts: list[str], source: np.ndarray, held: np.ndarray, out: Path
) -> dict[str, object]:
    """Every document ends with the end-of-text token."""
    end = token_id(tokenizer, END_OF_TEXT)
    chunks, lengths = [], []
    for start in tqdm(range(0, len(texts), 20_000), desc="encode", mininterval=5):
        for encoding in tokenizer.encode_batch(texts[start : start + 20_000], add_special_tokens=False):
            ids = encoding.ids
            chunks.append(np.array([*ids, end], np.uint16))
            lengths.append(len(ids) + 1)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    np.savez(out / "corpus.npz", tokens=np.concatenate(chunks), offsets=offsets, source=source, held=held)
    counts = {name: int(np.array(lengths)[(source == i) & ~held].sum()) for i, name in enumerate(SOURCES)}
    return {"documents": len(texts), "training_tokens": counts, "held_out_tokens": int(np.array(lengths)[held].sum())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stories", type=Path, required=True)
    parser.add_argument("--books", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--grammar", type=int, default=120_000)
    parser.add_argument("--talk", type=int, default=60_000)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--workers", type=int, default=16)
    a = parser.parse_args()
    build(a.stories, a.books, a.out, a.grammar, a.talk, a.size, a.context, a.workers)


if __name__ == "__main__":
    main()
