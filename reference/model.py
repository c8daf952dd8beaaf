"""The whole decoder, Qwen3 or Llama: token ids in, logits out, with a dense key/value cache.

    x = embedding(tokens)
    for each layer:
        x = x + attention_block(rms_norm(x))
        x = x + mlp_block(rms_norm(x))
    logits = rms_norm(x) @ head.T

The two families differ in one place here: Qwen3 normalises each query and key head before RoPE, Llama does not.
Sources: Qwen3 technical report, arXiv:2505.09388; Llama, arXiv:2302.13971.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from reference.arrays import FloatArray, IntArray
from reference.attention import attention, qk_norm_rope
from reference.kv_cache import DenseKVCache
from reference.linear import embedding, linear
from reference.rms_norm import rms_norm
from reference.rope import cos_sin_table
from reference.swiglu import swiglu

Weights = Mapping[str, FloatArray]


@dataclass(frozen=True)
class ModelConfig:
    """What the forward pass needs to know of a checkpoint's config.json.

    Attributes:
        layers, hidden_size, intermediate_size, vocab_size: Number of layers, E, I, V.
        heads, kv_heads, head_dim: H, KH, D; H is a multiple of KH, and H * D need not be E.
        eps: Of every RMSNorm.
        rope_theta, rope_scaling: As in `reference.rope`.
        max_positions: The longest context.
        windows: Width of each layer's sliding window, 0 for none.
    """

    layers: int
    hidden_size: int
    intermediate_size: int
    vocab_size: int
    heads: int
    kv_heads: int
    head_dim: int
    eps: float
    rope_theta: float
    rope_scaling: Mapping[str, Any] | None
    max_positions: int
    windows: tuple[int, ...]

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> "ModelConfig":
        """Read a config.json, with RoPE in its old form (`rope_theta`, `rope_scaling`) or new (`rope_parameters`)."""
        layers = config["num_hidden_layers"]
        heads = config["num_attention_heads"]
        scaling = config.get("rope_parameters") or config.get("rope_scaling")
        theta = config.get("rope_theta") or (scaling or {}).get("rope_theta", 10000.0)
        max_positions = config["max_position_embeddings"]
        if scaling:
            # The context of training, where a scaling kind needs it and the file does not give it.
            scaling = {"original_max_position_embeddings": max_positions, **scaling}
        window, kinds = 0, ["full_attention"] * layers
        if config.get("use_sliding_window"):
            full = config["max_window_layers"]  # the first so many layers see everything, unless each is told apart
            kinds = config.get("layer_types") or kinds[:full] + ["sliding_attention"] * (layers - full)
            window = config["sliding_window"] or 0
        return cls(
            layers=layers,
            hidden_size=config["hidden_size"],
            intermediate_size=config["intermediate_size"],
            vocab_size=config["vocab_size"],
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or config["hidden_size"] // heads,
            eps=config["rms_norm_eps"],
            rope_theta=theta,
            rope_scaling=scaling,
            max_positions=max_positions,
            windows=tuple(window if kind == "sliding_attention" else 0 for kind in kinds),
        )


class ReferenceModel:
    """A decoder and its weights.

    Attributes:
        config: Its sizes.
        weights: Arrays by Hugging Face name, float32; matrices are [outputs, inputs]. `lm_head.weight` is absent where
            the head is tied: then the embedding table serves as the head.
        cos_sin: RoPE's table, [max_positions, D].
    """

    def __init__(self, config: ModelConfig, weights: Weights) -> None:
        self.config = config
        self.weights = weights
        self.cos_sin = cos_sin_table(config.max_positions, config.head_dim, config.rope_theta, config.rope_scaling)

    def new_cache(self, capacity: int | None = None) -> DenseKVCache:
        """An empty cache with room for `capacity` tokens (the longest context if None)."""
        config = self.config
        return DenseKVCache(config.layers, capacity or config.max_positions, config.kv_heads, config.head_dim)

    def forward(self, tokens: IntArray, cache: DenseKVCache | None = None) -> FloatArray:
        """Logits after each of some new tokens.

        Args:
            tokens: The new tokens, [T], which follow those in the cache.
            cache: What came before; the new tokens are added to it. None: nothing came before.

        Returns:
            [T, V], float32: row t scores what may follow token t.
        """
        cache = self.new_cache(len(tokens)) if cache is None else cache
        x = embedding(tokens, self.weights["model.embed_tokens.weight"])
        for layer in range(self.config.layers):
            x = x + self.attention_block(layer, self.norm(x, f"model.layers.{layer}.input_layernorm"), cache)
            x = x + self.mlp_block(layer, self.norm(x, f"model.layers.{layer}.post_attention_layernorm"))
        cache.advance(len(tokens))
        head = self.weights.get("lm_head.weight", self.weights["model.embed_tokens.weight"])
        return linear(self.norm(x, "model.norm"), head)

    def norm(self, x: FloatArray, name: str) -> FloatArray:
        """The RMSNorm called `name`: [T, E] to [T, E]."""
        return rms_norm(x, self.weights[name + ".weight"], self.config.eps)

    def attention_block(self, layer: int, x: FloatArray, cache: DenseKVCache) -> FloatArray:
        """Project to heads, attend over the context, project back: [T, E] to [T, E]."""
        config, prefix = self.config, f"model.layers.{layer}.self_attn."
        qkv = np.concatenate([linear(x, self.weights[f"{prefix}{part}_proj.weight"]) for part in "qkv"], axis=-1)
        q, k, v = qk_norm_rope(
            qkv,
            config.kv_heads,
            config.head_dim,
            self.cos_sin,
            positions=np.arange(cache.length, cache.length + len(x)),
            q_weight=self.weights.get(prefix + "q_norm.weight"),
            k_weight=self.weights.get(prefix + "k_norm.weight"),
            eps=config.eps,
        )
        k, v = cache.append(layer, k, v)
        out = attention(q, k, v, window=config.windows[layer])  # [T, H, D]
        return linear(out.reshape(len(x), -1), self.weights[prefix + "o_proj.weight"])

    def mlp_block(self, layer: int, x: FloatArray) -> FloatArray:
        """Expand to the intermediate size, gate, project back: [T, E] to [T, E]."""
        prefix = f"model.layers.{layer}.mlp."
        gate_up = np.concatenate([linear(x, self.weights[f"{prefix}{p}_proj.weight"]) for p in ("gate", "up")], axis=-1)
        return linear(swiglu(gate_up), self.weights[prefix + "down_proj.weight"])

    def generate(self, prompt: IntArray, max_tokens: int) -> list[int]:
        """Continue a prompt greedily: at each step the likeliest token, the lowest id among equals.

        Args:
            prompt: [T], at least one token.
            max_tokens: How many to add.

        Returns:
            The new token ids.
        """
        cache = self.new_cache(len(prompt) + max_tokens)
        output: list[int] = []
        new = prompt
        for _ in range(max_tokens):
            output.append(int(np.argmax(self.forward(new, cache)[-1])))
            new = np.array(output[-1:])
        return output
