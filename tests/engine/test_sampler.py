"""Sampling against the NumPy reference, and what a request gets must not depend on its neighbours."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mili.draw import draw, log_softmax_at, philox, uniform
from mili.errors import RequestError
from mili.request import Request
from mili.sampler import RowState, Sampler
from mili.sampling import Grammar, SamplingParams
from reference import sampling as reference

RNG = np.random.default_rng(0)


def arrays(rows, **values):
    kinds = {
        "temperature": (1.0, np.float32),
        "top_k": (0, np.int32),
        "top_p": (1.0, np.float32),
        "min_p": (0, np.float32),
    }
    return {name: np.full(rows, values.get(name, default), kind) for name, (default, kind) in kinds.items()}


def test_philox_gives_the_published_numbers():
    """Known answers of Philox4x32-10 (Random123, kat_vectors) for a counter whose upper half is zero."""
    zero = philox(np.zeros(1, np.uint64), np.zeros(1, np.uint64))
    assert [hex(int(word[0])) for word in zero] == ["0x6627e8d5", "0xe169c58d", "0xbc57ac4c", "0x9b00dbd8"]


def test_uniform_is_even_and_independent():
    seeds = np.arange(20_000, dtype=np.uint64)
    numbers = uniform(seeds, np.full(20_000, 3, np.uint64))
    assert numbers.min() >= 0
    assert numbers.max() < 1
    counts = np.histogram(numbers, 20, (0, 1))[0]
    assert abs(counts - 1000).max() < 150
    following = uniform(seeds, np.full(20_000, 4, np.uint64))
    assert abs(np.corrcoef(numbers, following)[0, 1]) < 0.03


@pytest.mark.parametrize("vocab", [7, 64, 5000])
@pytest.mark.parametrize("spread", [0.3, 3.0])
@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"top_k": 5},
        {"top_k": 1},
        {"top_p": 0.9},
        {"top_p": 0.999},
        {"top_p": 1e-6},
        {"min_p": 0.1},
        {"min_p": 1.0},
        {"min_p": 1e-4},
        {"top_k": 40, "top_p": 0.7},
        {"top_p": 0.8, "min_p": 0.02},
        {"top_k": 3, "top_p": 0.95, "min_p": 0.2, "temperature": 0.6},
        {"temperature": 7.0, "top_p": 0.95},
    ],
)
def test_draw_is_the_reference(vocab, spread, filters):
    rows = 60
    logits = RNG.normal(0, spread, (rows, vocab)).astype(np.float32)
    logits[::3] = np.round(logits[::3])  # many equals
    random = RNG.random(rows)
    tokens = draw(logits, random=random, **arrays(rows, **filters))
    for i in range(rows):
        row = reference.scale_temperature(logits[i], filters.get("temperature", 1.0))
        row = reference.keep_top_k(row, filters.get("top_k", 0))
        row = reference.keep_top_p(row, filters.get("top_p", 1.0))
        row = reference.keep_min_p(row, filters.get("min_p", 0.0))
        expected = reference.draw(row, random[i])
        if tokens[i] != expected:  # only where the random number falls on a boundary, up to rounding
            p = np.exp(row.astype(np.float64) - row.max())
            edges = np.cumsum(p) / p.sum()
            assert abs(edges - random[i]).min() < 1e-5, (i, tokens[i], expected)


def test_draw_gives_each_token_its_probability():
    logits = np.log(np.array([[0.5, 0.25, 0.125, 0.125]], np.float32)).repeat(8000, 0)
    random = (np.arange(8000) + 0.5) / 8000
    counts = np.bincount(draw(logits, random=random, **arrays(8000)), minlength=4)
    assert counts.tolist() == [4000, 2000, 1000, 1000]
    counts = np.bincount(draw(logits, random=random, **arrays(8000, top_k=2)), minlength=4)
    assert abs(counts - [5333, 2667, 0, 0]).max() <= 1


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_row_does_not_know_its_neighbours(seed):
    rng = np.random.default_rng(seed)
    rows, vocab = 12, 3000
    logits = rng.normal(0, rng.choice([0.2, 2, 5]), (rows, vocab)).astype(np.float32)
    values = {
        "temperature": rng.choice([0.3, 1, 3], rows).astype(np.float32),
        "top_k": rng.choice([0, 0, 3, 50, 2000], rows).astype(np.int32),
        "top_p": rng.choice([1, 1, 0.5, 0.95], rows).astype(np.float32),
        "min_p": rng.choice([0, 0, 0.01, 0.3], rows).astype(np.float32),
        "random": rng.random(rows),
    }
    together = draw(logits, **values)
    for i in range(rows):
        alone = draw(logits[i : i + 1], **{name: value[i : i + 1] for name, value in values.items()})
        assert alone[0] == together[i]


def test_rows_that_are_no_numbers_say_so():
    logits = np.zeros((4, 5), np.float32)
    logits[0, 2] = np.nan
    logits[1] = -np.inf
    logits[2, 1] = np.inf
    tokens = draw(logits, random=np.full(4, 0.5), **arrays(4))
    assert tokens[:3].tolist() == [-1, -1, -1]
    assert tokens[3] == 2
    banned = np.full((1, 5), -np.inf, np.float32)
    banned[0, 3] = -2.0
    for filters in ({}, {"top_k": 2}, {"top_p": 0.5}, {"min_p": 0.5}):
        assert draw(banned, random=np.array([0.99]), **arrays(1, **filters))[0] == 3


def test_log_probabilities():
    row = RNG.normal(0, 4, 500).astype(np.float32)
    p = np.exp(row.astype(np.float64)) / np.exp(row.astype(np.float64)).sum()
    logprob, top = log_softmax_at(row, 17, 5)
    assert logprob == pytest.approx(np.log(p[17]), abs=1e-5)
    assert [token for token, _ in top] == np.argsort(-p)[:5].tolist()
    assert [value for _, value in top] == pytest.approx(np.log(np.sort(p)[::-1][:5]).tolist(), abs=1e-5)
    assert log_softmax_at(row, 3, 0)[1] == []
    assert len(log_softmax_at(row[:4], 3, 20)[1]) == 4


class Output:
    def __init__(self, logits):
        self.logits = logits
        self.tokens = logits.argmax(1).astype(np.int32)


def request(params, prompt=(1, 2), output=(), slot=0, id="a"):
    made = Request(id, np.array(prompt, np.int32), 100, params)
    made.slot = slot
    made.output = list(output)
    return made


def sample(params, logits, prompt=(1, 2), output=(), ends=(0,)):
    sampler = Sampler(1)
    made = request(params, prompt)
    state = RowState(made, np.array(ends, np.int64), params.seed or 0, None)
    sampler.register(made, state)
    for token in output:
        made.output.append(token)
        state.book(token)
    sampler.admit(made)
    return sampler.sample([made], np.array([0]), Output(logits[None].astype(np.float32)))


@pytest.mark.parametrize(
    "values",
    [
        {"repetition_penalty": 1.7},
        {"repetition_penalty": 0.5},
        {"frequency_penalty": 0.8},
        {"presence_penalty": -1.5},
        {"logit_bias": {3: 5.0, 9: -100.0}},
        {"repetition_penalty": 1.3, "frequency_penalty": 0.4, "presence_penalty": 0.6, "logit_bias": {5: 2.0}},
    ],
)
def test_penalties_and_bias_are_the_reference(values):
    for trial in range(50):
        rng = np.random.default_rng(trial)
        logits = rng.normal(0, 1, 12).astype(np.float32)
        prompt, output = rng.integers(0, 12, 3), rng.integers(0, 12, rng.integers(0, 90)).tolist()
        params = SamplingParams(temperature=0, **values)
        expected = reference.sample(logits, rng, temperature=0, prompt=prompt.tolist(), output=output, **values)
        assert sample(params, logits, prompt, output).tokens[0] == expected


def test_min_tokens_bans_the_end_tokens_until_then():
    logits = np.array([9.0, 1, 2, 8])
    params = SamplingParams(temperature=0, min_tokens=3)
    assert sample(params, logits, ends=(0, 3)).tokens[0] == 2
    assert sample(params, logits, output=[2, 2, 2], ends=(0, 3)).tokens[0] == 0


def test_logprobs_come_with_greedy_too_and_from_the_raw_logits():
    logits = np.array([0.0, 2, 1, -1])
    params = SamplingParams(temperature=0, logprobs=2, logit_bias={3: 50})
    found = sample(params, logits)
    assert found.tokens[0] == 3
    entry = found.logprobs[0]
    normaliser = np.log(np.exp(logits).sum())
    assert entry.token == 3
    assert entry.logprob == pytest.approx(-1 - normaliser, abs=1e-6)
    assert [token for token, _ in entry.top] == [1, 2]


def test_same_seed_same_tokens_in_any_batch_and_slot():
    vocab, steps = 400, 12
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 2, (steps, vocab)).astype(np.float32)
    params = SamplingParams(temperature=0.9, top_p=0.95, seed=1234, presence_penalty=0.5)

    def run(neighbours):
        sampler = Sampler(8)
        mine = request(params, slot=neighbours % 8, id="mine")
        others = [
            request(SamplingParams(temperature=1 + i, top_k=i, seed=i), slot=(neighbours + 1 + i) % 8, id=str(i))
            for i in range(neighbours)
        ]
        for made in [mine, *others]:
            sampler.register(made, RowState(made, np.array([0]), made.params.seed, None))
            sampler.admit(made)
        for step in range(steps):
            batch = [*others[: len(others) // 2], mine, *others[len(others) // 2 :]]
            rows = np.stack([logits[step] if made is mine else rng.normal(0, 1, vocab) for made in batch])
            found = sampler.sample(batch, np.array([made.slot for made in batch]), Output(rows.astype(np.float32)))
            for made, token in zip(batch, found.tokens.tolist(), strict=True):
                made.output.append(token)
        return mine.output

    alone = run(0)
    assert run(3) == run(7) == alone
    assert len(set(alone)) > 3


def test_the_models_logits_are_left_alone():
    logits = RNG.normal(0, 1, (1, 20)).astype(np.float32)
    output = Output(logits)
    logits.flags.writeable = False
    sampler = Sampler(1)
    made = request(SamplingParams(logit_bias={3: 1.0}, repetition_penalty=2.0, logprobs=1))
    sampler.register(made, RowState(made, np.array([0]), 0, None))
    sampler.admit(made)
    sampler.sample([made], np.array([0]), output)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": -0.1}, "temperature is -0.1: it must be from 0 to 100"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": "hot"}, "temperature is 'hot'"),
        ({"temperature": True}, "temperature is True"),
        ({"temperature": 1e-9}, "temperature is 1e-09"),
        ({"top_p": 0}, "top_p is 0: it must be above 0 and at most 1"),
        ({"top_p": 1.1}, "top_p is 1.1"),
        ({"top_k": -2}, "top_k is -2: it must be from -1"),
        ({"top_k": 1.5}, "top_k is 1.5: it must be a whole number"),
        ({"min_p": 2}, "min_p is 2"),
        ({"repetition_penalty": 0}, "repetition_penalty is 0"),
        ({"frequency_penalty": 3}, "frequency_penalty is 3: it must be from -2 to 2"),
        ({"presence_penalty": -3}, "presence_penalty is -3"),
        ({"logit_bias": {3: 101}}, "logit_bias of token 3 is 101"),
        ({"logit_bias": {-3: 1}}, "token id of logit_bias is -3"),
        ({"logit_bias": [1]}, "logit_bias is"),
        ({"seed": 2**65}, "seed is"),
        ({"logprobs": 21}, "logprobs is 21: it must be from 0 to 20"),
        ({"stop": [""]}, "stop has the entry ''"),
        ({"stop": [3]}, "stop has the entry 3"),
        ({"stop": ["x"] * 17}, "stop has 17 strings"),
        ({"stop_token_ids": [-1]}, "stop_token_ids is -1"),
        ({"max_tokens": 0}, "max_tokens is 0: it must be from 1"),
        ({"min_tokens": 5, "max_tokens": 4}, "min_tokens is 5: it must be from 0 to 4"),
        ({"n": 0}, "n is 0: it must be from 1 to 128"),
        ({"ignore_eos": 1}, "ignore_eos is 1"),
        ({"grammar": "json"}, "grammar is 'json'"),
    ],
)
def test_params_name_the_value_and_its_range(values, message):
    with pytest.raises(RequestError) as caught:
        SamplingParams(**values)
    assert message in str(caught.value)


def test_params_accept_the_edges():
    SamplingParams(temperature=0, top_k=-1, top_p=1.0, min_p=1, seed=2**64 - 1, logprobs=20, stop="x", n=128)
    assert SamplingParams(stop="x").stop == ("x",)
    assert not SamplingParams(temperature=0).needs_logits
    assert SamplingParams(temperature=0, min_tokens=1).needs_logits
    with pytest.raises(RequestError, match="kind is 'xml'"):
        Grammar("xml", "x")
    with pytest.raises(RequestError, match="is empty"):
        Grammar("regex")
