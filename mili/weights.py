"""`WeightLoader`: a checkpoint's tensors, checked against the configuration, joined, converted and packed.

The engine's names, with the shape of each before packing (E hidden, I intermediate, V vocabulary):

    embed [V, E]              norm [E]                      head [V, E], only when it is not tied to embed
    layers.3.input_norm [E]   layers.3.qkv [(H + 2 KH) D, E]   layers.3.q_norm, layers.3.k_norm [D], Qwen3 only
    layers.3.o [E, H D]       layers.3.post_norm [E]        layers.3.gate_up [2 I, E]   layers.3.down [E, I]
"""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from mili.checkpoint import RawTensor, open_checkpoint
from mili.config import DTYPES, Qwen3Config
from mili.errors import WeightError
from mili.packing import LANES, PACKED_DTYPES, STORAGE, Arena, Array, Tensor, pack_into, packed_shape

_CHUNK = 1 << 18  # elements converted at a time: about 1 MB as float32, which stays in the L2 cache
ROW_GROUP = 64
"""Chunks of a matrix start at multiples of this many rows, itself a multiple of the packed block."""
_IGNORED = (".rotary_emb.inv_freq", "rope_freqs.weight")


class RowSource(Protocol):
    """A matrix that gives its rows in any dtype; a vector is a matrix of one row."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def rows(self, index: slice | Array, dtype: str) -> Array: ...


@dataclass(frozen=True, slots=True)
class Part:
    """A checkpoint's tensor that becomes all of an engine tensor, or some of its rows."""

    name: str
    shape: tuple[int, ...]
    interleaved: int = 0
    """Heads whose rotary pairs lie next to each other in the file (i, i + 1) and must be split into halves."""


def plan(config: Qwen3Config, gguf: bool = False) -> dict[str, tuple[Part, ...]]:
    """The engine's tensors in order of use, each with the parts of the checkpoint that it is joined from."""
    E, D = config.hidden_size, config.head_dim
    H, KH = config.num_heads * D, config.num_kv_heads * D
    table = (config.vocab_size, E)
    # llama.cpp stores the query and key rows of the llama architecture for rotation of neighbours.
    split = gguf and not config.qk_norm

    def part(hugging_face: str, ggml: str, shape: tuple[int, ...], heads: int = 0) -> Part:
        return Part((ggml if gguf else hugging_face) + ".weight", shape, heads if split else 0)

    tensors: dict[str, tuple[Part, ...]] = {"embed": (part("model.embed_tokens", "token_embd", table),)}
    for i in range(config.num_layers):
        hf, gg, name = f"model.layers.{i}.", f"blk.{i}.", f"layers.{i}."
        tensors[name + "input_norm"] = (part(hf + "input_layernorm", gg + "attn_norm", (E,)),)
        tensors[name + "qkv"] = (
            part(hf + "self_attn.q_proj", gg + "attn_q", (H, E), config.num_heads),
            part(hf + "self_attn.k_proj", gg + "attn_k", (KH, E), config.num_kv_heads),
            part(hf + "self_attn.v_proj", gg + "attn_v", (KH, E)),
        )
        if config.qk_norm:
            tensors[name + "q_norm"] = (part(hf + "self_attn.q_norm", gg + "attn_q_norm", (D,)),)
            tensors[name + "k_norm"] = (part(hf + "self_attn.k_norm", gg + "attn_k_norm", (D,)),)
        tensors[name + "o"] = (part(hf + "self_attn.o_proj", gg + "attn_output", (E, H)),)
        tensors[name + "post_norm"] = (part(hf + "post_attention_layernorm", gg + "ffn_norm", (E,)),)
        tensors[name + "gate_up"] = (
            part(hf + "mlp.gate_proj", gg + "ffn_gate", (config.intermediate_size, E)),
            part(hf + "mlp.up_proj", gg + "ffn_up", (config.intermediate_size, E)),
        )
        tensors[name + "down"] = (part(hf + "mlp.down_proj", gg + "ffn_down", (E, config.intermediate_size)),)
    tensors["norm"] = (part("model.norm", "output_norm", (E,)),)
    if not config.tie_word_embeddings:
        tensors["head"] = (part("lm_head", "output", table),)
    return tensors


