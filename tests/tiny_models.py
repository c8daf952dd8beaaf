"""Small random models: configurations, weights drawn from a seed, and Hugging Face folders made of them.

Weights are drawn, not stored: the same generator serves the script that makes the golden logits and every test.
"""

import copy
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Config = dict[str, Any]
Weights = dict[str, NDArray[np.float32]]
RopeForm = Literal["old", "new"]
WeightDtype = Literal["float32", "float16", "bfloat16"]


def _qwen3(**changes: Any) -> Config:
    """A Qwen3 config.json in the form of the published checkpoints, with some values changed."""
    config: Config = {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "head_dim": 16,
        "hidden_act": "silu",
        "hidden_size": 64,
        "initializer_range": 0.02,
        "intermediate_size": 96,
        "max_position_embeddings": 256,
        "max_window_layers": 2,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "rope_scaling": None,
        "rope_theta": 1000000.0,
        "sliding_window": None,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": 211,
    }
    return config | changes


def _llama(**changes: Any) -> Config:
    """A Llama config.json in the form of the published checkpoints, with some values changed."""
    config: Config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": 64,
        "initializer_range": 0.02,
        "intermediate_size": 96,
        "max_position_embeddings": 256,
        "mlp_bias": False,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-5,
        "rope_scaling": None,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": 211,
    }
    return config | changes


