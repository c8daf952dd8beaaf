"""GGUF files: metadata, memory-mapped tensors, and the configuration they describe.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Number formats and their dequantisation come from
the `gguf` package; the header is read here because a vocabulary of 150,000 strings takes its reader seconds.
"""

import struct
from pathlib import Path
from typing import Any

import numpy as np
from gguf import quants
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from mili.checkpoint import RawTensor
from mili.config import MAX_LAYERS, Qwen3Config
from mili.errors import ConfigError, WeightError
from mili.packing import Array
from mili.rope import RopeConfig, parse_rope

_PLAIN = {"F32": ("float32", np.float32), "F16": ("float16", np.float16), "BF16": ("bfloat16", np.uint16)}
QUANTISED = ("Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q6_K")
_ARCHITECTURES = {"qwen3": "Qwen3ForCausalLM", "llama": "LlamaForCausalLM"}
# GGUF names one end token; these end a turn or a text too, as the models' own generation settings say.
_MORE_ENDS = {"qwen2": ("<|endoftext|>",), "llama-bpe": ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>")}
# Metadata value types: struct codes of the scalars; 8 is a string, 9 an array.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


class GGUFFile:
    """A GGUF file: `metadata` by key, and `tensors()`.

    Raises WeightError if the file is truncated, malformed, or holds a number format that MILI does not read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._bytes: Array = np.memmap(self.path, np.uint8, mode="c")
        except FileNotFoundError:
            raise WeightError(f"{path} does not exist.") from None
        except ValueError:
            raise WeightError(f"{path} is empty; fetch it again.") from None
        self._view = self._bytes.data
        self._position = 0
        if bytes(self._view[:4]) != b"GGUF":
            raise WeightError(f"{path} is not a GGUF file: it starts with {bytes(self._view[:4])!r}.")
        self._position = 4
        try:
            version, tensors, keys = self._read("<IQQ")
            if version not in (2, 3):
                raise WeightError(f"{path}: GGUF version {version} is not supported; supported: 2 and 3.")
            self.metadata: dict[str, Any] = {}
            for _ in range(keys):
                key = self._string()
                self.metadata[key] = self._value(self._read("<I")[0])
            self._infos = [self._info() for _ in range(tensors)]
        except (struct.error, UnicodeDecodeError, KeyError, IndexError) as error:
            raise WeightError(f"{path} is truncated or corrupt near byte {self._position:,} ({error!r}).") from None
        alignment = self.metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            raise WeightError(f"{path} is corrupt: general.alignment is {alignment!r}.")
        self._data_start = -(-self._position // alignment) * alignment

    def _read(self, code: str) -> tuple[Any, ...]:
        values = struct.unpack_from(code, self._view, self._position)
        self._position += struct.calcsize(code)
        return values

    def _string(self) -> str:
        (length,) = self._read("<Q")
        start = self._position
        if start + length > len(self._view):
            raise IndexError(f"a string of {length:,} bytes")
        self._position += length
        return str(self._view[start : self._position], "utf-8")

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            return self._read("<" + _SCALARS[kind])[0]
        item, count = self._read("<IQ")
        if count > len(self._view):
            raise IndexError(f"an array of {count:,} entries")
        if item in (_STRING, _ARRAY):
            return [self._value(item) for _ in range(count)]
        return list(self._read(f"<{count}{_SCALARS[item]}"))

    def _info(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._string()
        (dimensions,) = self._read("<I")
        shape = self._read(f"<{dimensions}Q")[::-1]  # GGUF counts from the fastest dimension
        kind, offset = self._read("<IQ")
        return name, shape, kind, offset

    def tensors(self) -> dict[str, RawTensor]:
        """The file's tensors by name, as views of the mapped bytes; quantised ones are decoded row by row."""
        return {name: self._tensor(name, shape, kind, offset) for name, shape, kind, offset in self._infos}

    def kinds(self) -> dict[str, str]:
        """The number format of each tensor."""
        return {name: _kind_name(kind) for name, _, kind, _ in self._infos}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor, row-major."""
        return {name: shape for name, shape, _, _ in self._infos}

    def _tensor(self, name: str, shape: tuple[int, ...], kind: int, offset: int) -> RawTensor:
        kind_name = _kind_name(kind)
        if kind_name not in _PLAIN and kind_name not in QUANTISED:
            supported = ", ".join((*_PLAIN, *QUANTISED))
            raise WeightError(
                f"{self.path}: {name} is quantised as {kind_name}, which is not supported; supported: {supported}."
            )
        quant = GGMLQuantizationType(kind)
        per_block, block_bytes = GGML_QUANT_SIZES[quant]
        if shape[-1] % per_block:
            raise WeightError(f"{self.path}: {name} {list(shape)} is no whole number of {kind_name} blocks a row.")
        row_bytes = shape[-1] // per_block * block_bytes
        rows = int(np.prod(shape[:-1], dtype=np.int64))
        start = self._data_start + offset
        if start + rows * row_bytes > self._bytes.size:
            raise WeightError(
                f"{self.path} is truncated: {name} ends at byte {start + rows * row_bytes:,} "
                f"of {self._bytes.size:,}; fetch it again."
            )
        data = self._bytes[start : start + rows * row_bytes].reshape(rows, row_bytes)
        if kind_name in _PLAIN:
            dtype, storage = _PLAIN[kind_name]
            return RawTensor(name, self.path, kind_name, dtype, shape, data.view(storage))
        return RawTensor(name, self.path, kind_name, "", shape, data, getattr(quants, kind_name).dequantize_rows)


def _kind_name(kind: int) -> str:
    try:
        return str(GGMLQuantizationType(kind).name)
    except ValueError:
        return f"type {kind}"


def config_from_gguf(file: GGUFFile) -> Qwen3Config:
    """The configuration in a file's metadata (`llama` and `qwen3` architectures).

    Raises ConfigError for an unknown architecture, a missing key or a setting that MILI does not implement.
    """
    metadata, source = file.metadata, str(file.path)
    architecture = metadata.get("general.architecture")
    if architecture not in _ARCHITECTURES:
        raise ConfigError(
            f"{source}: architecture {architecture!r} is not supported; supported: {', '.join(_ARCHITECTURES)}."
        )

    if metadata.get("split.count", 1) != 1:
        raise ConfigError(
            f"{source} is one of {metadata['split.count']} parts of a model; join them with llama-gguf-split --merge."
        )

    def get(key: str, default: Any = None) -> Any:
        value = metadata.get(f"{architecture}.{key}", default)
        if value is None:
            raise ConfigError(f"{source}: metadata {architecture}.{key} is missing.")
        return value

    def whole(key: str, default: int | None = None) -> int:
        value = get(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError(f"{source}: metadata {architecture}.{key} is {value!r}; MILI needs one whole number.")
        return value

    hidden, heads = whole("embedding_length"), whole("attention.head_count")
    head_dim = whole("attention.key_length", hidden // heads if heads else 0)
    layers, context = min(whole("block_count"), MAX_LAYERS + 1), whole("context_length")
    refused = {
        "attention.value_length": head_dim,
        "rope.dimension_count": head_dim,
        "expert_count": 0,
        "attention.sliding_window": 0,
        "rope.scaling.attn_factor": 1.0,
    }
    for key, only in refused.items():
        value = metadata.get(f"{architecture}.{key}", only)
        if value != only:
            raise ConfigError(f"{source}: metadata {architecture}.{key} {value!r} is not supported; supported: {only}.")
    shapes = file.shapes()
    if "token_embd.weight" not in shapes:
        raise WeightError(f"{source}: token_embd.weight is missing.")
    kind = file.kinds()["token_embd.weight"]
    try:
        return Qwen3Config(
            architecture=_ARCHITECTURES[architecture],
            vocab_size=shapes["token_embd.weight"][0],
            hidden_size=hidden,
            intermediate_size=whole("feed_forward_length"),
            num_layers=layers,
            num_heads=heads,
            num_kv_heads=whole("attention.head_count_kv", heads),
            head_dim=head_dim,
            rms_norm_eps=float(get("attention.layer_norm_rms_epsilon")),
            qk_norm=architecture == "qwen3",
            tie_word_embeddings="output.weight" not in shapes,
            max_position_embeddings=context,
            rope=_rope(file, str(architecture), context),
            windows=(0,) * layers,
            bos_token_id=metadata.get("tokenizer.ggml.bos_token_id"),
            eos_token_ids=_end_tokens(metadata),
            dtype=_PLAIN[kind][0] if kind in _PLAIN else "bfloat16",
        )
    except ConfigError as error:
        raise error if str(error).startswith(source) else ConfigError(f"{source}: {error}") from None
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{source}: its metadata has a value of the wrong type ({error}).") from None


def _end_tokens(metadata: dict[str, Any]) -> tuple[int, ...]:
    """Ids that end the output, the file's own end token first."""
    ends = [metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")]
    names = _MORE_ENDS.get(metadata.get("tokenizer.ggml.pre", ""), ())
    tokens = metadata.get("tokenizer.ggml.tokens", [])
    ends += [i for i, token in enumerate(tokens) if token in names] if names else []
    return tuple(dict.fromkeys(token for token in ends if token is not None))


def _rope(file: GGUFFile, architecture: str, context: int) -> RopeConfig:
    """RoPE settings; the Llama 3 kind stands in a tensor of divisors, `rope_freqs.weight` [D / 2]."""

    def setting(key: str) -> Any:
        return file.metadata.get(f"{architecture}.rope.{key}")

    kind = setting("scaling.type") or "none"
    scaling = {"rope_type": "default" if kind == "none" else kind}
    if kind != "none":
        scaling["factor"] = setting("scaling.factor")
    if kind == "yarn":
        scaling["original_max_position_embeddings"] = setting("scaling.original_context_length")
    rope = parse_rope({"rope_theta": setting("freq_base"), "rope_scaling": scaling}, context, str(file.path))
    if "rope_freqs.weight" in file.shapes():
        if rope.kind != "default":
            raise ConfigError(f"{file.path}: rope_freqs.weight together with {kind} scaling is not supported.")
        factors = file.tensors()["rope_freqs.weight"].rows(slice(None), "float32").reshape(-1)
        return RopeConfig(rope.theta, "factors", frequency_factors=tuple(float(x) for x in factors))
    return rope