class WeightLoader:
    """Loads a model's tensors from a folder of safetensors or from a GGUF file.

    Raises WeightError, before anything large is read, if a tensor is missing, unknown, misshaped or truncated.
    """

    def __init__(self, path: str | Path, config: Qwen3Config) -> None:
        self.path = Path(path)
        self.config = config
        if self.path.suffix == ".gguf":
            from mili.gguf import GGUFFile

            self._plan = plan(config, gguf=True)
            self._sources = GGUFFile(self.path).tensors()
        else:
            self._plan = plan(config)
            self._sources = open_checkpoint(self.path)
        self._check()

    def _check(self) -> None:
        parts = {part.name: part for group in self._plan.values() for part in group}
        missing = [name for name in parts if name not in self._sources]
        if missing:
            raise WeightError(
                f"{self.path}: {_some(missing)} missing; the configuration asks for {len(parts)} tensors."
            )
        tied = ("lm_head.weight", "output.weight") if self.config.tie_word_embeddings else ()
        extra = [n for n in self._sources if n not in parts and n not in tied and not n.endswith(_IGNORED)]
        if extra:
            raise WeightError(
                f"{self.path}: {_some(extra)} unknown to {self.config.architecture}; nothing would read it."
            )
        for name, part in parts.items():
            found = self._sources[name].shape
            if found != part.shape:
                raise WeightError(
                    f"{self.path}: {name} has shape {list(found)}; the configuration says {list(part.shape)}."
                )

    def tensors(self, dtype: str, packed: bool) -> Iterator[Tensor]:
        """The engine's tensors one by one, converted to `dtype`; `packed` is the CPU's layout of matrices.

        Unpacked matrices that need no conversion or joining are views of the mapped file.
        """
        sources: dict[str, list[tuple[RowSource, int]]] = {
            name: [(self._sources[part.name], part.interleaved) for part in group] for name, group in self._plan.items()
        }
        return assemble(sources, dtype, packed)

    def load(self, dtype: str, packed: bool) -> dict[str, Tensor]:
        """All tensors by name; see `tensors`."""
        return {tensor.name: tensor for tensor in self.tensors(dtype, packed)}


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more} {'is' if len(names) == 1 else 'are'}"


def assemble(
    sources: Mapping[str, list[tuple[RowSource, int]]], dtype: str, packed: bool, threads: int | None = None
) -> Iterator[Tensor]:
    """Join, convert and (if `packed`) pack; `sources` maps a name to its parts, each with its interleaved heads."""
    if dtype not in (PACKED_DTYPES if packed else DTYPES):
        where = "on the CPU, whose weights are packed" if packed else "for weights"
        raise WeightError(
            f"dtype {dtype!r} is not supported {where}; supported: {', '.join(PACKED_DTYPES if packed else DTYPES)}."
        )
    arena = Arena()
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        for name, parts in sources.items():
            if len(parts[0][0].shape) == 1:
                data = parts[0][0].rows(slice(None), dtype).reshape(-1)
            else:
                data = _matrix(parts, dtype, packed, pool, arena)
            yield Tensor(name, dtype, data.shape, data)


def _matrix(
    parts: list[tuple[RowSource, int]], dtype: str, packed: bool, pool: ThreadPoolExecutor, arena: Arena
) -> Array:
    rows, columns = sum(source.shape[0] for source, _ in parts), parts[0][0].shape[1]
    whole, interleaved = parts[0]
    if len(parts) == 1 and not packed and not interleaved and isinstance(whole, RawTensor) and whole.dtype == dtype:
        return whole.rows(slice(None), dtype)
    new = arena.empty if packed else np.empty
    out: Array = new(packed_shape(rows, columns, dtype) if packed else (rows, columns), STORAGE[dtype])
    step = max(_CHUNK // columns // ROW_GROUP, 1) * ROW_GROUP

    def fill(start: int) -> None:
        stop = min(start + step, rows)
        pieces = list(_pieces(parts, start, stop, dtype))
        if packed:
            chunk = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
            pack_into(out[start // LANES : -(-stop // LANES)], chunk)
        else:
            for piece in pieces:
                out[start : start + piece.shape[0]] = piece
                start += piece.shape[0]

    for _ in pool.map(fill, range(0, rows, step)):
        pass
    return out


def _pieces(parts: list[tuple[RowSource, int]], start: int, stop: int, dtype: str) -> Iterator[Array]:
    """Rows `start` to `stop` of the joined matrix, one array for each part they touch."""
    offset = 0
    for source, heads in parts:
        size = source.shape[0]
        first, last = max(start - offset, 0), min(stop - offset, size)
        if first < last:
            yield source.rows(_split_halves(first, last, size // heads) if heads else slice(first, last), dtype)
        offset += size


def _split_halves(first: int, last: int, head_dim: int) -> Array:
    """Rows of the file for rows `first` to `last`: row j + half * D / 2 of a head lies at 2 j + half in the file."""
    row = np.arange(first, last)
    head, within = row // head_dim, row % head_dim
    half, j = within // (head_dim // 2), within % (head_dim // 2)
    return head * head_dim + 2 * j + half
