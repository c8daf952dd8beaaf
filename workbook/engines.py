"""Engines for notebooks: MILI's small model, loaded once a process, under any number of pages and any options."""

import contextlib
import io
from functools import cache
from typing import Any

from mili.device import DTYPES
from mili.engine import Engine, EngineOptions
from mili.kv_cache import PagedKVCache
from mili.launch import Launch
from mili.model import Qwen3Model


@cache
def loaded() -> Engine:
    """The small model, compiled for the CPU, where a request's tokens are the same to the bit in any batch."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return Launch(model="mili-tiny", device="cpu", num_pages=1).engine()
    except BaseException:
        print(said.getvalue())
        raise


def engine(pages: int = 1024, **options: Any) -> Engine:
    """A new engine with a KV cache of its own. options: those of `mili.engine.EngineOptions`."""
    first = loaded()
    model = first.model
    assert isinstance(model, Qwen3Model)
    config = model.config
    pool = PagedKVCache(
        num_layers=config.num_layers,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        dtype=DTYPES[model.dtype],
        num_pages=pages,
        page_size=model.page_size,
        device=model.device,
    )
    made = Engine(model, first.tokenizer, pool, EngineOptions(**options))
    made.recommended = first.recommended
    return made
