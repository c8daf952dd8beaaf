"""The engine's model against transformers on the small random models: stored logits, and live (`-m oracle`)."""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from mili.model import Qwen3Model
from tests import golden, oracle, tiny_models
from tests.engine.stepper import Running, cache_for, step
from tests.engine.together import Together

pytestmark = pytest.mark.timeout(1800)  # the first test compiles all the graphs

FLOAT32_TOLERANCE = 1e-4  # of the largest logit
FLOAT32_CASES = list(tiny_models.CASES)
BFLOAT16_CASES = [  # the others differ from one of these in their RoPE table alone, or in the number of layers
    "qwen3_ratio1",
    "qwen3_ratio2",
    "qwen3_ratio4",
    "qwen3_ratio8",
    "qwen3_separate_head",
    "qwen3_wide_heads",
    "qwen3_odd_sizes",
    "qwen3_window",
    "llama_ratio3_tied",
    "llama_ratio8",
    "llama_odd_heads",
    "llama_yarn",
]
Models = dict[str, Qwen3Model]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """The cases by "dtype_name"; every second one is read from the new form of the RoPE configuration."""
    together = Together()
    for index, name in enumerate(FLOAT32_CASES):
        form: tiny_models.RopeForm = "old" if index % 2 else "new"
        folder = tiny_models.write_folder(tmp_path_factory.mktemp(name), name, "float32", form)
        together.add(f"float32_{name}", folder, "float32", page_size=8)
    for name in BFLOAT16_CASES:
        folder = tiny_models.write_folder(tmp_path_factory.mktemp(name), name, "bfloat16")
        together.add(f"bfloat16_{name}", folder, "bfloat16", page_size=16)
    return together.compile()


def logits_of(model: Qwen3Model, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
    """Logits after every token, the prompt run at once, [T, V]."""
    output = step(model, cache_for(model, len(tokens)), [(Running(tokens), len(tokens))], all_rows=True)
    np.testing.assert_array_equal(output.tokens, output.logits.argmax(axis=-1))
    return output.logits


@pytest.mark.parametrize("name", FLOAT32_CASES)
def test_float32_logits_are_those_of_transformers(models: Models, name: str) -> None:
    stored = golden.tiny()[name]
    logits = logits_of(models[f"float32_{name}"], stored.tokens)
    assert oracle.largest_error(logits[stored.rows], stored.logits) < FLOAT32_TOLERANCE


@pytest.mark.parametrize("name", BFLOAT16_CASES)
def test_bfloat16_errs_no_more_than_transformers_does(models: Models, name: str) -> None:
    """Over the whole prompt, as the stored errors are; the float32 logits are the engine's own, tested above.

    The root mean square must not exceed that of transformers. The largest of some 16,000 differences is a matter of
    chance, and gets room.
    """
    stored = golden.tiny()[name]
    exact = logits_of(models[f"float32_{name}"], stored.tokens)
    logits = logits_of(models[f"bfloat16_{name}"], stored.tokens)
    rms, largest = oracle.rms_error(logits, exact), oracle.largest_error(logits, exact)
    print(f"{name}: rms {rms:.4f} of {stored.bfloat16_rms:.4f}, largest {largest:.4f} of {stored.bfloat16_largest:.4f}")
    assert rms <= stored.bfloat16_rms
    assert largest <= 1.5 * stored.bfloat16_largest


def cuts(length: int) -> Iterator[list[int]]:
    """Ways to cut a prompt into chunks: at page boundaries, beside them, one by one."""
    yield [8, 16, 40]
    yield [1, 7, 9, 17, 33]
    yield [length - 1]
    yield list(range(1, length))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["qwen3_odd_sizes", "qwen3_window", "qwen3_ratio8", "llama_yarn"])
def test_any_split_of_the_prompt_gives_the_same_bits(models: Models, name: str, dtype: str) -> None:
    model = models[f"{dtype}_{name}"]
    tokens = golden.tiny()[name].tokens
    whole = logits_of(model, tokens)
    for split in cuts(len(tokens)):
        cache, running = cache_for(model, len(tokens)), Running(tokens)
        sizes = np.diff([0, *split, len(tokens)])
        parts = [step(model, cache, [(running, int(size))], all_rows=True).logits for size in sizes]
        np.testing.assert_array_equal(np.concatenate(parts), whole, err_msg=f"chunks of {sizes.tolist()}")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["qwen3_odd_sizes", "qwen3_window", "llama_ratio3_tied"])
def test_a_mixed_batch_gives_the_bits_of_each_request_alone(models: Models, name: str, dtype: str) -> None:
    model = models[f"{dtype}_{name}"]
    prompts = [tiny_models.random_prompt(tiny_models.CASES[name], length, length) for length in (40, 1, 23, 9)]
    alone = [logits_of(model, prompt) for prompt in prompts]
    cache = cache_for(model, sum(len(prompt) + model.page_size for prompt in prompts))
    running = [Running(prompt) for prompt in prompts]
    seen: list[list[NDArray[np.float32]]] = [[] for _ in prompts]
    # prefill beside a chunk; decode beside prefill; a chunk beside decode beside a whole prompt; with padding
    for counts, padding in (((39, 0, 16, 0), 0), ((1, 1, 6, 0), 3), ((0, 0, 1, 9), 1)):
        work = [(sequence, count) for sequence, count in zip(running, counts, strict=True) if count]
        logits = step(model, cache, work, all_rows=True, padding=padding).logits
        for index, count in enumerate(counts):
            seen[index].append(logits[:count])
            logits = logits[count:]
    for index, parts in enumerate(seen):
        np.testing.assert_array_equal(np.concatenate(parts), alone[index], err_msg=f"request {index}")


@pytest.mark.oracle
@pytest.mark.parametrize("name", FLOAT32_CASES)
def test_logits_are_those_of_transformers_live(models: Models, name: str) -> None:
    tokens = tiny_models.random_prompt(tiny_models.CASES[name], 150, seed=99)
    exact = oracle.logits(name, tokens)
    assert oracle.largest_error(logits_of(models[f"float32_{name}"], tokens), exact) < FLOAT32_TOLERANCE
    if name in BFLOAT16_CASES:
        theirs = oracle.rms_error(oracle.logits(name, tokens, "bfloat16"), exact)
        assert oracle.rms_error(logits_of(models[f"bfloat16_{name}"], tokens), exact) <= theirs
