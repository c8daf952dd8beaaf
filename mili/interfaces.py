"""What the engine asks of its parts: any model, cache and tokenizer with these methods will do."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mili.batch import Batch
from mili.kv_cache import KVCacheAllocator


class ModelConfig(Protocol):
    """Sizes the engine needs to know."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def max_position_embeddings(self) -> int: ...
    @property
    def eos_token_ids(self) -> tuple[int, ...]: ...


class ForwardOutput(Protocol):
    """`tokens` [L] int32, drawn or the argmax; `logits` [L, V] float32, fetched from the device when asked for."""

    @property
    def tokens(self) -> NDArray[np.int32]: ...
    @property
    def logits(self) -> NDArray[np.float32]: ...


class Cache(Protocol):
    """A pool of pages; `PagedKVCache` is one with buffers."""

    @property
    def page_size(self) -> int: ...
    @property
    def num_pages(self) -> int: ...
    @property
    def allocator(self) -> KVCacheAllocator: ...


class Model(Protocol):
    """One step of the model over a ragged batch (docs/architecture.md).

    With `samples_on_device`, `forward` takes for each row of logits temperature (0: argmax), top_k, top_p, min_p and a
    random number, [L, 5] float32, and its `tokens` are drawn by them. With `runs_ahead`, `forward` returns before the
    step is computed, may be called again before the tokens are read, and takes a token -1 - j in the batch for the one
    that row j of the step before has drawn; reading `tokens` waits.
    """

    @property
    def samples_on_device(self) -> bool: ...
    @property
    def runs_ahead(self) -> bool: ...
    @property
    def config(self) -> ModelConfig: ...
    def forward(self, batch: Batch, cache: Any, sampling: NDArray[np.float32] | None = None, /) -> ForwardOutput: ...


class Decoder(Protocol):
    """Text of one stream of tokens: `push` gives what a token completes, `flush` the rest."""

    def push(self, token_id: int) -> str: ...
    def flush(self) -> str: ...


class Tokenizer(Protocol):
    """Text to ids and back; `QwenTokenizer` is one."""

    def encode(self, text: str) -> list[int]: ...
    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str: ...
    def decoder(self, skip_special_tokens: bool = True) -> Decoder: ...
