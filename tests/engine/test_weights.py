"""`WeightLoader`: every tensor of a checkpoint where the engine expects it, and clear words about bad files."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import mili.weights
from mili.config import Qwen3Config
from mili.errors import WeightError
from mili.packing import Tensor, from_float32, packed_shape, to_float32, unpack
from mili.random_weights import random_weights
from mili.weights import WeightLoader
from tests.tiny_models import CASES, Weights, seed_of, write_folder, write_safetensors
from tests.tiny_models import random_weights as checkpoint

NAME = "qwen3_odd_sizes"  # odd hidden, intermediate and vocabulary sizes: every kind of padding


def expected_tensors(config: Qwen3Config, weights: Weights) -> dict[str, NDArray[np.float32]]:
    """The engine's tensors of a Hugging Face checkpoint, row-major float32."""
    tensors = {"embed": weights["model.embed_tokens.weight"], "norm": weights["model.norm.weight"]}
    if not config.tie_word_embeddings:
        tensors["head"] = weights["lm_head.weight"]
    for i in range(config.num_layers):
        layer = {k.split(f"layers.{i}.", 1)[1]: w for k, w in weights.items() if f"layers.{i}." in k}
        parts = {
            "input_norm": ["input_layernorm"],
            "qkv": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
            "o": ["self_attn.o_proj"],
            "post_norm": ["post_attention_layernorm"],
            "gate_up": ["mlp.gate_proj", "mlp.up_proj"],
            "down": ["mlp.down_proj"],
        }
        if config.qk_norm:
            parts |= {"q_norm": ["self_attn.q_norm"], "k_norm": ["self_attn.k_norm"]}
        for name, group in parts.items():
            tensors[f"layers.{i}.{name}"] = np.concatenate([layer[part + ".weight"] for part in group])
    return tensors


def rows_of(tensor: Tensor, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The row-major float32 values of a tensor that may be packed."""
    assert tensor.shape == tensor.data.shape
    if len(shape) == 1 or tensor.data.ndim == 2:
        return to_float32(tensor.data, tensor.dtype)
    assert tensor.shape == packed_shape(*shape, tensor.dtype)
    return to_float32(unpack(tensor.data, *shape), tensor.dtype)


def assert_same(loaded: dict[str, Tensor], expected: dict[str, NDArray[np.float32]], dtype: str, packed: bool) -> None:
    assert set(loaded) == set(expected)
    for name, values in expected.items():
        tensor = loaded[name]
        assert (tensor.name, tensor.dtype) == (name, dtype)
        assert tensor.data.ndim == (1 if values.ndim == 1 else {"float32": 3, "bfloat16": 4}[dtype] if packed else 2)
        rounded = to_float32(from_float32(values, dtype), dtype)
        np.testing.assert_array_equal(rows_of(tensor, values.shape), rounded, err_msg=name)


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("stored", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(
    ("dtype", "packed"),
    [("float32", True), ("bfloat16", True), ("float32", False), ("bfloat16", False), ("float16", False)],
)
def test_every_dtype_and_layout(tmp_path: Path, stored: str, dtype: str, packed: bool, shards: int) -> None:
    write_folder(tmp_path, NAME, stored, shards=shards)  # type: ignore[arg-type]
    config = Qwen3Config.from_pretrained(tmp_path)
    held = {n: w.astype(np.float16).astype(np.float32) for n, w in checkpoint(CASES[NAME], seed_of(NAME)).items()}
    weights = held if stored == "float16" else checkpoint(CASES[NAME], seed_of(NAME))
    assert_same(WeightLoader(tmp_path, config).load(dtype, packed), expected_tensors(config, weights), dtype, packed)


@pytest.mark.parametrize("name", CASES)
def test_every_architecture(tmp_path: Path, name: str) -> None:
    write_folder(tmp_path, name, "bfloat16")
    config = Qwen3Config.from_pretrained(tmp_path)
    expected = expected_tensors(config, checkpoint(CASES[name], seed_of(name)))
    assert_same(WeightLoader(tmp_path, config).load("bfloat16", packed=True), expected, "bfloat16", packed=True)
    assert config.num_parameters == sum(w.size for w in checkpoint(CASES[name], 0).values())


@pytest.mark.parametrize("packed", [True, False])
def test_chunks_do_not_show(tmp_path: Path, packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrices are converted in pieces by several threads; the joints of qkv and gate_up fall anywhere."""
    write_folder(tmp_path, "qwen3_ratio4", "float32")
    config = Qwen3Config.from_pretrained(tmp_path)
    expected = expected_tensors(config, checkpoint(CASES["qwen3_ratio4"], seed_of("qwen3_ratio4")))
    monkeypatch.setattr(mili.weights, "_CHUNK", 1)
    loaded = WeightLoader(tmp_path, config).load("bfloat16", packed)
    assert_same(loaded, expected, "bfloat16", packed)


def test_unchanged_matrices_are_views_of_the_file(tmp_path: Path) -> None:
    write_folder(tmp_path, "qwen3_ratio2", "bfloat16")
    loaded = WeightLoader(tmp_path, Qwen3Config.from_pretrained(tmp_path)).load("bfloat16", packed=False)
    assert isinstance(loaded["layers.0.down"].data.base, np.ndarray)
    assert not loaded["layers.0.down"].data.flags.owndata
    assert loaded["layers.0.qkv"].data.flags.owndata


@pytest.mark.parametrize("spaces", range(4))
def test_a_header_of_any_length(tmp_path: Path, spaces: int) -> None:
    """Writers pad the header so that tensors are aligned, but the format does not ask for it."""
    file = write_folder(tmp_path, "qwen3_ratio2", "bfloat16") / "model.safetensors"
    config = Qwen3Config.from_pretrained(tmp_path)
    expected = WeightLoader(tmp_path, config).load("bfloat16", packed=False)
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length] + b" " * spaces
    file.unlink()  # what is loaded is a view of the old one
    file.write_bytes((length + spaces).to_bytes(8, "little") + header + data[8 + length :])
    for packed in (True, False):
        for name, tensor in WeightLoader(tmp_path, config).load("bfloat16", packed).items():
            assert tensor.data.flags.aligned
            np.testing.assert_array_equal(rows_of(tensor, expected[name].shape), rows_of(expected[name], (1,)))


