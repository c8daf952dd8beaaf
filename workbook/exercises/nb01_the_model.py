"""Exercises of notebook 01, the model in NumPy."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from reference.arrays import FloatArray
from reference.attention import attention, qk_norm_rope
from reference.model import ModelConfig, ReferenceModel
from workbook.exercise import Case, Exercise, Mistake

Config = dict[str, Any]


def sizes(layers: int, e: int, i: int, v: int, h: int, kh: int, d: int, tied: bool) -> Config:
    """The part of a config.json that the exercises read."""
    return {
        "num_hidden_layers": layers,
        "hidden_size": e,
        "intermediate_size": i,
        "vocab_size": v,
        "num_attention_heads": h,
        "num_key_value_heads": kh,
        "head_dim": d,
        "tie_word_embeddings": tied,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "max_position_embeddings": 256,
    }


# Sizes of the published config.json files; the counts are those of their safetensors files.
PUBLISHED = {
    "Qwen3-0.6B": (sizes(28, 1024, 3072, 151936, 16, 8, 128, True), 596_049_920),
    "Qwen3-8B": (sizes(36, 4096, 12288, 151936, 32, 8, 128, False), 8_190_735_360),
    "mili-tiny": (sizes(8, 256, 640, 4096, 8, 2, 64, True), 7_607_552),
}
TINY = {
    "8 query heads on 1": sizes(2, 12, 20, 31, 8, 1, 4, True),
    "2 query heads on 2": sizes(1, 10, 6, 17, 2, 2, 6, False),
    "4 query heads on 2": sizes(3, 8, 24, 23, 4, 2, 2, True),
}


def shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Every tensor of a checkpoint with this configuration, by name."""
    e, i, v = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    q, kv, d = (
        config["num_attention_heads"] * config["head_dim"],
        config["num_key_value_heads"] * config["head_dim"],
        config["head_dim"],
    )
    layer = {
        "input_layernorm": (e,),
        "post_attention_layernorm": (e,),
        "self_attn.q_proj": (q, e),
        "self_attn.k_proj": (kv, e),
        "self_attn.v_proj": (kv, e),
        "self_attn.o_proj": (e, q),
        "self_attn.q_norm": (d,),
        "self_attn.k_norm": (d,),
        "mlp.gate_proj": (i, e),
        "mlp.up_proj": (i, e),
        "mlp.down_proj": (e, i),
    }
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (v, e), "model.norm.weight": (e,)}
    if not config["tie_word_embeddings"]:
        found["lm_head.weight"] = (v, e)
    for number in range(config["num_hidden_layers"]):
        found |= {f"model.layers.{number}.{name}.weight": shape for name, shape in layer.items()}
    return found


def tiny_model(config: Config, seed: int) -> ReferenceModel:
    """A model of these sizes with random weights; the norms' are around one."""
    generator = np.random.default_rng(seed)
    weights = {}
    for name, shape in shapes(config).items():
        values = generator.standard_normal(shape) * (0.1 if len(shape) == 1 else 0.7) + (len(shape) == 1)
        weights[name] = values.astype(np.float32)
    return ReferenceModel(ModelConfig.from_dict(config), weights)


def tensor_cases() -> Iterator[Case]:
    generator = np.random.default_rng(1)
    wanted = {"third": (3, 5), "first": (2, 4), "second": (7,), "cube": (2, 3, 5), "one": (1,)}
    data = generator.standard_normal(sum(int(np.prod(shape)) for shape in wanted.values())).astype(np.float32)
    bits = (data.view(np.uint32) >> 16).astype(np.uint16)
    header: dict[str, Any] = {}
    start = 6  # six bytes of padding, as other writers leave it
    for name, shape in sorted(wanted.items()):
        end = start + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
        start = end
    stored = np.concatenate([np.full(6, 77, np.uint8), bits.view(np.uint8)])
    for name, shape in wanted.items():
        first = (header[name]["data_offsets"][0] - 6) // 2
        values = (bits[first : first + int(np.prod(shape))].astype(np.uint32) << 16).view(np.float32)
        label = f"{name}, {list(shape)}"
        yield Case(label, {"header": header, "data": stored, "name": name}, {"tensor": values.reshape(shape)}, 0, 0)


def parameter_cases() -> Iterator[Case]:
    for label, (config, total) in PUBLISHED.items():
        counted = {name: int(np.prod(shape)) for name, shape in shapes(config).items()}
        assert sum(counted.values()) == total
        layer = sum(count for name, count in counted.items() if name.startswith("model.layers.0."))
        yield Case(label, {"config": config}, {"layer": layer, "total": total})
    for label, config in TINY.items():
        counted = {name: int(np.prod(shape)) for name, shape in shapes(config).items()}
        layer = sum(count for name, count in counted.items() if name.startswith("model.layers.0."))
        yield Case(label, {"config": config}, {"layer": layer, "total": sum(counted.values())})


