"""Tensors of a checkpoint as they lie in its files, memory-mapped: safetensors, single or sharded.

Format: https://github.com/huggingface/safetensors#format. GGUF files are read in `mili/gguf.py`.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mili.errors import WeightError
from mili.packing import Array, from_float32, to_float32

_KINDS = {"F32": ("float32", np.float32), "F16": ("float16", np.float16), "BF16": ("bfloat16", np.uint16)}
_MAX_HEADER = 100_000_000  # the format's own limit


@dataclass(frozen=True, slots=True)
class RawTensor:
    """A tensor in a file: `data` is a view of the mapped bytes, [rows, ...] (a vector is one row).

    `kind` is the file's name of the number format. `dtype` is one of MILI's dtypes when the elements are stored
    plainly; for a quantised kind it is "" and `decode` turns stored rows into float32.
    """

    name: str
    file: Path
    kind: str
    dtype: str
    shape: tuple[int, ...]
    data: Array
    decode: Callable[[Array], Array] | None = field(default=None, compare=False)

    def rows(self, index: slice | Array, dtype: str) -> Array:
        """The rows `index`, row-major, in the storage type of `dtype`; a view of the file where nothing changes.

        Raises WeightError if a finite value overflows float16.
        """
        stored = self.data[index]
        if self.decode is None and self.dtype == dtype:
            return stored if stored.flags.aligned else stored.copy()  # a header may have any length
        values = self.decode(stored) if self.decode is not None else to_float32(stored, self.dtype)
        result = from_float32(values, dtype)
        if dtype == "float16" and not np.array_equal(np.isfinite(values), np.isfinite(result)):
            raise WeightError(f"{self.file}: {self.name} has values beyond float16 (65504); use bfloat16 or float32.")
        return result


def open_safetensors(path: Path) -> dict[str, RawTensor]:
    """The tensors of one safetensors file by name. Raises WeightError if it is truncated or malformed."""
    try:
        mapped: Array = np.memmap(path, np.uint8, mode="c")  # copy on write: a view may be handed on as writable
    except FileNotFoundError:
        raise WeightError(f"{path} does not exist; fetch the model again.") from None
    except ValueError:
        raise WeightError(f"{path} is empty; fetch it again.") from None
    length = int.from_bytes(mapped[:8].tobytes(), "little")
    if mapped.size < 8 or length > min(mapped.size - 8, _MAX_HEADER):
        raise WeightError(
            f"{path} is truncated or no safetensors file: its header claims {length:,} bytes, "
            f"the file has {mapped.size:,}; fetch it again."
        )
    try:
        header = json.loads(mapped[8 : 8 + length].tobytes().decode("utf-8"))
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
    except (UnicodeDecodeError, json.JSONDecodeError, AttributeError) as error:
        raise WeightError(f"{path} is corrupt: its header is not a JSON object ({error}); fetch it again.") from None
    body = mapped[8 + length :]
    return {name: _safetensor(path, name, entry, body) for name, entry in entries.items()}


def _safetensor(path: Path, name: str, entry: Any, body: Array) -> RawTensor:
    try:
        kind, shape = str(entry["dtype"]), tuple(int(n) for n in entry["shape"])
        start, stop = (int(n) for n in entry["data_offsets"])
    except (KeyError, TypeError, ValueError):
        raise WeightError(f"{path} is corrupt: the entry of {name} is {entry!r}; fetch it again.") from None
    if kind not in _KINDS:
        raise WeightError(
            f"{path}: {name} is stored as {kind!r}, which is not supported; supported: {', '.join(_KINDS)}."
        )
    dtype, storage = _KINDS[kind]
    if not 0 <= start <= stop <= body.size:
        raise WeightError(
            f"{path} is truncated: {name} ends at byte {stop:,} of {body.size:,} bytes of data; fetch it again."
        )
    expected = int(np.prod(shape, dtype=np.int64)) * np.dtype(storage).itemsize
    if stop - start != expected or min(shape, default=1) < 0:
        raise WeightError(
            f"{path} is corrupt: {name} {list(shape)} of {kind} needs {expected:,} bytes and has {stop - start:,}."
        )
    data = body[start:stop].view(storage).reshape(shape if len(shape) > 1 else (1, -1))
    return RawTensor(name, path, kind, dtype, shape, data)


def open_checkpoint(path: Path) -> dict[str, RawTensor]:
    """The tensors of a folder: `model.safetensors`, the shards of its index, or its only safetensors file."""
    index = path / "model.safetensors.index.json"
    if index.is_file():
        return _open_shards(index)
    files = sorted(path.glob("*.safetensors"))
    if path / "model.safetensors" in files:
        return open_safetensors(path / "model.safetensors")
    if len(files) == 1:
        return open_safetensors(files[0])
    if files:
        names = ", ".join(file.name for file in files[:4])
        raise WeightError(f"{path} holds {len(files)} safetensors files ({names}) and no {index.name}; add the index.")
    other = next((file.name for file in sorted(path.glob("*")) if file.suffix in (".bin", ".pt", ".pth")), None)
    hint = f"; {other} is a pickle, convert it to safetensors" if other else "; fetch the model again"
    raise WeightError(f"{path} holds no safetensors weights{hint}.")


def _open_shards(index: Path) -> dict[str, RawTensor]:
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        shards = sorted(set(weight_map.values()))
        if not all(isinstance(shard, str) for shard in shards):
            raise TypeError(f"shards {shards[:3]}")
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise WeightError(f"{index} is corrupt: it has no readable weight_map ({error!r}); fetch it again.") from None
    missing = [shard for shard in shards if not (index.parent / shard).is_file()]
    if missing:
        raise WeightError(
            f"{index.parent}: {len(missing)} of {len(shards)} shards are missing ({', '.join(missing[:3])}); "
            "fetch the model again."
        )
    opened = {shard: open_safetensors(index.parent / shard) for shard in shards}
    tensors: dict[str, RawTensor] = {}
    for name, shard in weight_map.items():
        if name not in opened[shard]:
            raise WeightError(f"{index} places {name} in {shard}, which does not hold it; fetch both again.")
        tensors[name] = opened[shard][name]
    return tensors