def test_a_tied_head_in_the_file_is_left_out(tmp_path: Path) -> None:
    write_folder(tmp_path, "qwen3_ratio2")
    weights = checkpoint(CASES["qwen3_ratio2"], 1)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(8, np.float32)
    write_safetensors(tmp_path / "model.safetensors", weights)
    loaded = WeightLoader(tmp_path, Qwen3Config.from_pretrained(tmp_path)).load("float32", packed=True)
    assert "head" not in loaded


def change(edit: Callable[[Weights], object]) -> Callable[[Path], object]:
    """Rewrite the folder's only file with some tensors changed."""

    def apply(folder: Path) -> None:
        weights = checkpoint(CASES[NAME], 1)
        edit(weights)
        write_safetensors(folder / "model.safetensors", weights)

    return apply


def rewrite(edit: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    """Change the bytes of the folder's only file."""

    def apply(folder: Path) -> None:
        file = folder / "model.safetensors"
        file.write_bytes(edit(file.read_bytes()))

    return apply


def header_edit(edit: Callable[[dict[str, dict[str, object]]], object]) -> Callable[[Path], object]:
    """Change the JSON header of the folder's only file."""

    def apply(data: bytes) -> bytes:
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        edit(header)
        text = json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + data[8 + length :]

    return rewrite(apply)


DOWN = "model.layers.0.mlp.down_proj.weight"
BAD: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "missing": (change(lambda w: w.pop(DOWN)), (DOWN, "missing")),
    "missing many": (change(dict.clear), ("model.embed_tokens.weight", "more are missing")),
    "extra": (change(lambda w: w.update(extra=np.ones(3, np.float32))), ("extra is unknown", "Qwen3ForCausalLM")),
    "bias": (
        change(lambda w: w.update({"model.layers.0.self_attn.q_proj.bias": np.ones(54, np.float32)})),
        ("q_proj.bias is unknown",),
    ),
    "misshaped": (
        change(lambda w: w.update({DOWN: np.ones((45, 78), np.float32)})),
        (DOWN, "[45, 78]", "[45, 77]"),
    ),
    "transposed": (change(lambda w: w.update({DOWN: np.ascontiguousarray(w[DOWN].T)})), ("[77, 45]", "[45, 77]")),
    "truncated": (rewrite(lambda data: data[:-100]), ("truncated", "fetch it again")),
    "cut in the header": (rewrite(lambda data: data[:50]), ("truncated", "header claims")),
    "a few bytes": (rewrite(lambda data: data[:5]), ("truncated",)),
    "empty": (rewrite(lambda data: b""), ("is empty",)),
    "header of noise": (
        rewrite(lambda data: data[:8] + b"\xfe" * 4000 + data[4008:]),
        ("corrupt", "not a JSON object"),
    ),
    "not safetensors": (rewrite(lambda data: b"<!DOCTYPE html>" * 20), ("no safetensors file",)),
    "shape against bytes": (header_edit(lambda h: h[DOWN].update(shape=[45, 76])), ("corrupt", "[45, 76]", DOWN)),
    "no offsets": (header_edit(lambda h: h[DOWN].pop("data_offsets")), ("corrupt", DOWN)),
    "offsets backwards": (header_edit(lambda h: h[DOWN].update(data_offsets=[90, 40])), (DOWN,)),
    "number format": (header_edit(lambda h: h[DOWN].update(dtype="F8_E4M3")), ("'F8_E4M3'", "BF16", DOWN)),
    "file is gone": (lambda folder: (folder / "model.safetensors").unlink(), ("holds no safetensors",)),
    "a pickle": (
        lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
        ("pytorch_model.bin is a pickle", "convert"),
    ),
    "two files, no index": (
        lambda folder: (
            [(folder / f"{i}.safetensors").write_bytes(b"") for i in "ab"] and (folder / "model.safetensors").unlink()
        ),
        ("2 safetensors files", "index"),
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named(tmp_path: Path, name: str) -> None:
    damage, words = BAD[name]
    write_folder(tmp_path, NAME)
    config = Qwen3Config.from_pretrained(tmp_path)
    damage(tmp_path)
    with pytest.raises(WeightError) as caught:
        WeightLoader(tmp_path, config)
    assert str(tmp_path) in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_bad_shards_are_named(tmp_path: Path) -> None:
    write_folder(tmp_path, NAME, shards=3)
    config = Qwen3Config.from_pretrained(tmp_path)
    index, second = tmp_path / "model.safetensors.index.json", tmp_path / "model-00002-of-00003.safetensors"
    contents, good = second.read_bytes(), index.read_text()
    second.unlink()
    with pytest.raises(WeightError, match=r"1 of 3 shards are missing .model-00002-of-00003"):
        WeightLoader(tmp_path, config)
    second.write_bytes(contents[: len(contents) // 2])
    with pytest.raises(WeightError, match=r"model-00002-of-00003\.safetensors is truncated"):
        WeightLoader(tmp_path, config)
    second.write_bytes((tmp_path / "model-00001-of-00003.safetensors").read_bytes())
    with pytest.raises(WeightError, match=r"in model-00002-of-00003\.safetensors, which does not hold it"):
        WeightLoader(tmp_path, config)
    for damaged in ("{", "[]", '{"weight_map": [1]}', '{"weight_map": {"a": 1}}', "{}"):
        index.write_text(damaged)
        with pytest.raises(WeightError, match=r"index\.json is corrupt"):
            WeightLoader(tmp_path, config)
    second.write_bytes(contents)
    index.write_text(good)
    assert len(WeightLoader(tmp_path, config).load("float32", packed=True)) == 18


def test_dtypes_that_cannot_be_had(tmp_path: Path) -> None:
    write_folder(tmp_path, "qwen3_ratio2")
    loader = WeightLoader(tmp_path, Qwen3Config.from_pretrained(tmp_path))
    with pytest.raises(WeightError, match="dtype 'float16' is not supported on the CPU"):
        loader.load("float16", packed=True)
    with pytest.raises(WeightError, match="dtype 'int8' is not supported for weights"):
        loader.load("int8", packed=False)


def test_values_beyond_float16(tmp_path: Path) -> None:
    write_folder(tmp_path, NAME)
    change(lambda w: w[DOWN].__setitem__((3, 4), 70000.0))(tmp_path)
    loader = WeightLoader(tmp_path, Qwen3Config.from_pretrained(tmp_path))
    with pytest.raises(WeightError, match=rf"{DOWN} has values beyond float16"):
        loader.load("float16", packed=False)


@pytest.mark.parametrize("name", ["qwen3_odd_sizes", "llama_ratio3_tied", "qwen3_separate_head"])
def test_random_weights_look_like_loaded_ones(tmp_path: Path, name: str) -> None:
    write_folder(tmp_path, name)
    config = Qwen3Config.from_pretrained(tmp_path)
    loaded = WeightLoader(tmp_path, config).load("bfloat16", packed=True)
    drawn = random_weights(config, "bfloat16", seed=0, packed=True)
    assert {n: t.shape for n, t in drawn.items()} == {n: t.shape for n, t in loaded.items()}


def test_random_weights_depend_on_the_seed_alone() -> None:
    config = replace(Qwen3Config.from_dict(CASES["qwen3_ratio4"]), vocab_size=5000, hidden_size=301)
    packed, plain = (random_weights(config, "float32", 3, packed) for packed in (True, False))
    for name, tensor in plain.items():
        np.testing.assert_array_equal(rows_of(packed[name], tensor.shape), tensor.data, err_msg=name)
    again, other = (random_weights(config, "float32", seed, packed=False)["embed"].data for seed in (3, 4))
    np.testing.assert_array_equal(plain["embed"].data, again)
    assert not np.array_equal(again, other)
    assert np.std(again) == pytest.approx(0.02, rel=0.01)
    assert abs(np.mean(again)) < 1e-4
    assert len(np.unique(again)) > again.size / 10  # not a pattern that repeats
    assert not np.array_equal(plain["layers.0.o"].data, plain["layers.1.o"].data)
    np.testing.assert_array_equal(plain["norm"].data, 1.0)
