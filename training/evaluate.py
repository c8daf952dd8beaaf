"""Quality beside SmolLM2's on the same prompts: `python -m training.evaluate`.

200 prompts (openings of stories and requests in chat form) at temperature 0.8; held-out perplexity and bits a byte.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from tqdm import tqdm

from training.expand import cast, expand
from training.filter import distinct, ends_properly, loops, words_of
from training.grammar import request
from training.openings import OPENINGS
from training.packing import Corpus
from training.smollm2 import END, IM_END, load_gguf
from training.tokenizer import END_OF_TEXT, END_OF_TURN, render, token_id


@dataclass
class Candidate:
    name: str
    model: Any
    tokenizer: Tokenizer
    ends: tuple[int, ...]


def ours(folder: Path, device: str, dtype: torch.dtype) -> Candidate:
    from transformers import Qwen3ForCausalLM

    model = Qwen3ForCausalLM.from_pretrained(folder, dtype=dtype).to(device).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ends = (token_id(tokenizer, END_OF_TEXT), token_id(tokenizer, END_OF_TURN))
    return Candidate("mili-tiny", model, tokenizer, ends)


def smollm2(weights: Path, device: str, dtype: torch.dtype) -> Candidate:
    from transformers import LlamaConfig, LlamaForCausalLM

    w, tokenizer, s = load_gguf(weights, "cpu", dtype)
    vocabulary, hidden = w["token_embd.weight"].shape
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=w["blk.0.ffn_up.weight"].shape[0],
        num_hidden_layers=int(s["layers"]),
        num_attention_heads=int(s["heads"]),
        num_key_value_heads=int(s["kv_heads"]),
        rms_norm_eps=s["eps"],
        max_position_embeddings=2048,
        rope_parameters={"rope_type": "default", "rope_theta": s["theta"]},
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
    )
    names = {
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
        "attn_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
    }
    state = {"model.embed_tokens.weight": w["token_embd.weight"], "model.norm.weight": w["output_norm.weight"]}
    for i in range(int(s["layers"])):
        for old, new in names.items():
            state[f"model.layers.{i}.{new}.weight"] = w[f"blk.{i}.{old}.weight"]
    model = LlamaForCausalLM(config).to(dtype)
    missing, unexpected = model.load_state_dict(state, strict=False)
    if unexpected or set(missing) - {"lm_head.weight"}:
        raise ValueError(f"SmolLM2 tensors do not fit: missing {missing}, unexpected {unexpected}")
    model.tie_weights()
    return Candidate("SmolLM2-135M-Instruct (Q4_1)", model.to(device).eval(), tokenizer, (END, IM_END))


def prompt_list(count: int, seed: int = 77) -> list[tuple[str, str]]:
    """(kind, text) pairs; openings of stories and requests take turns."""
    rng = random.Random(seed)
    out = []
    for i in range(count):
        slots = cast(rng)
        if i % 2 == 0:
            out.append(("opening", expand(rng.choice(OPENINGS), slots, rng)))
        else:
            article = "an" if slots["kind"][0] in "aeio" else "a"
            out.append(("request", request(rng, f"{article} {slots['kind']} named {slots['N']}")))
    return out


@torch.no_grad()
def complete(
    candidate: Candidate, texts: list[str], new_tokens: int, temperature: float, seed: int
) -> list[tuple[str, bool]]:
    """(continuation, whether an end token came) of every text, sampled from the whole distribution."""
    torch.manual_seed(seed)
    encoded = [e.ids for e in candidate.tokenizer.encode_batch(texts, add_special_tokens=False)]
    longest = max(map(len, encoded))
    device = candidate.model.device
    pad = candidate.ends[0]
    ids = torch.tensor([[pad] * (longest - len(e)) + e for e in encoded], device=device)
    mask = torch.tensor([[0] * (longest - len(e)) + [1] * len(e) for e in encoded], device=device)
    result = candidate.model.generate(
        input_ids=ids,
        attention_mask=mask,
        do_sample=True,
        temperature=temperature,
        top_k=0,
        top_p=1.0,
        max_new_tokens=new_tokens,
        eos_token_id=list(candidate.ends),
        pad_token_id=pad,
    )
    out = []
    for row in result[:, longest:].tolist():
        cut = next((i for i, token in enumerate(row) if token in candidate.ends), len(row))
        out.append((candidate.tokenizer.decode(row[:cut]), cut < len(row)))
    return out


def quality(
    candidate: Candidate, prompts: list[tuple[str, str]], new_tokens: int, temperature: float = 0.8
) -> dict[str, Any]:
    samples: list[dict[str, Any]] = []
    for start in tqdm(range(0, len(prompts), 100), desc=candidate.name):
        part = prompts[start : start + 100]
        texts = [
            text if kind == "opening" else render([("user", text)]) + "<|im_start|>assistant\n" for kind, text in part
        ]
        for (kind, text), (answer, ended) in zip(
            part, complete(candidate, texts, new_tokens, temperature, 1 + start), strict=True
        ):
            samples.append({"kind": kind, "prompt": text, "text": answer, "ended": ended})
    return score(samples, temperature)


def score(samples: list[dict[str, Any]], temperature: float) -> dict[str, Any]:
    """The measures over samples with the keys kind, prompt, text and ended; an opening counts as part of its story."""
    whole = [s["prompt"] + s["text"] if s["kind"] == "opening" else s["text"] for s in samples]
    words = [w for text in whole for w in words_of(text)]
    return {
        "samples": len(samples),
        "temperature": temperature,
        "ends_properly": sum(s["ended"] and ends_properly(t) for s, t in zip(samples, whole, strict=True))
        / len(samples),
        "loops": sum(map(loops, whole)) / len(samples),
        **{f"distinct_{n}": distinct(words, n) for n in (1, 2, 3)},
        "distinct_3_within": float(np.mean([distinct(words_of(text), 3) for text in whole])),
        "mean_words": len(words) / len(samples),
        "texts": samples,
    }


@torch.no_grad()
def held_out(candidate: Candidate, texts: list[str]) -> dict[str, float]:
    """Perplexity a token and bits a byte over `texts`, each on its own; a text's first token is given."""
    nats, tokens, size = 0.0, 0, 0
    for text in texts:
        ids = torch.tensor(
            [candidate.tokenizer.encode(text, add_special_tokens=False).ids[:1024]], device=candidate.model.device
        )
        logits = candidate.model(input_ids=ids).logits[0, :-1].float()
        nats += torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum").item()
        tokens += ids.shape[1] - 1
        size += len(text.encode())
    return {"perplexity": math.exp(nats / tokens), "bits_per_byte": nats / math.log(2) / size}


