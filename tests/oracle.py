"""The independent judge: the small models run by transformers, float32 or bfloat16, with its plain attention.

PyTorch and transformers are imported inside the functions: most tests need the stored results alone.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests import tiny_models


def load(folder: Path, dtype: str = "float32", **options: Any) -> Any:
    """The model of a folder as transformers loads it, with eager attention.

    It is loaded in the dtype, not converted after loading: that would round RoPE's frequencies to bfloat16 too.

    Args:
        folder: A Hugging Face folder.
        dtype: float32 or bfloat16.
        options: More arguments of `from_pretrained`.
    """
    import torch
    from transformers import AutoModelForCausalLM, logging

    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=getattr(torch, dtype), attn_implementation="eager", local_files_only=True, **options
    )
    return model.eval()


def logits(name: str, tokens: NDArray[np.int32], dtype: str = "float32") -> NDArray[np.float32]:
    """What transformers computes for a case of `tiny_models`.

    Args:
        name: The case.
        tokens: [T].
        dtype: What it computes in, float32 or bfloat16; the weights are the same numbers in both.

    Returns:
        Logits [T, V], float32.
    """
    import torch

    with tempfile.TemporaryDirectory() as folder:
        model = load(tiny_models.write_folder(Path(folder), name), dtype)
    expected = "Qwen3ForCausalLM" if name.startswith("qwen3") else "LlamaForCausalLM"
    assert type(model).__name__ == expected
    with torch.no_grad():
        out = model(torch.from_numpy(tokens)[None].long()).logits[0]
    result: NDArray[np.float32] = out.float().numpy()
    return result


def largest_error(actual: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """The largest difference as a share of the largest expected logit."""
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def rms_error(actual: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """The root mean square of the differences as a share of the largest expected logit."""
    return float(np.sqrt(np.mean((actual - expected) ** 2)) / np.abs(expected).max())
