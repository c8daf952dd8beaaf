"""SmolLM2's side of the evaluation on a CPU, through this project's engine: `python -m training.beside`.

The prompts, the temperature and the measures are those of `training.evaluate`; many requests run at once, so it takes
minutes where `generate` of transformers takes an hour. Held-out texts are scored by transformers.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from mili.engine import EngineOptions
from mili.launch import Launch
from mili.sampling import SamplingParams
from mili.tokenizer import QwenTokenizer
from training.evaluate import held_out, held_out_texts, prompt_list, score, smollm2

NAME = "SmolLM2-135M-Instruct (Q4_1)"


def write(count: int, new_tokens: int, temperature: float = 0.8) -> list[dict[str, Any]]:
    """One sample of every prompt: kind, prompt, text, and whether an end token came."""
    engine = Launch(
        model="smollm2", kv_memory="4GiB", options=EngineOptions(max_batch_tokens=0, max_running=64)
    ).engine()
    tokenizer = engine.tokenizer
    assert isinstance(tokenizer, QwenTokenizer)
    prompts = prompt_list(count)
    asked: list[Any] = [
        text if kind == "opening" else tokenizer.encode_chat([{"role": "user", "content": text}])
        for kind, text in prompts
    ]
    params = [SamplingParams(temperature=temperature, max_tokens=new_tokens, seed=1000 + i) for i in range(count)]
    outputs = engine.generate(asked, params)
    return [
        {
            "kind": kind,
            "prompt": text,
            "text": output.outputs[0].text,
            "ended": output.outputs[0].finish_reason == "stop",
        }
        for (kind, text), output in zip(prompts, outputs, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--new-tokens", type=int, default=400)
    parser.add_argument("--held-out", type=int, default=100, help="texts of each source")
    a = parser.parse_args()
    result = score(write(a.count, a.new_tokens), 0.8)
    a.out.write_text(json.dumps({NAME: result}, indent=1) + "\n", encoding="utf-8")
    candidate = smollm2(a.weights, "cpu", torch.bfloat16)
    for source, name in ((0, "writer"), (1, "grammar"), (3, "books")):
        texts = held_out_texts(a.corpus, source, a.held_out)
        if texts:
            result[f"held_out_{name}"] = held_out(candidate, texts)
    a.out.write_text(json.dumps({NAME: result}, indent=1) + "\n", encoding="utf-8")
    print({k: v for k, v in result.items() if k != "texts"})


if __name__ == "__main__":
    main()
