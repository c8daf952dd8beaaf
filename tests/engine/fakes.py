"""A model without weights and a tokenizer without merges, for tests of everything around them.

FakeModel keeps token ids where a real model keeps keys and values: it writes them by `slots` and computes the next
token from the context that it reads back through `page_table` and `context_lengths`. So a wrong page, slot, position or
length changes the output, which must be that of `expected` for the same tokens, computed without pages.
"""

from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from mili.detokenizer import byte_level_alphabet
from mili.draw import draw
from mili.tokenizer import QwenTokenizer

VOCAB = 272
_WEIGHTS = np.random.default_rng(0).integers(1, 2**31, 1 << 16, dtype=np.int64)
_SPREAD = np.random.default_rng(1).integers(1, 2**31, VOCAB, dtype=np.int64)
_PRIME = 2**31 - 1


def logits_of(tokens: np.ndarray) -> np.ndarray:
    """[VOCAB] float32 logits after `tokens`: a fixed function of every token and its position."""
    h = int((tokens.astype(np.int64) + 1) @ _WEIGHTS[: len(tokens)] % _PRIME)
    return ((h + 12345) * _SPREAD % _PRIME / _PRIME * 8).astype(np.float32)


def expected(prompt, count: int, eos: int | None = None) -> list[int]:
    """The greedy continuation: `count` tokens, or fewer up to and including `eos`."""
    tokens, output = list(prompt), []
    for _ in range(count):
        output.append(int(logits_of(np.array(tokens + output)).argmax()))
        if output[-1] == eos:
            break
    return output


