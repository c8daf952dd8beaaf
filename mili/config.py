"""`Qwen3Config`: the shape of a decoder of the Qwen3 or Llama family, from `config.json` or GGUF metadata.

A setting that would change the result and that MILI does not implement is an error naming it, never ignored.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mili.errors import ConfigError
from mili.rope import RopeConfig, parse_rope

ARCHITECTURES = ("Qwen3ForCausalLM", "LlamaForCausalLM", "MistralForCausalLM")
_MODEL_TYPES = {"qwen3": "Qwen3ForCausalLM", "llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM"}
_CONTEXT = {"Qwen3ForCausalLM": 32768, "LlamaForCausalLM": 2048, "MistralForCausalLM": 131072}
MAX_LAYERS = 1000
DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True, slots=True)
class Qwen3Config:
    """Sizes and constants of a model; `qk_norm` is what tells Qwen3 from Llama.

    `windows` has one entry a layer: 0 is full attention, W lets a token see itself and the W - 1 before it.
    `dtype` is the one the checkpoint was saved in. Raises ConfigError when the values do not fit together.
    """

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rms_norm_eps: float
    qk_norm: bool
    tie_word_embeddings: bool
    max_position_embeddings: int
    rope: RopeConfig
    windows: tuple[int, ...]
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()
    dtype: str = "bfloat16"

    def __post_init__(self) -> None:
        sizes = (
            "vocab_size hidden_size intermediate_size num_layers num_heads num_kv_heads head_dim"
            " max_position_embeddings"
        )
        for name in sizes.split():
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.num_layers > MAX_LAYERS:
            raise ConfigError(f"num_layers is more than {MAX_LAYERS}, which no model has; the file is corrupt.")
        if self.num_heads % self.num_kv_heads:
            raise ConfigError(
                f"num_attention_heads {self.num_heads} is not a multiple of num_key_value_heads {self.num_kv_heads}."
            )
        if self.head_dim % 2:
            raise ConfigError(f"head_dim {self.head_dim} is odd; RoPE needs an even one.")
        if not self.rms_norm_eps > 0:
            raise ConfigError(f"rms_norm_eps is {self.rms_norm_eps}; it must be above 0.")
        if len(self.windows) != self.num_layers or min(self.windows) < 0:
            raise ConfigError(f"windows {self.windows} must hold {self.num_layers} entries of 0 or more.")
        if self.rope.kind == "factors" and len(self.rope.frequency_factors) != self.head_dim // 2:
            raise ConfigError(
                f"rope_freqs holds {len(self.rope.frequency_factors)} factors; head_dim {self.head_dim} "
                f"needs {self.head_dim // 2}."
            )
        if self.dtype not in DTYPES:
            raise ConfigError(f"dtype {self.dtype!r} is not supported; supported: {', '.join(DTYPES)}.")
        for token in (*self.eos_token_ids, *(() if self.bos_token_id is None else (self.bos_token_id,))):
            if not 0 <= token < self.vocab_size:
                raise ConfigError(f"special token id {token} lies outside the vocabulary of {self.vocab_size}.")

    @property
    def qkv_size(self) -> int:
        """Rows of the joined query, key and value projection: (H + 2 KH) D."""
        return (self.num_heads + 2 * self.num_kv_heads) * self.head_dim

    @property
    def num_parameters(self) -> int:
        """Parameters of the model, a tied head counted once."""
        mixing = self.hidden_size * (self.qkv_size + self.num_heads * self.head_dim + 3 * self.intermediate_size)
        norms = 2 * self.hidden_size + (2 * self.head_dim if self.qk_norm else 0)
        tables = self.vocab_size * self.hidden_size * (1 if self.tie_word_embeddings else 2)
        return self.num_layers * (mixing + norms) + tables + self.hidden_size

    @classmethod
    def from_pretrained(cls, path: str | Path) -> "Qwen3Config":
        """From a folder with `config.json` (and `generation_config.json` if it is there) or a GGUF file."""
        path = Path(path)
        if path.suffix == ".gguf":
            from mili.gguf import GGUFFile, config_from_gguf  # it needs this class

            return config_from_gguf(GGUFFile(path))
        config = cls.from_dict(_read_json(path / "config.json"), str(path / "config.json"))
        generation = path / "generation_config.json"
        if generation.is_file():  # an instruction-tuned model often ends on more tokens than config.json says
            extra = _token_ids(_read_json(generation), "eos_token_id", str(generation))
            config = replace(config, eos_token_ids=tuple(dict.fromkeys((*config.eos_token_ids, *extra))))
        return config

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], source: str = "config.json") -> "Qwen3Config":
        """From the contents of a Hugging Face `config.json`; `source` names it in errors."""
        architecture = _architecture(data, source)
        _refuse_unsupported(data, source)
        layers = min(_size(data, "num_hidden_layers", source), MAX_LAYERS + 1)
        hidden = _size(data, "hidden_size", source)
        heads = _size(data, "num_attention_heads", source)
        head_dim = data.get("head_dim")
        if head_dim is None and architecture == "Qwen3ForCausalLM":
            head_dim = 128  # what Qwen3 means by leaving it out
        elif head_dim is None:
            if hidden % heads:
                raise ConfigError(
                    f"{source}: hidden_size {hidden} is not a multiple of num_attention_heads {heads}; set head_dim."
                )
            head_dim = hidden // heads
        context = _size(data, "max_position_embeddings", source, _CONTEXT[architecture])
        bos = _token_ids(data, "bos_token_id", source)
        eps = data.get("rms_norm_eps", 1e-6)
        if isinstance(eps, bool) or not isinstance(eps, int | float):
            raise ConfigError(f"{source}: rms_norm_eps is {eps!r}; it must be a number.")
        try:
            return cls(
                architecture=architecture,
                vocab_size=_size(data, "vocab_size", source),
                hidden_size=hidden,
                intermediate_size=_size(data, "intermediate_size", source),
                num_layers=layers,
                num_heads=heads,
                num_kv_heads=_size(data, "num_key_value_heads", source, heads),
                head_dim=_size({"head_dim": head_dim}, "head_dim", source),
                rms_norm_eps=float(eps),
                qk_norm=architecture == "Qwen3ForCausalLM",
                tie_word_embeddings=bool(data.get("tie_word_embeddings", False)),
                max_position_embeddings=context,
                rope=parse_rope(data, context, source),
                windows=_windows(data, architecture, layers, source),
                bos_token_id=bos[0] if bos else None,
                eos_token_ids=_token_ids(data, "eos_token_id", source),
                dtype=str(data.get("dtype") or data.get("torch_dtype") or "float32").removeprefix("torch."),
            )
        except ConfigError as error:
            raise error if str(error).startswith(source) else ConfigError(f"{source}: {error}") from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist; a model folder holds config.json, weights and tokenizer.") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path} is not valid JSON ({error}); fetch it again.") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path} holds {type(data).__name__}; it must hold a JSON object.")
    return data


def _architecture(data: Mapping[str, Any], source: str) -> str:
    names = data.get("architectures") or []
    name = names[0] if isinstance(names, list) and names else _MODEL_TYPES.get(data.get("model_type", ""))
    if name not in ARCHITECTURES:
        found = name or data.get("model_type")
        raise ConfigError(f"{source}: architecture {found!r} is not supported; supported: {', '.join(ARCHITECTURES)}.")
    return str(name)


def _refuse_unsupported(data: Mapping[str, Any], source: str) -> None:
    for key in ("attention_bias", "mlp_bias", "quantization_config", "num_experts", "num_local_experts"):
        if data.get(key):
            raise ConfigError(f"{source}: {key} {data[key]!r} is not supported; MILI would ignore it.")
    act = data.get("hidden_act", "silu")
    if act not in ("silu", "swish"):
        raise ConfigError(f"{source}: hidden_act {act!r} is not supported; supported: silu.")


def _size(data: Mapping[str, Any], key: str, source: str, default: int | None = None) -> int:
    value = data.get(key)
    value = default if value is None else value
    if value is None:
        raise ConfigError(f"{source}: {key} is missing.")
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{source}: {key} is {value!r}; it must be a whole number of at least 1.")
    return value


def _token_ids(data: Mapping[str, Any], key: str, source: str) -> tuple[int, ...]:
    value = data.get(key)
    ids = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(token, int) and not isinstance(token, bool) for token in ids):
        raise ConfigError(f"{source}: {key} is {value!r}; it must be a token id or a list of them.")
    return tuple(ids)


def _windows(data: Mapping[str, Any], architecture: str, layers: int, source: str) -> tuple[int, ...]:
    """The sliding window of each layer (0: full), as transformers reads it for each architecture."""
    kinds = data.get("layer_types")
    if kinds is not None:
        wrong = next((kind for kind in kinds if kind not in ("full_attention", "sliding_attention")), None)
        if wrong is not None:
            raise ConfigError(
                f"{source}: layer_types holds {wrong!r}; supported: full_attention and sliding_attention."
            )
        if len(kinds) != layers:
            raise ConfigError(f"{source}: layer_types has {len(kinds)} entries; num_hidden_layers is {layers}.")
    window = data.get("sliding_window", 4096)
    if architecture == "LlamaForCausalLM" or (
        architecture == "Qwen3ForCausalLM" and not data.get("use_sliding_window")
    ):
        window = None
    if window is not None:
        window = _size({"sliding_window": window}, "sliding_window", source)
    if architecture == "MistralForCausalLM" and kinds is None:
        kinds = ["sliding_attention" if window else "full_attention"] * layers
    elif kinds is None:
        first = data.get("max_window_layers", 28)
        kinds = ["sliding_attention" if window and i >= first else "full_attention" for i in range(layers)]
    if window is None and "sliding_attention" in kinds:
        raise ConfigError(f"{source}: layer_types asks for sliding_attention, but no sliding window is switched on.")
    return tuple(int(window or 0) if kind == "sliding_attention" else 0 for kind in kinds)
