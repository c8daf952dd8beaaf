"""GGUF files: every number format, the order of query and key rows, the configuration, and bad files."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mili.config import Qwen3Config
from mili.errors import ConfigError, MiliError, WeightError
from mili.gguf import GGUFFile, config_from_gguf
from mili.weights import WeightLoader
from tests.engine.gguf_files import write_gguf
from tests.engine.test_weights import assert_same, expected_tensors
from tests.tiny_models import CASES, Config, random_weights

QWEN3: Config = CASES["qwen3_ratio4"] | {"hidden_size": 256, "intermediate_size": 512, "head_dim": 64}
LLAMA: Config = CASES["llama_ratio8"] | {"hidden_size": 256, "intermediate_size": 256, "head_dim": 32}
FORMATS = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q6_K"]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("data", [QWEN3, LLAMA], ids=["qwen3", "llama"])
def test_every_format(tmp_path: Path, data: Config, kind: str) -> None:
    path = tmp_path / "model.gguf"
    held = write_gguf(path, data, random_weights(data, 5), kind)
    config = Qwen3Config.from_pretrained(path)
    for dtype, packed in (("float32", True), ("bfloat16", True), ("float16", False)):
        loaded = WeightLoader(path, config).load(dtype, packed)
        assert_same(loaded, expected_tensors(config, held), dtype, packed)


def scale_min(scales: bytes, j: int) -> tuple[int, int]:
    """The 6-bit scale and minimum of 32 values of a Q4_K block, as ggml-quants.c unpacks them."""
    if j < 4:
        return scales[j] & 63, scales[j + 4] & 63
    high, low = scales[j + 4] >> 4, scales[j + 4] & 15
    return low | (scales[j - 4] >> 6) << 4, high | (scales[j] >> 6) << 4


def q4_k(block: bytes) -> list[float]:
    """The 256 values of a Q4_K block: 2 float16 (scale, minimum), 12 bytes of 6-bit factors, 128 of 4-bit values."""
    d, dmin = struct.unpack("<2e", block[:4])
    values = [0.0] * 256
    for i in range(256):
        group, within = i // 32, i % 32
        scale, minimum = scale_min(block[4:16], group)
        byte = block[16 + group // 2 * 32 + within]
        values[i] = d * scale * (byte >> 4 if group % 2 else byte & 15) - dmin * minimum
    return values


def q6_k(block: bytes) -> list[float]:
    """The 256 values of a Q6_K block: 128 bytes of low bits, 64 of high bits, 16 int8 scales, float16 scale."""
    low, high = block[:128], block[128:192]
    scales, (d,) = struct.unpack("<16b", block[192:208]), struct.unpack("<e", block[208:])
    values = [0.0] * 256
    for i in range(256):
        half, within = i // 128, i % 128
        quarter, lane = within // 32, within % 32
        byte = low[64 * half + 32 * (quarter % 2) + lane]
        four = byte >> 4 if quarter >= 2 else byte & 15
        two = high[32 * half + lane] >> (2 * quarter) & 3
        values[i] = d * scales[i // 16] * ((four | two << 4) - 32)
    return values


@pytest.mark.parametrize(("kind", "decode"), [("Q4_K", q4_k), ("Q6_K", q6_k)])
def test_k_formats_follow_their_definition(tmp_path: Path, kind: str, decode: Callable[[bytes], list[float]]) -> None:
    path = tmp_path / "model.gguf"
    write_gguf(path, QWEN3, random_weights(QWEN3, 5), kind)
    tensor = GGUFFile(path).tensors()["blk.0.ffn_down.weight"]
    block_bytes = tensor.data.shape[1] // 2
    rows = tensor.rows(slice(3, 5), "float32")
    for row in range(2):
        for b in range(2):
            block = tensor.data[3 + row, b * block_bytes : (b + 1) * block_bytes].tobytes()
            np.testing.assert_allclose(rows[row, 256 * b : 256 * (b + 1)], decode(block), rtol=1e-6, atol=1e-6)


# GGUF has keys neither for windows nor for these settings of RoPE.
FOLDER_ONLY = {"qwen3_window", "qwen3_window_everywhere", "llama_llama3", "llama_yarn", "llama_yarn_attention_factor"}


@pytest.mark.parametrize("name", [name for name in CASES if name not in FOLDER_ONLY])
def test_configuration_is_the_same_as_from_the_folder(tmp_path: Path, name: str) -> None:
    data = CASES[name]
    scaling = data["rope_scaling"] or {}
    kind = scaling.get("rope_type") or scaling.get("type")
    keys: dict[str, Any] = {}
    if kind:
        keys = {"rope.scaling.type": kind, "rope.scaling.factor": scaling["factor"]}
    if "original_max_position_embeddings" in scaling:
        keys["rope.scaling.original_context_length"] = scaling["original_max_position_embeddings"]
    write_gguf(tmp_path / "model.gguf", data, random_weights(data, 1), metadata=keys)
    ours, folder = Qwen3Config.from_pretrained(tmp_path / "model.gguf"), Qwen3Config.from_dict(data)
    for field in ("architecture", "vocab_size", "hidden_size", "intermediate_size", "num_layers", "num_heads"):
        assert getattr(ours, field) == getattr(folder, field), field
    for field in ("num_kv_heads", "head_dim", "qk_norm", "tie_word_embeddings", "rope", "windows", "eos_token_ids"):
        assert getattr(ours, field) == getattr(folder, field), field
    assert ours.rms_norm_eps == pytest.approx(folder.rms_norm_eps)
    assert ours.dtype == "float32"


def test_llama3_scaling_stands_in_a_tensor(tmp_path: Path) -> None:
    factors = np.linspace(1, 8, 16, dtype=np.float32)
    path = tmp_path / "model.gguf"
    write_gguf(path, LLAMA, random_weights(LLAMA, 5), extra={"rope_freqs.weight": factors})
    config = Qwen3Config.from_pretrained(path)
    assert config.rope.kind == "factors"
    assert config.rope.frequency_factors == tuple(factors.tolist())
    assert "head" in WeightLoader(path, config).load("bfloat16", packed=True)
    write_gguf(path, LLAMA, random_weights(LLAMA, 5), extra={"rope_freqs.weight": factors[:3]})
    with pytest.raises(ConfigError, match="rope_freqs holds 3 factors; head_dim 32 needs 16"):
        Qwen3Config.from_pretrained(path)


@pytest.mark.parametrize(
    ("kind", "names", "ends"),
    [
        ("qwen2", ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], (2, 0)),
        ("smollm", ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], (2,)),
        ("llama-bpe", ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "x", "<|eom_id|>"], (2, 1, 4)),
    ],
)
def test_tokens_that_end_the_output(tmp_path: Path, kind: str, names: list[str], ends: tuple[int, ...]) -> None:
    path = tmp_path / "model.gguf"
    write_gguf(path, QWEN3, random_weights(QWEN3, 5), tokens=(kind, names))
    assert Qwen3Config.from_pretrained(path).eos_token_ids == ends


def test_a_part_of_a_split_file(tmp_path: Path) -> None:
    path = tmp_path / "model-00001-of-00002.gguf"
    write_gguf(path, QWEN3, random_weights(QWEN3, 5))
    file = GGUFFile(path)
    file.metadata["split.count"] = 2
    with pytest.raises(ConfigError, match=r"is one of 2 parts of a model; join them"):
        config_from_gguf(file)


BAD_METADATA: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "missing": ({"block_count": None}, ("qwen3.block_count is missing",)),
    "heads per layer": ({"attention.head_count_kv": [2, 1]}, ("head_count_kv is [2, 1]",)),
    "value length": ({"attention.value_length": 32}, ("value_length 32", "64")),
    "partial rotation": ({"rope.dimension_count": 32}, ("dimension_count 32", "64")),
    "experts": ({"expert_count": 8}, ("expert_count 8",)),
    "window": ({"attention.sliding_window": 128}, ("sliding_window 128",)),
    "eps": ({"attention.layer_norm_rms_epsilon": "small"}, ("wrong type", "small")),
    "rope": ({"rope.scaling.type": "longrope", "rope.scaling.factor": 2.0}, ("rope_type 'longrope'",)),
    "head ratio": ({"attention.head_count_kv": 3}, ("num_key_value_heads 3",)),
}


@pytest.mark.parametrize("name", BAD_METADATA)
def test_unsupported_metadata_is_named(tmp_path: Path, name: str) -> None:
    change, words = BAD_METADATA[name]
    path = tmp_path / "model.gguf"
    write_gguf(path, QWEN3, random_weights(QWEN3, 5), metadata=change)
    with pytest.raises(ConfigError) as caught:
        Qwen3Config.from_pretrained(path)
    assert str(caught.value).startswith(str(path))
    for word in words:
        assert word in str(caught.value)


def test_unknown_architecture(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write_gguf(path, QWEN3 | {"model_type": "gemma"}, random_weights(QWEN3, 5))
    with pytest.raises(ConfigError, match="architecture 'gemma' is not supported; supported: qwen3, llama"):
        Qwen3Config.from_pretrained(path)


@pytest.mark.parametrize("kind", ["Q5_0", "IQ4_NL", "TQ1_0"])
def test_unknown_quantisation(tmp_path: Path, kind: str) -> None:
    import gguf

    path = tmp_path / "model.gguf"
    write_gguf(path, QWEN3, random_weights(QWEN3, 5))
    config = Qwen3Config.from_pretrained(path)
    data = bytearray(path.read_bytes())
    entry = data.index(b"blk.0.ffn_down.weight") + len(b"blk.0.ffn_down.weight") + 4 + 16
    data[entry : entry + 4] = int(gguf.GGMLQuantizationType[kind]).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(WeightError, match=rf"blk\.0\.ffn_down\.weight is quantised as {kind}.*supported: .*Q6_K"):
        WeightLoader(path, config)
    data[entry : entry + 4] = (999).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(WeightError, match="quantised as type 999"):
        WeightLoader(path, config)


BAD_BYTES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut in the tensors": (lambda data: data[:-5000], "is truncated: .* ends at byte"),
    "cut in the metadata": (lambda data: data[:200], "truncated or corrupt near byte"),
    "cut in the magic": (lambda data: data[:3], "is not a GGUF file"),
    "empty": (lambda data: b"", "is empty"),
    "another format": (lambda data: b"PK\x03\x04" + data[4:], "is not a GGUF file"),
    "version": (lambda data: data[:4] + (7).to_bytes(4, "little") + data[8:], "version 7 is not supported"),
    "length of a key": (lambda data: data[:24] + b"\xff" * 8 + data[32:], "truncated or corrupt near byte"),
    "number of keys": (lambda data: data[:16] + b"\xff\xff\xff" + data[19:], "truncated or corrupt near byte"),
}


@pytest.mark.parametrize("name", BAD_BYTES)
def test_bad_files_are_named(tmp_path: Path, name: str) -> None:
    edit, message = BAD_BYTES[name]
    path = tmp_path / "model.gguf"
    write_gguf(path, QWEN3, random_weights(QWEN3, 5))
    path.write_bytes(edit(path.read_bytes()))
    with pytest.raises(WeightError, match=message) as caught:
        WeightLoader(path, Qwen3Config.from_pretrained(path))
    assert str(path) in str(caught.value)


def test_noise_in_the_header_is_always_an_error_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write_gguf(path, QWEN3, random_weights(QWEN3, 5))
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        data = bytearray(good)
        for position in rng.integers(4, 1500, 3):
            data[position] = rng.integers(256)
        path.write_bytes(data)
        try:
            WeightLoader(path, Qwen3Config.from_pretrained(path))
        except MiliError:
            refused += 1
    assert refused > 75


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(WeightError, match="does not exist"):
        GGUFFile(tmp_path / "none.gguf")


def test_missing_tensor(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    weights = random_weights(QWEN3, 5)
    del weights["model.layers.1.mlp.up_proj.weight"]
    write_gguf(path, QWEN3, weights)
    with pytest.raises(WeightError, match=r"blk\.1\.ffn_up\.weight is missing"):
        WeightLoader(path, Qwen3Config.from_pretrained(path))
    del weights["model.embed_tokens.weight"]
    write_gguf(path, QWEN3, weights)
    with pytest.raises(WeightError, match=r"token_embd\.weight is missing"):
        Qwen3Config.from_pretrained(path)
