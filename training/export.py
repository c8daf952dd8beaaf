"""A checkpoint to a Hugging Face folder: `python -m training.export`."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from training.model import Shape
from training.tokenizer import END_OF_TEXT, END_OF_TURN, token_id


def export(checkpoint: Path, tokenizer_folder: Path, out: Path) -> None:
    """config.json, generation_config.json, model.safetensors (bfloat16, tied embeddings), the tokenizer's files."""
    out.mkdir(parents=True, exist_ok=True)
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    shape = Shape(**state["shape"])
    weights = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in state["model"].items()}
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(tokenizer_folder / name, out / name)
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    end, im_end = token_id(tokenizer, END_OF_TEXT), token_id(tokenizer, END_OF_TURN)
    generation = {
        "bos_token_id": end, "do_sample": True, "eos_token_id": [im_end, end], "pad_token_id": end,
        "temperature": 0.7, "top_k": 20, "top_p": 0.9,
    }  # fmt: skip
    for name, content in (("config.json", shape.config(end, im_end)), ("generation_config.json", generation)):
        (out / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    a = parser.parse_args()
    export(a.checkpoint, a.tokenizer, a.out)


if __name__ == "__main__":
    main()