def fake_tokenizer() -> QwenTokenizer:
    """256 byte tokens (ids 1 to 256), some pairs of letters, and the end token 0."""
    alphabet = sorted(byte_level_alphabet(), key=byte_level_alphabet().get)
    vocab = {"<end>": 0} | {letter: i + 1 for i, letter in enumerate(alphabet)}
    merges = [("t", "h"), ("th", "e"), ("i", "n"), ("in", "g"), ("e", "r"), ("a", "n")]
    for left, right in merges:
        vocab[left + right] = len(vocab)
    tokenizer = Tokenizer(BPE(vocab, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<end>"])
    return QwenTokenizer(tokenizer, {"eos_token": "<end>"}, None, "fake")


@dataclass
class FakeConfig:
    vocab_size: int = VOCAB
    max_position_embeddings: int = 1024
    eos_token_ids: tuple[int, ...] = (0,)


class FakeOutput:
    def __init__(self, logits: np.ndarray) -> None:
        self._logits = logits
        self.fetched = False
        self.tokens = logits.argmax(1).astype(np.int32)

    @property
    def logits(self) -> np.ndarray:
        self.fetched = True
        return self._logits


class FakeCache:
    """What the engine asks of a PagedKVCache, without buffers."""

    def __init__(self, num_pages: int, page_size: int, strategy="lifo") -> None:
        from mili.kv_cache import KVCacheAllocator

        self.num_pages, self.page_size = num_pages, page_size
        self.allocator = KVCacheAllocator(num_pages, strategy)


class FakeModel:
    """`forward(batch, cache)` as docs/architecture.md has it, with checks of every promise the batch makes."""

    runs_ahead = False

    def __init__(self, cache, config: FakeConfig | None = None) -> None:
        self.config = config or FakeConfig()
        self.page_size = cache.page_size
        self.store = np.full(cache.num_pages * cache.page_size, -1, np.int64)
        self.steps = 0
        self.prompt_length = 1  # of scripted prompts
        self.computed_tokens = 0
        self.fail_at: int | None = None
        self.samples_on_device = False
        self.script: dict[int, list[int]] = {}  # first prompt token -> what it is answered, for tests of text
        self.poison: int | None = None  # the logits after this token are no numbers

    def forward(self, batch, cache, sampling=None) -> FakeOutput:
        self._count()
        return self.compute(batch, batch.tokens, sampling)

    def _count(self) -> None:
        self.steps += 1
        if self.fail_at == self.steps:
            raise RuntimeError("the device has caught fire")

    def compute(self, batch, tokens, sampling) -> FakeOutput:
        for name in ("tokens", "positions", "slots", "row_offsets", "context_lengths", "page_table", "logit_rows"):
            array = getattr(batch, name)
            assert array.dtype == np.int32, name
            assert array.flags["C_CONTIGUOUS"], name
        rows = len(batch.context_lengths)
        assert len(batch.logit_rows) > 0
        assert tokens.shape == batch.positions.shape == batch.slots.shape == (batch.row_offsets[-1],)
        assert batch.row_offsets.shape == (rows + 1,)
        assert batch.page_table.shape[0] == rows
        counts = np.diff(batch.row_offsets)
        assert (counts > 0).all()
        row = np.repeat(np.arange(rows), counts)
        last = np.cumsum(counts)
        place = batch.context_lengths[row] - last[row] + np.arange(len(row))
        real = batch.slots >= 0
        assert (batch.positions[real] == place[real]).all()
        assert (batch.context_lengths[row[~real]] == 0).all()
        slots = batch.slots[real]
        assert len(set(slots.tolist())) == len(slots), "two tokens are written to one slot"
        held = batch.page_table[row[real], batch.positions[real] // self.page_size]
        assert (slots == held * self.page_size + batch.positions[real] % self.page_size).all()
        assert ((tokens >= 0) & (tokens < self.config.vocab_size)).all()
        self.store[slots] = tokens[real]
        self.computed_tokens += len(slots)
        logits = np.zeros((len(batch.logit_rows), self.config.vocab_size), np.float32)
        for i, index in enumerate(batch.logit_rows.tolist()):
            b = int(row[index])
            if not real[index]:
                continue
            length = int(batch.positions[index]) + 1
            used = -(-length // self.page_size)
            assert used <= batch.page_table.shape[1]
            context = self.store.reshape(-1, self.page_size)[batch.page_table[b, :used]].ravel()[:length]
            assert (context >= 0).all(), "reads a slot that nobody wrote"
            logits[i] = logits_of(context)
            script = self.script.get(int(context[0]))
            if script is not None:
                done = length - self.prompt_length
                logits[i, script[min(done, len(script) - 1)]] += 100
            if self.poison is not None and context[-1] == self.poison:
                logits[i] = np.nan
        output = FakeOutput(logits)
        if sampling is not None:
            assert self.samples_on_device
            assert sampling.shape == (len(logits), 5)
            rows = np.flatnonzero(sampling[:, 0] > 0)
            t, k, p, m, random = sampling[rows].T
            output.tokens[rows] = draw(logits[rows], t, k.astype(np.int32), p, m, random.astype(np.float64))
        return output


class Pending:
    """What an `AheadModel` promises: reading it computes the steps that are queued, up to this one."""

    def __init__(self, model: "AheadModel", batch, sampling) -> None:
        self.model, self.batch, self.sampling, self.number = model, batch, sampling, model.steps
        self.output: FakeOutput | None = None

    @property
    def fetched(self) -> bool:
        return self.output is not None and self.output.fetched

    @property
    def tokens(self) -> np.ndarray:
        self.model.run_until(self)
        return self.output.tokens

    @property
    def logits(self) -> np.ndarray:
        assert self is self.model.newest, "a later step has overwritten the logits"
        self.model.run_until(self)
        return self.output.logits


class AheadModel(FakeModel):
    """A device that has computed nothing of a step when `forward` returns; at most two steps are in its queue.

    A step is computed when its tokens are read, from the arrays of its batch as they are then: whoever writes to an
    array of a queued batch changes the output.
    """

    runs_ahead = True

    def __init__(self, cache, config: FakeConfig | None = None) -> None:
        super().__init__(cache, config)
        self.queue: list[Pending] = []
        self.newest: Pending | None = None
        self.drawn = np.zeros(0, np.int32)
        self.ahead = 0  # steps queued behind another
        self.break_at: int | None = None  # the step that the device fails to compute

    def forward(self, batch, cache, sampling=None) -> Pending:
        self._count()
        assert len(self.queue) < 2, "more than two steps are queued"
        self.ahead += bool(self.queue)
        self.newest = Pending(self, batch, sampling)
        self.queue.append(self.newest)
        return self.newest

    def run_until(self, pending: Pending) -> None:
        while pending.output is None:
            step = self.queue.pop(0)
            if step.number == self.break_at:
                raise RuntimeError("the device has caught fire")
            tokens = step.batch.tokens
            known = tokens >= 0
            assert (-1 - tokens[~known] < len(self.drawn)).all(), "stands for a row that the step before did not have"
            tokens = np.where(known, tokens, 0)
            tokens[~known] = self.drawn[-1 - step.batch.tokens[~known]].clip(0)  # no token: it has ended by an error
            step.output = self.compute(step.batch, tokens, step.sampling)
            self.drawn = step.output.tokens
