"""The reference model against transformers: stored results, and live (`-m oracle`)."""

import numpy as np
import pytest

from reference.model import ModelConfig, ReferenceModel
from tests import golden, oracle, tiny_models

TOLERANCE = 1e-4  # of the largest logit


def reference(name: str, form: tiny_models.RopeForm = "old") -> ReferenceModel:
    config = tiny_models.CASES[name]
    weights = tiny_models.random_weights(config, tiny_models.seed_of(name))
    return ReferenceModel(ModelConfig.from_dict(tiny_models.rope_form(config, form)), weights)


def test_a_golden_is_stored_for_every_case() -> None:
    assert set(golden.tiny()) == set(tiny_models.CASES)
    assert golden.TINY.stat().st_size < 1_000_000


@pytest.mark.parametrize("name", tiny_models.CASES)
def test_logits_are_those_of_transformers(name: str) -> None:
    stored = golden.tiny()[name]
    logits = reference(name).forward(stored.tokens)
    assert logits.dtype == np.float32
    assert oracle.largest_error(logits[stored.rows], stored.logits) < TOLERANCE


@pytest.mark.parametrize("name", tiny_models.CASES)
def test_both_forms_of_the_rope_configuration_mean_the_same(name: str) -> None:
    tokens = golden.tiny()[name].tokens[:40]
    np.testing.assert_array_equal(reference(name).forward(tokens), reference(name, "new").forward(tokens))


@pytest.mark.parametrize("name", ["qwen3_window", "qwen3_ratio4", "llama_yarn"])
@pytest.mark.parametrize("cuts", [[1], [20], [8, 9, 40], list(range(1, 77))])
def test_a_prompt_in_chunks_gives_the_logits_of_the_whole(name: str, cuts: list[int]) -> None:
    model, tokens = reference(name), golden.tiny()[name].tokens[:77]
    cache = model.new_cache(77)
    parts = [model.forward(part, cache) for part in np.split(tokens, cuts)]
    assert cache.length == 77
    assert oracle.largest_error(np.concatenate(parts), model.forward(tokens)) < 1e-5


def test_generate_takes_the_likeliest_token_of_the_whole_context() -> None:
    model = reference("qwen3_ratio2")
    tokens = golden.tiny()["qwen3_ratio2"].tokens[:9]
    for token in model.generate(tokens, 6):
        assert token == np.argmax(model.forward(tokens)[-1])
        tokens = np.append(tokens, token)


@pytest.mark.oracle
@pytest.mark.parametrize("name", tiny_models.CASES)
def test_logits_are_those_of_transformers_live(name: str) -> None:
    stored = golden.tiny()[name]
    exact = oracle.logits(name, stored.tokens)
    assert oracle.largest_error(exact[stored.rows], stored.logits) < 1e-5  # the stored results can still be made
    assert oracle.largest_error(reference(name).forward(stored.tokens), exact) < TOLERANCE
