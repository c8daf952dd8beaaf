"""The embedded model: the default, small, the same greedy tokens in the engine and in transformers (float32)."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from mili import models
from mili.launch import Launch, default_model
from mili.sampling import SamplingParams
from tests import golden
from tests.golden import make_mili_tiny

ANSWERS = golden.mili_tiny()["answers"]


@pytest.fixture(scope="module")
def engine():
    with ThreadPoolExecutor(1) as thread:  # as a server loads a model: not in the main thread
        return thread.submit(Launch(dtype="float32", num_pages=64).engine).result()


def test_it_is_the_default_and_small():
    assert default_model() == models.EMBEDDED
    assert models.embedded() == golden.MILI_TINY_FOLDER
    assert sum(file.stat().st_size for file in golden.MILI_TINY_FOLDER.iterdir()) <= 16e6


def test_the_stored_answers_are_of_these_weights():
    weights = (golden.MILI_TINY_FOLDER / "model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == golden.mili_tiny()["sha256"]
    assert set(ANSWERS) <= set(make_mili_tiny.PROMPTS)
    assert len(ANSWERS) >= 5


def test_the_engine_gives_the_tokens_of_transformers(engine):
    greedy = SamplingParams(temperature=0, max_tokens=make_mili_tiny.NEW_TOKENS, ignore_eos=True)
    outputs = engine.generate(list(ANSWERS), greedy, progress=False)
    for output, answer in zip(outputs, ANSWERS.values(), strict=True):
        assert output.prompt_ids == answer["prompt_ids"]
        assert output.outputs[0].token_ids == answer["ids"]


def test_a_story_ends_by_itself(engine):
    asked = "<|im_start|>user\nTell me a story about a brave dog.<|im_end|>\n<|im_start|>assistant\n"
    answer = engine.generate(asked, SamplingParams(temperature=0, max_tokens=600), progress=False)[0].outputs[0]
    assert answer.finish_reason == "stop"
    assert answer.text.rstrip().endswith((".", "!", '"'))
    assert 50 <= len(answer.text.split()) <= 300


@pytest.mark.oracle
def test_transformers_loads_the_folder_unchanged():
    """Its greedy tokens today are the stored ones."""
    for prompt, answer in make_mili_tiny.answers(ANSWERS).items():
        assert answer["prompt_ids"] == ANSWERS[prompt]["prompt_ids"]
        assert answer["ids"] == ANSWERS[prompt]["ids"]
