"""Every step of every ladder passes the tests of the final kernel: the same bodies, the same bounds, fewer examples."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.native import steps as native
from benchmarks.native.steps import STEPS
from tests.kernels import test_attention as attention
from tests.kernels import test_rope as rope
from tests.kernels import test_rows as rows_tests
from tests.kernels import test_sample as sampling
from tests.kernels.harness import HEADS, Heads
from tests.kernels.steps import HEAD_DIMS, StepKernels


def body(test: Callable[..., None]) -> Callable[..., None]:
    """A property's test function without the examples that it was given."""
    inner: Callable[..., None] = test.hypothesis.inner_test  # type: ignore[attr-defined]
    return inner


def every_step(ladder: str) -> pytest.MarkDecorator:
    """Once for each step of a ladder."""
    return pytest.mark.parametrize("step", [StepKernels(ladder, s) for s in STEPS[ladder]], ids=list(STEPS[ladder]))


every_heads = pytest.mark.parametrize("heads", [h for h in HEADS if h.D in HEAD_DIMS], ids=lambda h: h.name)
ATTENTION = [StepKernels("attention", s) for s in dict.fromkeys((*STEPS["prefill"], *STEPS["decode"]))]
every_attention = pytest.mark.parametrize("step", ATTENTION, ids=lambda s: s.step)


@every_step("rms_norm")
@given(rows=rows_tests.rows_of, width=rows_tests.widths, magnitude=rows_tests.magnitudes, seed=rows_tests.seeds)
@example(rows=1, width=1, magnitude=1e3, seed=0)
@settings(max_examples=30)
def test_rms_norm(step: Any, **case: Any) -> None:
    body(rows_tests.test_add_rms_norm)(step, **case)


@every_step("swiglu")
@given(rows=rows_tests.rows_of, width=rows_tests.widths, magnitude=rows_tests.magnitudes, seed=rows_tests.seeds)
@example(rows=1, width=1, magnitude=1e3, seed=0)
@settings(max_examples=30)
def test_swiglu(step: Any, **case: Any) -> None:
    body(rows_tests.test_swiglu)(step, **case)


@every_step("argmax")
@given(rows=rows_tests.rows_of, width=rows_tests.widths, seed=rows_tests.seeds, values=st.integers(1, 50))
@example(rows=1, width=1, seed=0, values=1)
@example(rows=3, width=151936, seed=0, values=50)
@settings(max_examples=30)
def test_argmax(step: Any, **case: Any) -> None:
    body(rows_tests.test_argmax_takes_the_lowest_index_among_equals)(step, **case)


@every_step("argmax")
@pytest.mark.parametrize("width", [1, 15, 16, 17, 300])
def test_argmax_of_infinities_and_nan(step: Any, width: int) -> None:
    rows_tests.test_argmax_of_infinities_and_nan(step, width)


@every_step("sample")
@given(
    rows=st.integers(1, 30),
    width=st.one_of(st.integers(1, 80), st.sampled_from([255, 256, 257, 1000, 4096])),
    spread=st.sampled_from([0.0, 0.3, 3.0, 30.0]),
    rounded=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=30)
def test_sample(step: Any, **case: Any) -> None:
    body(sampling.test_sample_is_the_reference)(step, **case)


@every_step("sample")
def test_sample_of_what_is_no_number(step: Any) -> None:
    sampling.test_logits_that_are_no_numbers_give_no_token(step, 37)
    sampling.test_tokens_come_as_often_as_their_probability(step)


@pytest.mark.parametrize("width", [1000, 5001, 49152])
@pytest.mark.parametrize("spread", [0.01, 1.0, 10.0, 300.0])
def test_what_sampling_leaves_out_changes_no_token(width: int, spread: float) -> None:
    """The steps that count everything and the ones that skip blocks and registers draw the same, to the bit."""
    rng = np.random.default_rng(int(width * spread))
    rows, blocks = 64, -(-width // 256)
    logits = (rng.standard_normal((rows, width)) * spread).astype(np.float32)
    logits[::4] = np.round(logits[::4])  # many equals
    logits[1::4, rng.random(width) < 0.7] = -np.inf
    logits[2::4] = np.sort(logits[2::4])  # the greatest in few blocks
    fields = np.column_stack(
        [
            rng.choice([0.1, 0.7, 1.0, 5.0], rows),
            rng.choice([0, 1, 3, 40, blocks, blocks + 1, width // 2], rows),
            rng.choice([1.0, 0.95, 0.5, 1e-6], rows),
            rng.choice([0.0, 0.05], rows),
            rng.random(rows),
        ]
    ).astype(np.float32)
    counted = native.sample("count", logits, fields)
    assert native.sample("blocks", logits, fields).tolist() == counted.tolist()
    assert native.sample("cores", logits, fields).tolist() == counted.tolist()


@every_heads
@every_step("rope")
@given(data=st.data(), magnitude=st.sampled_from([1.0, 1e3]), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=6)
def test_rope(step: Any, heads: Heads, **case: Any) -> None:
    body(rope.test_qk_norm_rope_write)(step, heads, **case)


@every_heads
@every_attention
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=5)
def test_attention_agrees(step: Any, heads: Heads, **case: Any) -> None:
    body(attention.test_attention)(step, heads, **case)


@every_heads
@every_attention
def test_attention_of_long_contexts_and_large_scores(step: Any, heads: Heads) -> None:
    attention.test_a_long_context(step, heads)
    attention.test_large_scores_and_values(step, heads)
