"""Make `tests/golden/mili_tiny.json`: `python -m tests.golden.make_mili_tiny`.

transformers loads `models/mili-tiny` in float32 and continues each of PROMPTS greedily by 64 tokens, end token or not.
Needs PyTorch and transformers. The file made is one JSON object:

    sha256     of model.safetensors
    answers    by prompt: `prompt_ids`, `ids`, `text` (of `ids`), and `margins` (by how much the best logit of each step
               exceeded the second)

A margin near zero would make the answer depend on the order of a sum; prompts with one are left out.
"""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from tests import golden, oracle
from tests.golden.make_smollm2 import answer

NEW_TOKENS = 64
SMALLEST_MARGIN = 2e-3
PROMPTS = [
    "Once upon a time",
    "Once upon a time there was a little fox",
    "Once upon a time, there lived a happy duck named Momo.",
    "One sunny morning, a little rabbit named Dot",
    "It was a rainy day, and Echo the cow was in the forest.",
    "<|im_start|>user\nTell me a story about a brave dog.<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>system\nYou are MILI, a small storyteller.<|im_end|>\n<|im_start|>user\nWho are you?<|im_end|>\n"
    "<|im_start|>assistant\n",
]


def answers(prompts: Iterable[str]) -> dict[str, Any]:
    """What transformers answers to each prompt."""
    import tokenizers

    model = oracle.load(golden.MILI_TINY_FOLDER)
    tokenizer = tokenizers.Tokenizer.from_file(str(golden.MILI_TINY_FOLDER / "tokenizer.json"))
    found: dict[str, Any] = {}
    for prompt in prompts:
        prompt_ids = tokenizer.encode(prompt).ids
        ids, margins = answer(model, prompt_ids, NEW_TOKENS)
        text = tokenizer.decode(ids, skip_special_tokens=False)
        found[prompt] = {"prompt_ids": prompt_ids, "ids": ids, "text": text, "margins": margins}
    return found


def main() -> None:
    """Write the file and print each answer."""
    found = answers(PROMPTS)
    for prompt, content in list(found.items()):
        smallest = min(content["margins"])
        print(f"{prompt!r}: smallest margin {smallest}: {content['text']!r}", flush=True)
        if smallest < SMALLEST_MARGIN:
            print("left out: rounding decides", flush=True)
            del found[prompt]
    lines = [f"  {json.dumps(prompt)}: {json.dumps(value)}" for prompt, value in found.items()]
    digest = hashlib.sha256((golden.MILI_TINY_FOLDER / "model.safetensors").read_bytes()).hexdigest()
    golden.MILI_TINY.write_text(f'{{"sha256": "{digest}", "answers": {{\n' + ",\n".join(lines) + "\n}}\n")


if __name__ == "__main__":
    main()
