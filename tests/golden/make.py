"""Make `tests/golden/tiny.npz`: `python -m tests.golden.make`.

Runs every case of `tests.tiny_models` through transformers in float32 and in bfloat16. Needs PyTorch and transformers.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests import golden, oracle, tiny_models

PROMPT_LENGTH = {"qwen3_long_theta": 300, "llama_linear": 200, "llama_llama3": 200}
ROWS_KEPT = 10


def prompt_of(name: str) -> NDArray[np.int32]:
    """The prompt of a case, [T]: 77 tokens, or more where the case is about long contexts."""
    return tiny_models.random_prompt(tiny_models.CASES[name], PROMPT_LENGTH.get(name, 77), tiny_models.seed_of(name))


def main() -> None:
    """Write the file and print what it says."""
    arrays: dict[str, Any] = {}
    for name in tiny_models.CASES:
        tokens = prompt_of(name)
        exact = oracle.logits(name, tokens)
        rounded = oracle.logits(name, tokens, "bfloat16")
        rows = np.linspace(0, len(tokens) - 1, ROWS_KEPT).astype(np.int32)
        errors = [oracle.largest_error(rounded, exact), oracle.rms_error(rounded, exact)]
        arrays |= {f"{name}/tokens": tokens, f"{name}/rows": rows, f"{name}/logits": exact[rows]}
        arrays[f"{name}/bfloat16"] = np.array(errors)
        print(f"{name:30} bfloat16 error: largest {errors[0]:.4f}, rms {errors[1]:.4f}")
    np.savez_compressed(golden.TINY, **arrays)
    print(f"{golden.TINY.name}: {golden.TINY.stat().st_size} bytes")


if __name__ == "__main__":
    main()
