"""A plain stand-in for the engine around a model: sequences with pages, steps over them, greedy continuation."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mili.batch import Batch
from mili.device import DTYPES
from mili.kv_cache import PagedKVCache
from mili.model import ForwardOutput, Qwen3Model


class Running:
    """Tokens of one request and the pages that hold what the model has seen of them."""

    def __init__(self, tokens: Sequence[int] | NDArray[np.int32]) -> None:
        self.tokens = [int(token) for token in tokens]
        self.seen = 0
        self.pages: list[int] = []


def cache_for(model: Qwen3Model, tokens: int) -> PagedKVCache:
    """A cache with room for `tokens`, and pages to spare so that no sequence has its pages in order."""
    config = model.config
    return PagedKVCache(
        num_layers=config.num_layers,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        dtype=DTYPES[model.dtype],
        num_pages=-(-tokens // model.page_size) + 8,
        page_size=model.page_size,
        device=model.device,
    )


def step(
    model: Qwen3Model,
    cache: PagedKVCache,
    work: Sequence[tuple[Running, int]],
    all_rows: bool = False,
    padding: int = 0,
) -> ForwardOutput:
    """Run the next `count` tokens of each sequence, in one batch.

    Args:
        model: The model.
        cache: Its cache.
        work: Sequences and how many of their next tokens to run.
        all_rows: Ask for the logits of every token, not of each sequence's last one.
        padding: Tokens that belong to nobody, after the others.

    Returns:
        Logits [L, V] of the rows asked for.
    """
    size = model.page_size
    tokens: list[int] = []
    positions: list[int] = []
    slots: list[int] = []
    rows: list[int] = []
    offsets, contexts = [0], []
    for sequence, count in work:
        end = sequence.seen + count
        missing = -(-end // size) - len(sequence.pages)
        sequence.pages += cache.allocator.allocate(missing)[::-1]
        span = range(sequence.seen, end)
        rows += range(len(tokens), len(tokens) + count) if all_rows else [len(tokens) + count - 1]
        tokens += sequence.tokens[sequence.seen : end]
        positions += span
        slots += [sequence.pages[p // size] * size + p % size for p in span]
        offsets.append(len(tokens))
        contexts.append(end)
        sequence.seen = end
    table = np.zeros((len(work), max(len(sequence.pages) for sequence, _ in work)), np.int32)
    for row, (sequence, _) in enumerate(work):
        table[row, : len(sequence.pages)] = sequence.pages
    tokens, positions, slots = tokens + [0] * padding, positions + [0] * padding, slots + [-1] * padding
    batch = Batch(
        tokens=np.array(tokens, np.int32),
        positions=np.array(positions, np.int32),
        slots=np.array(slots, np.int32),
        row_offsets=np.array(offsets, np.int32),
        context_lengths=np.array(contexts, np.int32),
        page_table=table,
        logit_rows=np.array(rows, np.int32),
    )
    return model.forward(batch, cache)


def generate(
    model: Qwen3Model,
    prompts: Sequence[Sequence[int]],
    count: int,
    chunk: Callable[[int], int] = lambda left: left,
) -> list[list[int]]:
    """Continue all prompts greedily and side by side: as many steps as it takes, prefill and decode in the same batch.

    Args:
        model: The model.
        prompts: Token ids.
        count: How many tokens to add to each, end-of-sequence or not.
        chunk: How many of the `left` tokens of a prompt to run in the next step, from 1 to `left`.

    Returns:
        The tokens added, by prompt.
    """
    cache = cache_for(model, sum(len(prompt) + count + model.page_size for prompt in prompts))
    sequences = [Running(prompt) for prompt in prompts]
    ends = [len(prompt) + count for prompt in prompts]
    while any(len(sequence.tokens) < end for sequence, end in zip(sequences, ends, strict=True)):
        running = [s for s, end in zip(sequences, ends, strict=True) if len(s.tokens) < end]
        work = [(sequence, chunk(len(sequence.tokens) - sequence.seen)) for sequence in running]
        best = step(model, cache, work).tokens
        for row, sequence in enumerate(running):
            if sequence.seen == len(sequence.tokens):
                sequence.tokens.append(int(best[row]))
    return [sequence.tokens[-count:] for sequence in sequences]
