"""Stored results of transformers, which tests compare with where PyTorch is not wanted.

`tiny.npz` is made by `python -m tests.golden.make`, `smollm2.json` by `python -m tests.golden.make_smollm2`,
`mili_tiny.json` by `python -m tests.golden.make_mili_tiny`.
"""

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).parent
TINY = FOLDER / "tiny.npz"
SMOLLM2 = FOLDER / "smollm2.json"
MILI_TINY = FOLDER / "mili_tiny.json"
MILI_TINY_FOLDER = FOLDER.parents[1] / "models" / "mili-tiny"


@dataclass(frozen=True)
class Golden:
    """What transformers gave for one case of `tests.tiny_models`.

    Attributes:
        tokens: The prompt, [T] int32.
        rows: Indices into the prompt of the tokens whose logits are kept, [R], ascending, the last token included.
        logits: At these, [R, V] float32.
        bfloat16_largest, bfloat16_rms: How far transformers' own bfloat16 logits lie from its float32 ones over the
            whole prompt: largest difference and root mean square, as shares of the largest float32 logit.
    """

    tokens: NDArray[np.int32]
    rows: NDArray[np.int32]
    logits: NDArray[np.float32]
    bfloat16_largest: float
    bfloat16_rms: float


@functools.cache
def tiny() -> dict[str, Golden]:
    """The stored results by case."""
    with np.load(TINY) as file:
        names = sorted({key.split("/")[0] for key in file.files})
        return {
            name: Golden(
                file[f"{name}/tokens"],
                file[f"{name}/rows"],
                file[f"{name}/logits"],
                *(float(error) for error in file[f"{name}/bfloat16"]),
            )
            for name in names
        }


@functools.cache
def smollm2() -> dict[str, Any]:
    """The stored greedy answers of SmolLM2: see `tests/golden/make_smollm2.py`."""
    content: dict[str, Any] = json.loads(SMOLLM2.read_text())
    return content


@functools.cache
def mili_tiny() -> dict[str, Any]:
    """The stored greedy answers of the embedded model: see `tests/golden/make_mili_tiny.py`."""
    content: dict[str, Any] = json.loads(MILI_TINY.read_text())
    return content
