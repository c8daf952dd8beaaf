"""SmolLM2 in float32, greedy, token for token what transformers gives from the same weights (`tests/golden`)."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mili.config import Qwen3Config
from mili.device import select_device
from mili.model import Qwen3Model
from mili.models import resolve
from mili.tokenizer import QwenTokenizer
from mili.weights import WeightLoader
from tests import golden, oracle
from tests.engine.stepper import Running, cache_for, generate, step

pytestmark = pytest.mark.timeout(1800)  # the first test may fetch the weights and compile

Answers = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def model() -> Qwen3Model:
    """SmolLM2, float32, on the CPU."""
    path = resolve("smollm2").path
    config = Qwen3Config.from_pretrained(path)
    tensors = WeightLoader(path, config).load("float32", packed=True)
    device = select_device("cpu")
    return Qwen3Model(config, tensors, device=device, dtype="float32", max_positions=1024)


@pytest.fixture(scope="module")
def answers() -> Answers:
    """The stored answers by prompt."""
    stored: Answers = golden.smollm2()["answers"]
    return stored


def differing(answers: Answers, outputs: list[list[int]]) -> dict[str, str]:
    """Where an output leaves the stored answer, with the margin that the stored answer had there."""
    found = {}
    for (name, stored), output in zip(answers.items(), outputs, strict=True):
        if output != stored["ids"]:
            at = next(i for i, pair in enumerate(zip(output, stored["ids"], strict=True)) if pair[0] != pair[1])
            found[name] = f"token {at}: {output[at]}, not {stored['ids'][at]} (margin {stored['margins'][at]})"
    return found


def test_the_goldens_are_what_they_are_said_to_be(answers: Answers) -> None:
    assert len(answers) == 20
    assert sum(len(stored["prompt_ids"]) > 500 for stored in answers.values()) >= 5
    assert sum("<|im_start|>" in stored["prompt"] for stored in answers.values()) >= 5
    assert all(len(stored["ids"]) == 64 for stored in answers.values())
    assert answers["capital"]["text"].startswith("The capital of France is Paris.")


def test_the_tokenizer_gives_the_stored_ids(answers: Answers) -> None:
    tokenizer = QwenTokenizer.from_pretrained(resolve("smollm2").path)
    for name, stored in answers.items():
        assert tokenizer.encode(stored["prompt"]) == stored["prompt_ids"], name


def test_prompts_run_whole_give_the_stored_tokens(model: Qwen3Model, answers: Answers) -> None:
    outputs = generate(model, [stored["prompt_ids"] for stored in answers.values()], 64)
    assert differing(answers, outputs) == {}


def test_prompts_run_in_chunks_give_the_stored_tokens(model: Qwen3Model, answers: Answers) -> None:
    """Every step takes a chunk of a random size of each prompt, so that prefill, chunks and decode share batches."""
    rng = np.random.default_rng(0)
    sizes = [1, 2, 7, 16, 17, 33, 64, 150, 600]

    def chunk(left: int) -> int:
        return min(left, int(rng.choice(sizes)))

    outputs = generate(model, [stored["prompt_ids"] for stored in answers.values()], 64, chunk)
    assert differing(answers, outputs) == {}


@pytest.mark.parametrize(("name", "size"), [("unicode", 1), ("alice_long", 16), ("alice_long", 50), ("bank_long", 511)])
def test_a_prompt_in_equal_chunks_gives_the_same_bits(
    model: Qwen3Model, answers: Answers, name: str, size: int
) -> None:
    prompt = answers[name]["prompt_ids"]
    logits = []
    chunks: list[Callable[[int], int]] = [lambda left: left, lambda left: min(left, size)]
    for chunk in chunks:
        cache, running = cache_for(model, len(prompt)), Running(prompt)
        while running.seen < len(prompt):
            output = step(model, cache, [(running, chunk(len(prompt) - running.seen))])
        logits.append(output.logits)
    np.testing.assert_array_equal(logits[1], logits[0])


@pytest.mark.oracle
def test_transformers_still_gives_the_stored_tokens_and_these_logits(model: Qwen3Model, answers: Answers) -> None:
    import torch

    from tests.golden.make_smollm2 import answer

    path = resolve("smollm2").path
    theirs = oracle.load(path.parent, gguf_file=path.name)
    for name in ("capital", "unicode", "one_token"):
        assert answer(theirs, answers[name]["prompt_ids"], 16)[0] == answers[name]["ids"][:16]
    tokens = np.random.default_rng(7).integers(0, model.config.vocab_size, 300, dtype=np.int32)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(tokens)[None].long()).logits[0].numpy()
    output = step(model, cache_for(model, 300), [(Running(tokens), 300)], all_rows=True)
    assert oracle.largest_error(output.logits, expected) < 1e-4