def attend_with(config: Config, weights: Mapping[str, FloatArray]) -> Callable[[FloatArray], FloatArray]:
    """The first layer's attention over a whole prompt: joint projection [T, (H + 2 KH) D] to [T, H D]."""
    model = ReferenceModel(ModelConfig.from_dict(config), {})

    def attend(qkv: FloatArray) -> FloatArray:
        q, k, v = qk_norm_rope(
            qkv,
            config["num_key_value_heads"],
            config["head_dim"],
            model.cos_sin,
            np.arange(len(qkv)),
            weights["q_norm"],
            weights["k_norm"],
        )
        return attention(q, k, v).reshape(len(qkv), -1)

    return attend


def layer_cases() -> Iterator[Case]:
    for number, (label, config) in enumerate(TINY.items()):
        model = tiny_model(config, number)
        prefix = "model.layers.0."
        w = {name.split(".")[-2]: value for name, value in model.weights.items() if name.startswith(prefix)}
        for tokens in (5, 1):
            generator = np.random.default_rng(10 + tokens)
            x = (2 * generator.standard_normal((tokens, config["hidden_size"])) + 0.5).astype(np.float32)
            cache = model.new_cache(tokens)
            y = x + model.attention_block(0, model.norm(x, prefix + "input_layernorm"), cache)
            y = y + model.mlp_block(0, model.norm(y, prefix + "post_attention_layernorm"))
            inputs = {"x": x, "w": w, "attend": attend_with(config, w), "eps": config["rms_norm_eps"]}
            yield Case(f"{tokens} tokens, {label}", inputs, {"x": y}, 1e-4, 1e-4)


def generate_cases() -> Iterator[Case]:
    for number, (label, config) in enumerate(TINY.items()):
        model = tiny_model(config, 20 + number)
        prompt = [int(t) for t in np.random.default_rng(number).integers(0, config["vocab_size"], 7)]
        free = model.generate(np.array(prompt), 12)
        yield Case(f"12 tokens, {label}", {"model": model, "prompt": prompt, "count": 12, "end": -1}, {"tokens": free})
        end = next((token for token in free[2:] if token != free[0] and token != free[1]), free[2])
        stopped = free[: free.index(end) + 1]
        inputs = {"model": model, "prompt": prompt, "count": 12, "end": end}
        yield Case(f"{end} ends the text, {label}", inputs, {"tokens": stopped})
        inputs = {"model": model, "prompt": prompt[:1], "count": 3, "end": -1}
        expected = {"tokens": model.generate(np.array(prompt[:1]), 3)}
        yield Case(f"a prompt of one token, {label}", inputs, expected)


def cost_cases() -> Iterator[Case]:
    known = [(label, config) for label, (config, _) in PUBLISHED.items()]
    for (label, config), context in zip([*known, *TINY.items()], (1000, 1, 40, 7, 0, 3), strict=True):
        matrices = sum(
            int(np.prod(shape)) for name, shape in shapes(config).items() if len(shape) == 2 and "embed" not in name
        )
        if config["tie_word_embeddings"]:
            matrices += config["vocab_size"] * config["hidden_size"]
        width, layers = config["head_dim"], config["num_hidden_layers"]
        scores = 2 * 2 * config["num_attention_heads"] * width * context
        costs = {
            "flops": 2 * matrices + layers * scores,
            "weight_bytes": 2 * matrices,
            "cache_bytes": 2 * 2 * layers * config["num_key_value_heads"] * width * context,
        }
        yield Case(f"{label}, context {context}", {"config": config, "context": context}, costs)