def held_out_texts(corpus_folder: Path, source: int, limit: int) -> list[str]:
    """Held-out documents of one source in plain form."""
    corpus = Corpus(corpus_folder / "corpus.npz")
    tokenizer = Tokenizer.from_file(str(corpus_folder / "tokenizer.json"))
    out = []
    for i in np.flatnonzero(corpus.held & (corpus.source == source)):
        text = tokenizer.decode(
            corpus.tokens[corpus.offsets[i] : corpus.offsets[i + 1] - 1].tolist(), skip_special_tokens=False
        )
        if "<|im_start|>" not in text:
            out.append(text)
        if len(out) == limit:
            break
    return out


def evaluate(
    model: Path, weights: Path | None, corpus: Path, out: Path, device: str, count: int = 200, new_tokens: int = 400
) -> dict[str, Any]:
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    makers: list[Callable[[], Candidate]] = [lambda: ours(model, device, dtype)]
    if weights:
        makers.append(lambda: smollm2(weights, device, dtype))
    prompts = prompt_list(count)
    results: dict[str, Any] = {}
    for make in makers:
        candidate = make()
        result = quality(candidate, prompts, new_tokens)
        for source, name in ((0, "writer"), (1, "grammar"), (3, "books")):
            texts = held_out_texts(corpus, source, max(4, count // 2))
            if texts:
                result[f"held_out_{name}"] = held_out(candidate, texts)
        results[candidate.name] = result
        out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")  # kept even if the next one fails
        print(candidate.name, {k: v for k, v in result.items() if k != "texts"}, flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--new-tokens", type=int, default=400)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    a = parser.parse_args()
    evaluate(a.model, a.weights, a.corpus, a.out, a.device, a.count, a.new_tokens)


if __name__ == "__main__":
    main()
