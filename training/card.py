"""The model card: `python -m training.card --results FOLDER --beside FILE --out models/mili-tiny`.

FOLDER holds summary.json, corpus.json, log.jsonl and evaluation.json of a run; FILE is what training.beside wrote.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from training.figure import draw

TEXT = """---
license: apache-2.0
language: en
pipeline_tag: text-generation
library_name: transformers
---
# mili-tiny

A Qwen3 of {millions:.1f} million parameters that tells short children's stories in simple English, from a first line or
when asked in chat form. It is the default model of MILI: small enough to be part of the repository, so that notebooks,
tests and first contact need no download. `transformers` loads the folder as it is.

It knows nothing but stories. It answers a greeting, says what it is, and declines other questions. Names, heroes and
plots come from a small world of its own; asked for something else, it often drifts back to what it knows.

## Architecture

`Qwen3ForCausalLM`: {num_hidden_layers} layers of {hidden_size}, {num_attention_heads} query heads and
{num_key_value_heads} key/value heads of {head_dim}, feed-forward {intermediate_size}, tied embeddings, query/key norm,
context {max_position_embeddings}, bfloat16. The tokenizer is a byte-level BPE of {vocab_size} entries trained on the
corpus, with the pre-tokenisation and the special tokens of Qwen3.

## Data

Everything is synthetic but for the books. The corpus is not in the repository; `training/` makes it again.

| source | training tokens | what it is |
| --- | ---: | --- |
| own stories | {grammar:,} | 22 plots of a grammar (`training/grammar.py`), as plain text and as a chat |
| talk | {talk:,} | greetings, questions and stories asked for, in chat form, from the same grammar |
| SmolLM2's stories | {writer:,} | written by SmolLM2-135M-Instruct (Apache-2.0), filtered |
| books | {books:,} | children's books of Project Gutenberg, in the public domain in the United States |

Most of the text is the grammar's, not SmolLM2's: of 90,113 stories (29.8 million tokens) that SmolLM2 wrote on an H100,
2,944 passed the filter (74,537 did not end within 352 new tokens, 9,698 repeated themselves). Those that passed lose
their thread, and a first run that gave them full weight learned that: from a given first line, 11 of its 100 stories
ran in circles, against none of 100 that were asked for in chat form, where the grammar's stories prevailed. In the run
that made this model, the grammar's plots go on from such first lines too, and the share of SmolLM2's stories and of the
books falls to a twentieth in the second half.

## Recipe

`python -m training.run` (two stages; `training/train.py` has the schedule): {tokens:.0f} million tokens in
{seconds:.0f} s on one H100, {step:,} steps of {batch} rows of {max_position_embeddings} tokens. Muon for the matrices,
AdamW for embeddings and norms; the learning rate rises for 2% of the time and falls linearly to zero over the second
half. Seeded, but bounded by time: a repeated run gives a similar model, not the same bits.

![loss](loss.png)

## Quality

{count} samples of at most 400 tokens at temperature 0.8 from the whole distribution, without top-k or top-p: 100 first
lines and 100 requests in chat form, the same for both models (`training/evaluate.py`; SmolLM2's side, Q4_1 weights and
its own chat template, by `training/beside.py`). The prompts come from the same templates as the training data (other
draws), which favours mili-tiny; the held-out texts are of its sources, of which SmolLM2 wrote one itself. A perplexity
a token depends on the vocabulary too, so compare bits a byte. SmolLM2 is a general model that was not made to tell
stories within 400 tokens.

{table}

"ends properly": an end token came and the last sentence and quotation are closed. "4-gram loop": some sequence of four
words occurs four times or more in one story. distinct-n: distinct n-grams of words over all n-grams, all samples taken
together (a small vocabulary is intended here, so distinct-1 is low); "within one story" is the mean over stories.

## Twenty samples

The first twenty of the {count}, unpicked, temperature 0.8. A first line given is in bold.

{samples}

## Licence

Apache-2.0, as all of MILI. SmolLM2-135M-Instruct is Apache-2.0 as well.
"""

ROWS = [
    ("ends properly", "ends_properly", "{:.1%}"),
    ("with a 4-gram loop", "loops", "{:.1%}"),
    ("distinct-1", "distinct_1", "{:.3f}"),
    ("distinct-2", "distinct_2", "{:.3f}"),
    ("distinct-3", "distinct_3", "{:.3f}"),
    ("distinct-3 within one story", "distinct_3_within", "{:.3f}"),
    ("words a story", "mean_words", "{:.0f}"),
]
HELD_OUT = [("own stories", "held_out_grammar"), ("SmolLM2's stories", "held_out_writer"), ("books", "held_out_books")]


def table(results: dict[str, dict[str, Any]]) -> str:
    """The measures of each model as a Markdown table."""
    names = list(results)
    lines = ["| | " + " | ".join(names) + " |", "| --- |" + " ---: |" * len(names)]
    for label, key, form in ROWS:
        lines.append(f"| {label} | " + " | ".join(form.format(results[n][key]) for n in names) + " |")
    for label, key in HELD_OUT:
        for measure, what in (("perplexity", "perplexity a token"), ("bits_per_byte", "bits a byte")):
            cells = [f"{results[n][key][measure]:.2f}" if key in results[n] else "-" for n in names]
            lines.append(f"| held-out {label}: {what} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def samples(texts: list[dict[str, Any]], count: int = 20) -> str:
    """The first samples as Markdown, one block quote each."""
    parts = []
    for number, sample in enumerate(texts[:count], 1):
        text = f"**{sample['prompt']}**{sample['text']}" if sample["kind"] == "opening" else sample["text"]
        quote = "\n".join(f"> {line}".rstrip() for line in text.strip().split("\n"))
        asked = f"Asked: {sample['prompt']}\n\n" if sample["kind"] == "request" else ""
        ending = "" if sample["ended"] else "\n\n(no end within 400 tokens)"
        parts.append(f"{number}. {asked}{quote}{ending}".replace("\n", "\n   ").replace("\n   \n", "\n\n"))
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--beside", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    a = parser.parse_args()

    def read(path: Path) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content

    summary, corpus = read(a.results / "summary.json"), read(a.results / "corpus.json")
    results = read(a.results / "evaluation.json")
    if a.beside:
        results |= read(a.beside)
    own = results["mili-tiny"]
    text = TEXT.format(
        millions=summary["parameters"] / 1e6,
        step=summary["step"],
        tokens=summary["tokens"] / 1e6,
        seconds=summary["seconds"],
        batch=summary["batch"],
        count=own["samples"],
        table=table(results),
        samples=samples(own["texts"]),
        **summary["shape"],
        **corpus["training_tokens"],
    )
    (a.out / "README.md").write_text(text, encoding="utf-8")
    draw(a.results / "log.jsonl", a.out / "loss.png")


if __name__ == "__main__":
    main()