CASES: dict[str, Config] = {
    "qwen3_ratio1": _qwen3(num_attention_heads=3, num_key_value_heads=3),
    "qwen3_ratio2": _qwen3(),
    "qwen3_ratio4": _qwen3(num_attention_heads=8, num_key_value_heads=2),
    "qwen3_ratio8": _qwen3(num_attention_heads=8, num_key_value_heads=1, num_hidden_layers=1),
    "qwen3_separate_head": _qwen3(tie_word_embeddings=False, num_hidden_layers=3),
    "qwen3_wide_heads": _qwen3(head_dim=64, num_attention_heads=2, num_key_value_heads=1),
    "qwen3_odd_sizes": _qwen3(
        hidden_size=45, intermediate_size=77, head_dim=18, num_attention_heads=3, num_key_value_heads=1, vocab_size=131
    ),
    "qwen3_five_layers": _qwen3(num_hidden_layers=5, rms_norm_eps=0.01),
    "qwen3_long_theta": _qwen3(rope_theta=5e7, max_position_embeddings=4096),
    "qwen3_yarn": _qwen3(rope_scaling={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}),
    "qwen3_window": _qwen3(use_sliding_window=True, sliding_window=9, max_window_layers=1, num_hidden_layers=3),
    "qwen3_window_everywhere": _qwen3(use_sliding_window=True, sliding_window=16, max_window_layers=0),
    "llama_ratio1": _llama(num_key_value_heads=4, num_hidden_layers=1),
    "llama_ratio3_tied": _llama(
        hidden_size=72,
        num_attention_heads=9,
        num_key_value_heads=3,
        head_dim=16,
        tie_word_embeddings=True,
        num_hidden_layers=3,
    ),
    "llama_ratio8": _llama(num_attention_heads=8, num_key_value_heads=1, head_dim=16, rope_theta=500000.0),
    "llama_odd_heads": _llama(head_dim=18, num_hidden_layers=1),
    "llama_linear": _llama(rope_scaling={"type": "linear", "factor": 2.5}, head_dim=64),
    "llama_llama3": _llama(
        rope_scaling={
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
        rope_theta=500000.0,
        head_dim=64,
    ),
    "llama_yarn": _llama(
        rope_scaling={
            "rope_type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 64,
            "beta_fast": 4.0,
            "beta_slow": 0.25,
        },
        head_dim=64,
    ),
    "llama_yarn_attention_factor": _llama(
        rope_scaling={
            "rope_type": "yarn",
            "factor": 2.0,
            "original_max_position_embeddings": 128,
            "attention_factor": 1.25,
        },
        head_dim=64,
    ),
}


def seed_of(name: str) -> int:
    """The seed of a case's weights and prompt."""
    return zlib.crc32(name.encode())


def weight_shapes(config: Config) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The name and shape of every tensor of a checkpoint, matrices as [outputs, inputs]."""
    hidden, inner, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config.get("head_dim") or hidden // heads
    yield "model.embed_tokens.weight", (vocab, hidden)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        yield prefix + "input_layernorm.weight", (hidden,)
        yield prefix + "self_attn.q_proj.weight", (heads * head_dim, hidden)
        yield prefix + "self_attn.k_proj.weight", (kv_heads * head_dim, hidden)
        yield prefix + "self_attn.v_proj.weight", (kv_heads * head_dim, hidden)
        yield prefix + "self_attn.o_proj.weight", (hidden, heads * head_dim)
        if config["model_type"] == "qwen3":
            yield prefix + "self_attn.q_norm.weight", (head_dim,)
            yield prefix + "self_attn.k_norm.weight", (head_dim,)
        yield prefix + "post_attention_layernorm.weight", (hidden,)
        yield prefix + "mlp.gate_proj.weight", (inner, hidden)
        yield prefix + "mlp.up_proj.weight", (inner, hidden)
        yield prefix + "mlp.down_proj.weight", (hidden, inner)
    yield "model.norm.weight", (hidden,)
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", (vocab, hidden)


def random_weights(config: Config, seed: int) -> Weights:
    """Weights by Hugging Face name, float32, rounded to bfloat16 so that both dtypes hold the same numbers.

    Norm weights lie around 1.3, matrices have a standard deviation of 1.5 / sqrt(inputs): attention is then peaked
    and the logits differ clearly, so that a wrong kernel shows.
    """
    rng = np.random.default_rng(seed)
    weights: Weights = {}
    for name, shape in weight_shapes(config):
        values = rng.standard_normal(shape, dtype=np.float32)
        if len(shape) == 1:
            values = np.float32(1.3) + np.float32(0.3) * values
        elif name == "model.embed_tokens.weight":
            values *= np.float32(0.5)
        else:
            values *= np.float32(1.5 / np.sqrt(shape[1]))
        weights[name] = from_bfloat16(to_bfloat16(values))
    return weights


def random_prompt(config: Config, length: int, seed: int) -> NDArray[np.int32]:
    """Token ids [length], int32, drawn evenly from the vocabulary."""
    return np.random.default_rng([seed, 1]).integers(0, config["vocab_size"], length, dtype=np.int32)


def to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The bits of finite float32 values rounded to bfloat16, to nearest and ties to even."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype(np.uint16)


def from_bfloat16(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The float32 values of bfloat16 bits, exact."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def rope_form(config: Config, form: RopeForm) -> Config:
    """The same configuration with RoPE written as `rope_theta` and `rope_scaling` (old) or `rope_parameters` (new)."""
    config = copy.deepcopy(config)
    if form == "new":
        scaling = config.pop("rope_scaling") or {"rope_type": "default"}
        kind = scaling.pop("type", None) or scaling.pop("rope_type")
        config["rope_parameters"] = {"rope_type": kind, "rope_theta": config.pop("rope_theta"), **scaling}
        config["dtype"] = config.pop("torch_dtype")
    return config


def write_safetensors(path: Path, weights: Weights, dtype: WeightDtype = "float32") -> None:
    """Write float32 weights to one safetensors file in a dtype of choice.

    The format: 8 bytes with the header's length, the header in JSON, the tensors' bytes. The library cannot write
    bfloat16 from NumPy, which has no such type.
    """
    code = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}[dtype]
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, values in weights.items():
        stored = (to_bfloat16(values) if dtype == "bfloat16" else values.astype(dtype)).tobytes()
        header[name] = {"dtype": code, "shape": values.shape, "data_offsets": [len(data), len(data) + len(stored)]}
        data += stored
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def write_folder(
    path: Path, name: str, dtype: WeightDtype = "float32", form: RopeForm = "old", shards: int = 1
) -> Path:
    """Write a case as a Hugging Face folder: config.json and model.safetensors, or `shards` files and their index.

    Args:
        path: The folder, made if missing.
        name: A key of `CASES`.
        dtype: What the tensors are stored in.
        form: How config.json writes RoPE; see `rope_form`.
        shards: How many safetensors files the tensors are spread over.

    Returns:
        `path`.
    """
    config = rope_form(CASES[name], form)
    config["torch_dtype" if form == "old" else "dtype"] = dtype
    weights = random_weights(CASES[name], seed_of(name))
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(config, indent=2))
    if shards == 1:
        write_safetensors(path / "model.safetensors", weights, dtype)
        return path
    weight_map: dict[str, str] = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        part = dict(list(weights.items())[shard::shards])
        write_safetensors(path / file, part, dtype)
        weight_map |= dict.fromkeys(part, file)
    total = sum(w.size for w in weights.values()) * (4 if dtype == "float32" else 2)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (path / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
    return path