EXERCISES = [
    Exercise(
        id="01.1",
        title="a tensor from a safetensors file",
        kind="python",
        function="read_tensor",
        lines=4,
        cases=tensor_cases,
        mistakes=[
            Mistake(
                "ignores the offset", "the tensor begins at its own offset, not at 0.", [("start:end", ": end - start")]
            ),
            Mistake(
                "reads float16",
                "bfloat16 is not float16: it is the upper half of a float32.",
                [("(bits.astype(np.uint32) << 16).view(np.float32)", "bits.view(np.float16).astype(np.float32)")],
            ),
            Mistake(
                "takes the bits for numbers",
                "the 16 bits are no integer: shift them into place, then view them as float32.",
                [("(bits.astype(np.uint32) << 16).view(np.float32)", "bits.astype(np.float32)")],
            ),
            Mistake(
                "puts the bits into the lower half",
                "the 16 bits are the upper half of a float32: shift them by 16.",
                [(" << 16", "")],
            ),
            Mistake("leaves it flat", "the header has a shape: reshape to it.", [('.reshape(entry["shape"])', "")]),
        ],
    ),
    Exercise(
        id="01.2",
        title="counting parameters",
        kind="python",
        function="count_parameters",
        lines=4,
        cases=parameter_cases,
        mistakes=[
            Mistake(
                "as many key heads as query heads",
                "keys and values have KH heads, not H.",
                [("2 * KH * D", "2 * H * D")],
            ),
            Mistake("takes H D for E", "queries have H * D outputs, which need not be E.", [("(H * D +", "(E +")]),
            Mistake(
                "forgets the gate", "the feed-forward part has three matrices.", [("3 * inner * E", "2 * inner * E")]
            ),
            Mistake(
                "forgets the query and key norms", "queries and keys have norm weights of D.", [(" + 2 * D\n", "\n")]
            ),
            Mistake(
                "always ties the head",
                "without tied embeddings the head is a second table.",
                [('1 if config["tie_word_embeddings"] else 2', "1")],
            ),
            Mistake(
                "forgets the last norm",
                "one more norm of E stands before the head.",
                [("tables * V * E + E", "tables * V * E")],
            ),
        ],
    ),
    Exercise(
        id="01.3",
        title="one decoder layer",
        kind="python",
        function="decoder_layer",
        lines=6,
        cases=layer_cases,
        mistakes=[
            Mistake(
                "forgets to add the stream",
                "a block's output is added to x: it does not replace it.",
                [("x = x + linear(attend", "x = linear(attend")],
            ),
            Mistake(
                "adds to the normalised stream",
                "only the blocks read the normalised copy: the sum goes on from x itself.",
                [("return x + linear", "return normed + linear")],
            ),
            Mistake(
                "uses the first norm twice",
                "the second norm has weights of its own.",
                [('rms_norm(x, w["post_attention_layernorm"]', 'rms_norm(x, w["input_layernorm"]')],
            ),
            Mistake(
                "feeds both blocks the same input",
                "the second block reads the stream after attention, normalised anew.",
                [('    normed = rms_norm(x, w["post_attention_layernorm"], eps)\n', "")],
            ),
            Mistake(
                "swaps gate and up",
                "swiglu gates with the first half: gate_proj comes before up_proj.",
                [('("gate_proj", "up_proj")', '("up_proj", "gate_proj")')],
            ),
        ],
    ),
    Exercise(
        id="01.4",
        title="greedy generation",
        kind="python",
        function="generate",
        lines=9,
        cases=generate_cases,
        mistakes=[
            Mistake(
                "looks at the first row",
                "the row after the last token tells what comes next: [-1].",
                [("cache)[-1]", "cache)[0]")],
            ),
            Mistake(
                "feeds the newest token and all before it",
                "the cache knows the earlier tokens: pass the newest one only.",
                [("        new = [token]\n", "        new = [*new, token]\n"), ("new = prompt", "new = list(prompt)")],
            ),
            Mistake(
                "does not stop",
                "generation stops after the token `end`.",
                [("            break\n", "            pass\n")],
            ),
            Mistake(
                "drops the end token",
                "the token `end` belongs to the result: append it before you stop.",
                [
                    ("        output.append(token)\n", ""),
                    ("            break\n", "            break\n        output.append(token)\n"),
                ],
            ),
        ],
    ),
    Exercise(
        id="01.5",
        title="what a token costs",
        kind="python",
        function="token_cost",
        lines=4,
        cases=cost_cases,
        mistakes=[
            Mistake("forgets the head", "the head's V * E numbers are multiplied too.", [(" + V * E\n", "\n")]),
            Mistake(
                "one FLOP for a parameter",
                "a multiplication and an addition: two FLOPs for each number of a matrix.",
                [("flops = 2 * matrices", "flops = matrices")],
            ),
            Mistake(
                "caches every query head",
                "only the KH heads of keys and values are cached.",
                [("2 * KH * D * 2 * context", "2 * H * D * 2 * context")],
            ),
            Mistake(
                "caches half",
                "a key and a value are cached, and each number has two bytes.",
                [("2 * KH * D * 2", "KH * D * 2")],
            ),
            Mistake(
                "attention without its second product",
                "scores and weighted sum: 2 H D S each.",
                [("4 * H * D", "2 * H * D")],
            ),
        ],
    ),
]
