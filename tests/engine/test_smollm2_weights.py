"""SmolLM2's real GGUF file: the same tensors as transformers makes of it, which then answers sensibly."""

import numpy as np
import pytest

from mili import models
from mili.config import Qwen3Config
from mili.tokenizer import QwenTokenizer
from mili.weights import WeightLoader
from tests.engine.test_weights import expected_tensors, rows_of


@pytest.mark.oracle
def test_tensors_and_answer_of_transformers() -> None:
    import torch
    from transformers import AutoModelForCausalLM

    path = models.resolve("smollm2").path
    theirs = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()
    config = Qwen3Config.from_pretrained(path)
    expected = expected_tensors(config, {name: w.numpy() for name, w in theirs.state_dict().items()})
    loaded = WeightLoader(path, config).load("float32", packed=True)
    assert set(loaded) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(rows_of(loaded[name], values.shape), values, err_msg=name)

    tokenizer = QwenTokenizer.from_pretrained(path)
    prompt = tokenizer.encode_chat([{"role": "user", "content": "What is the capital of France?"}])
    with torch.no_grad():
        answer = theirs.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False)[0, len(prompt) :]
    assert tokenizer.decode(answer.tolist()) == "The capital of France is Paris."
    assert answer[-1] in config.eos_token_ids
