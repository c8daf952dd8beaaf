"""Small GGUF files of the tiny models, in every number format that MILI reads."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from tests.tiny_models import Config, Weights, to_bfloat16

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
BLOCK_BYTES = {"Q4_K": 144, "Q6_K": 210}


def ggml_name(name: str) -> str:
    """The GGUF name of a Hugging Face tensor."""
    stem = name.removesuffix(".weight")
    if not stem.startswith("model.layers."):
        return NAMES[stem] + ".weight"
    _, _, layer, rest = stem.split(".", 3)
    return f"blk.{layer}.{NAMES[rest]}.weight"


def interleave(weight: NDArray[Any], heads: int) -> NDArray[Any]:
    """Rows of a query or key projection as llama.cpp stores them for Llama: rotary pairs next to each other."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def encode(weight: NDArray[np.float32], kind: str, seed: int) -> NDArray[Any]:
    """A matrix in one format. The K formats, which the library cannot write, get random blocks of small scale."""
    if kind == "F32":
        return weight
    if kind == "BF16":
        return to_bfloat16(weight).view(np.uint8).reshape(weight.shape[0], -1)
    if kind not in BLOCK_BYTES:
        return np.asarray(gguf.quants.quantize(weight, gguf.GGMLQuantizationType[kind]))
    rows, columns = weight.shape
    size = BLOCK_BYTES[kind]
    blocks = np.random.default_rng(seed).integers(0, 256, (rows, columns // 256, size), dtype=np.uint8)
    scales = np.array([0.0123, 0.034], np.float16).view(np.uint8)
    if kind == "Q4_K":
        blocks[..., :4] = scales
    else:
        blocks[..., -2:] = scales[:2]
    return blocks.reshape(rows, -1)


def write_gguf(
    path: Path,
    config: Config,
    weights: Weights,
    kind: str = "F32",
    metadata: dict[str, Any] | None = None,
    extra: Weights | None = None,
    tokens: tuple[str, list[str]] | None = None,
) -> Weights:
    """Write `weights` as GGUF; matrices as `kind`, vectors in float32. Returns what the file's tensors hold, by name.

    `metadata` adds to or (None) removes from the usual keys, named without the architecture. `extra` are tensors by
    their GGUF names, `tokens` a pre-tokeniser and a vocabulary.
    """
    arch = config["model_type"]
    writer = gguf.GGUFWriter(path, arch)
    keys: dict[str, Any] = {
        "block_count": config["num_hidden_layers"],
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config["num_key_value_heads"],
        "rope.freq_base": float(config["rope_theta"]),
        "attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
    }
    if config.get("head_dim"):
        keys |= {"attention.key_length": config["head_dim"], "attention.value_length": config["head_dim"]}
    for key, value in (keys | (metadata or {})).items():
        name = f"{arch}.{key}"
        if isinstance(value, str):
            writer.add_string(name, value)
        elif isinstance(value, float):
            writer.add_float32(name, value)
        elif isinstance(value, list):
            writer.add_array(name, value)
        elif value is not None:
            writer.add_uint32(name, value)
    if tokens is not None:
        writer.add_tokenizer_pre(tokens[0])
        writer.add_token_list(tokens[1])
    writer.add_uint32("tokenizer.ggml.bos_token_id", 1)
    writer.add_uint32("tokenizer.ggml.eos_token_id", 2)
    held: Weights = {}
    for i, (name, weight) in enumerate(weights.items()):
        heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
        projection = name.split(".")[-2]
        if weight.ndim == 1:
            writer.add_tensor(ggml_name(name), weight)
            held[name] = weight
            continue
        permuted = arch == "llama" and projection in heads
        stored = encode(interleave(weight, heads[projection]) if permuted else weight, kind, i)
        raw_kind = gguf.GGMLQuantizationType[kind]
        if kind in ("F32", "F16"):
            writer.add_tensor(ggml_name(name), stored)
            values = stored.astype(np.float32)
        else:
            writer.add_tensor(ggml_name(name), stored, raw_dtype=raw_kind)
            values = gguf.quants.dequantize(stored, raw_kind)
        if permuted:  # back to the order of the checkpoint
            h = heads[projection]
            values = values.reshape(h, -1, 2, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
        held[name] = np.asarray(values)
    for name, weight in (extra or {}).items():
        writer.add_tensor(name, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return held
