"""Make `tests/golden/smollm2.json`: `python -m tests.golden.make_smollm2 SmolLM2-135M-Instruct.Q4_1.gguf`.

transformers loads the GGUF file, dequantised to float32, and continues each prompt of `smollm2_prompts.json` greedily
by 64 tokens, end-of-sequence or not. Needs PyTorch and transformers. The file made is one JSON object:

    model      name and sha256 of the GGUF file
    answers    by prompt name: `prompt` (the text, chat template applied), `prompt_ids`, `ids`, `text` (of `ids`), and
               `margins` (by how much the best logit of each step exceeded the second)

A margin near zero would make the answer depend on the order of a sum; the script refuses prompts with one.
"""

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from tests import golden, oracle

SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
PROMPTS = golden.FOLDER / "smollm2_prompts.json"
NEW_TOKENS = 64
SMALLEST_MARGIN = 2e-3


def tokenizer_of(path: Path) -> tuple[tokenizers.Tokenizer, str]:
    """The tokenizer and the chat template in a GGUF file of SmolLM2: byte-level BPE, digits one by one."""
    import gguf

    fields = gguf.GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"].contents()]
    kinds = fields["tokenizer.ggml.token_type"].contents()
    tokenizer = tokenizers.Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([token for token, kind in zip(tokens, kinds, strict=True) if kind == 3])
    return tokenizer, fields["tokenizer.chat_template"].contents()


def render(prompt: dict[str, Any], template: str) -> str:
    """A prompt's text, with the chat template applied where it is a conversation."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    if "text" in prompt:
        return str(prompt["text"])
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(messages=prompt["messages"], add_generation_prompt=True)


def answer(model: Any, prompt_ids: list[int], count: int = NEW_TOKENS) -> tuple[list[int], list[float]]:
    """The `count` tokens that follow greedily, and each step's margin between the best two logits."""
    import torch

    ids: list[int] = []
    margins: list[float] = []
    new, past = torch.tensor([prompt_ids]), None
    with torch.no_grad():
        for _ in range(count):
            step = model(new, past_key_values=past, use_cache=True, logits_to_keep=1)
            past = step.past_key_values
            best = step.logits[0, -1].topk(2)
            ids.append(int(best.indices[0]))
            margins.append(round(float(best.values[0] - best.values[1]), 4))
            new = best.indices[None, :1]
    return ids, margins


def main() -> None:
    """Write the file and print each answer."""
    parser = argparse.ArgumentParser(description="Make tests/golden/smollm2.json.")
    parser.add_argument("gguf", type=Path, help="SmolLM2-135M-Instruct.Q4_1.gguf")
    path: Path = parser.parse_args().gguf
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != SHA256:
        raise SystemExit(f"{path} has the sha256 {digest}, not {SHA256}")
    model = oracle.load(path.parent, gguf_file=path.name)
    tokenizer, template = tokenizer_of(path)
    answers: dict[str, Any] = {}
    for prompt in json.loads(PROMPTS.read_text()):
        text = render(prompt, template)
        prompt_ids = tokenizer.encode(text).ids
        ids, margins = answer(model, prompt_ids)
        print(f"{prompt['name']}: {len(prompt_ids)} tokens, smallest margin {min(margins)}: {tokenizer.decode(ids)!r}")
        if min(margins) < SMALLEST_MARGIN:
            raise SystemExit(f"{prompt['name']}: a margin of {min(margins)} decides by rounding: change the prompt")
        answers[prompt["name"]] = {
            "prompt": text,
            "prompt_ids": prompt_ids,
            "ids": ids,
            "text": tokenizer.decode(ids, skip_special_tokens=False),
            "margins": margins,
        }
    lines = [f"  {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in answers.items()]
    head = json.dumps({"name": path.name, "sha256": digest})
    golden.SMOLLM2.write_text(f'{{"model": {head}, "answers": {{\n' + ",\n".join(lines) + "\n}}\n")


if __name__ == "__main__":
    main()
