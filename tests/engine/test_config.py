"""`Qwen3Config` reads what published configurations say, and names what it does not support."""

import json
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest

from mili.config import Qwen3Config
from mili.errors import ConfigError
from tests import tiny_models
from tests.tiny_models import CASES, rope_form

QWEN3_06B: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 1024,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "max_position_embeddings": 40960,
    "max_window_layers": 28,
    "model_type": "qwen3",
    "num_attention_heads": 16,
    "num_hidden_layers": 28,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.51.0",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
MISTRAL = CASES["llama_ratio1"] | {"architectures": ["MistralForCausalLM"], "model_type": "mistral"}


def test_qwen3_06b() -> None:
    config = Qwen3Config.from_dict(QWEN3_06B)
    assert (config.num_layers, config.num_heads, config.num_kv_heads, config.head_dim) == (28, 16, 8, 128)
    assert (config.hidden_size, config.intermediate_size, config.vocab_size) == (1024, 3072, 151936)
    assert config.qk_norm
    assert config.tie_word_embeddings
    assert config.rope.theta == 1e6
    assert config.windows == (0,) * 28
    assert (config.bos_token_id, config.eos_token_ids) == (151643, (151645,))
    assert config.dtype == "bfloat16"
    assert config.qkv_size == 4096
    assert config.num_parameters == 596_049_920  # the model card's 0.6B


def test_config_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Qwen3Config.from_dict(QWEN3_06B).num_layers = 3  # type: ignore[misc]


@pytest.mark.parametrize("name", CASES)
def test_old_and_new_rope_forms_are_one(name: str) -> None:
    old, new = (Qwen3Config.from_dict(rope_form(CASES[name], form)) for form in ("old", "new"))
    assert old == new
    assert old.rope.theta == CASES[name]["rope_theta"]
    assert old.qk_norm == name.startswith("qwen3")


def test_windows_of_each_architecture() -> None:
    window = {"sliding_window": 64, "max_window_layers": 2, "num_hidden_layers": 4}
    base = CASES["qwen3_ratio2"] | window
    assert Qwen3Config.from_dict(base).windows == (0, 0, 0, 0), "use_sliding_window is off"
    assert Qwen3Config.from_dict(base | {"use_sliding_window": True}).windows == (0, 0, 64, 64)
    kinds = ["sliding_attention", "full_attention"] * 2
    mixed = base | {"use_sliding_window": True, "layer_types": kinds}
    assert Qwen3Config.from_dict(mixed).windows == (64, 0, 64, 0)
    assert Qwen3Config.from_dict(MISTRAL | {"sliding_window": 32, "num_hidden_layers": 2}).windows == (32, 32)
    assert Qwen3Config.from_dict(MISTRAL | {"sliding_window": None}).windows == (0,)
    assert Qwen3Config.from_dict(CASES["llama_ratio1"] | {"sliding_window": 32}).windows == (0,)


def test_what_a_file_may_leave_out() -> None:
    data = {k: v for k, v in CASES["llama_ratio1"].items() if k not in ("head_dim", "num_key_value_heads")}
    for key in ("rope_theta", "rope_scaling", "tie_word_embeddings", "eos_token_id", "bos_token_id", "torch_dtype"):
        data.pop(key)
    config = Qwen3Config.from_dict(data)
    assert (config.head_dim, config.num_kv_heads) == (16, 4)
    assert config.rope.theta == 10000.0
    assert (config.bos_token_id, config.eos_token_ids, config.tie_word_embeddings) == (None, (), False)
    del data["architectures"]
    assert Qwen3Config.from_dict(data).architecture == "LlamaForCausalLM", "from model_type"


def test_eos_ids_of_generation_config_are_added(tmp_path: Path) -> None:
    tiny_models.write_folder(tmp_path, "qwen3_ratio2")
    assert Qwen3Config.from_pretrained(tmp_path).eos_token_ids == (2,)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 2]}))
    assert Qwen3Config.from_pretrained(tmp_path).eos_token_ids == (2, 7)


def test_dtype_of_the_checkpoint(tmp_path: Path) -> None:
    for form, dtype in (("old", "float16"), ("new", "float32")):
        tiny_models.write_folder(tmp_path / dtype, "qwen3_ratio2", dtype, form)  # type: ignore[arg-type]
        assert Qwen3Config.from_pretrained(tmp_path / dtype).dtype == dtype


YARN = {"rope_type": "yarn", "factor": 4.0}
BAD: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "architecture": ({"architectures": ["GPT2LMHeadModel"]}, ("architecture 'GPT2LMHeadModel'", "LlamaForCausalLM")),
    "mixture of experts": ({"architectures": ["Qwen3MoeForCausalLM"]}, ("Qwen3MoeForCausalLM",)),
    "qwen2, whose projections have biases": ({"architectures": ["Qwen2ForCausalLM"]}, ("Qwen2ForCausalLM",)),
    "no architecture": ({"architectures": None, "model_type": None}, ("architecture None",)),
    "bias": ({"attention_bias": True}, ("attention_bias True",)),
    "mlp bias": ({"mlp_bias": True}, ("mlp_bias True",)),
    "quantised": ({"quantization_config": {"quant_method": "awq"}}, ("quantization_config", "awq")),
    "activation": ({"hidden_act": "gelu"}, ("hidden_act 'gelu'", "silu")),
    "missing size": ({"hidden_size": None}, ("hidden_size is missing",)),
    "text for a size": ({"num_hidden_layers": "two"}, ("num_hidden_layers is 'two'",)),
    "zero": ({"vocab_size": 0}, ("vocab_size is 0",)),
    "absurd": ({"num_hidden_layers": 10**12}, ("num_layers is more than 1000",)),
    "negative": ({"num_key_value_heads": -2}, ("num_key_value_heads is -2",)),
    "true for a size": ({"intermediate_size": True}, ("intermediate_size is True",)),
    "odd head": ({"head_dim": 15}, ("head_dim 15 is odd",)),
    "head ratio": ({"num_key_value_heads": 3}, ("num_attention_heads 4", "num_key_value_heads 3")),
    "eps": ({"rms_norm_eps": 0}, ("rms_norm_eps is 0",)),
    "eps text": ({"rms_norm_eps": "small"}, ("rms_norm_eps is 'small'",)),
    "dtype": ({"torch_dtype": "float8_e4m3fn"}, ("dtype 'float8_e4m3fn'", "bfloat16")),
    "eos outside": ({"eos_token_id": [2, 999]}, ("999", "vocabulary of 211")),
    "eos text": ({"eos_token_id": "</s>"}, ("eos_token_id is '</s>'",)),
    "dynamic rope": ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, ("rope_type 'dynamic'", "yarn")),
    "longrope": ({"rope_scaling": {"rope_type": "longrope"}}, ("rope_type 'longrope'",)),
    "rope text": ({"rope_scaling": "linear"}, ("rope_scaling is 'linear'",)),
    "rope factor": ({"rope_scaling": {"rope_type": "linear"}}, ("rope factor is None",)),
    "rope factor below 0": ({"rope_scaling": {"rope_type": "linear", "factor": -1}}, ("rope factor is -1",)),
    "rope theta of 1": ({"rope_theta": 1.0}, ("rope_theta is 1.0",)),
    "rope theta": ({"rope_theta": "big"}, ("rope_theta is 'big'",)),
    "unknown rope setting": ({"rope_scaling": YARN | {"mrope_section": [8, 8]}}, ("mrope_section=[8, 8]",)),
    "yarn betas": ({"rope_scaling": YARN | {"beta_fast": 1.0, "beta_slow": 2.0}}, ("beta_fast 1.0", "beta_slow 2.0")),
    "llama3 incomplete": ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, ("rope low_freq_factor is None",)),
    "partial rotation": ({"partial_rotary_factor": 0.5}, ("partial_rotary_factor 0.5",)),
    "rope by layer type": (
        {"rope_parameters": {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}}},
        ("full_attention, sliding_attention",),
    ),
    "layer type": ({"layer_types": ["full_attention", "linear_attention"]}, ("'linear_attention'",)),
    "layer types count": ({"layer_types": ["full_attention"]}, ("1 entries", "num_hidden_layers is 2")),
    "window not switched on": ({"layer_types": ["sliding_attention"] * 2}, ("no sliding window is switched on",)),
    "window": ({"use_sliding_window": True, "sliding_window": 0}, ("sliding_window is 0",)),
}


@pytest.mark.parametrize("name", BAD)
def test_unsupported_values_are_named(name: str) -> None:
    change, words = BAD[name]
    with pytest.raises(ConfigError) as caught:
        Qwen3Config.from_dict(CASES["qwen3_ratio2"] | change, "model/config.json")
    assert str(caught.value).startswith("model/config.json: ")
    for word in words:
        assert word in str(caught.value)


def test_llama3_factors_in_order() -> None:
    scaling = CASES["llama_llama3"]["rope_scaling"] | {"high_freq_factor": 1.0}
    with pytest.raises(ConfigError, match=r"high_freq_factor 1\.0 must be above low_freq_factor 1\.0"):
        Qwen3Config.from_dict(CASES["llama_llama3"] | {"rope_scaling": scaling})


def test_hidden_size_without_head_dim() -> None:
    with pytest.raises(ConfigError, match="hidden_size 65 is not a multiple of num_attention_heads 4"):
        Qwen3Config.from_dict(CASES["llama_ratio1"] | {"hidden_size": 65})


def test_windows_match_the_layers() -> None:
    with pytest.raises(ConfigError, match=r"windows .* must hold 28 entries"):
        replace(Qwen3Config.from_dict(QWEN3_06B), windows=(0,))


@pytest.mark.parametrize(
    ("contents", "words"),
    [(None, "does not exist"), (b"{", "not valid JSON"), (b"\xff", "not valid JSON"), (b"[]", "list")],
)
def test_unreadable_files(tmp_path: Path, contents: bytes | None, words: str) -> None:
    if contents is not None:
        (tmp_path / "config.json").write_bytes(contents)
    with pytest.raises(ConfigError, match=words) as caught:
        Qwen3Config.from_pretrained(tmp_path)
    assert str(tmp_path / "config.json") in str(caught.value)


@pytest.mark.oracle
@pytest.mark.parametrize("form", ["old", "new"])
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_transformers(name: str, form: tiny_models.RopeForm, tmp_path: Path) -> None:
    from transformers import AutoConfig

    data = rope_form(CASES[name], form)
    (tmp_path / "config.json").write_text(json.dumps(data))
    theirs, ours = AutoConfig.from_pretrained(tmp_path), Qwen3Config.from_pretrained(tmp_path)
    assert ours.num_layers == theirs.num_hidden_layers
    assert (ours.num_heads, ours.num_kv_heads) == (theirs.num_attention_heads, theirs.num_key_value_heads)
    assert ours.head_dim == theirs.head_dim
    assert ours.rms_norm_eps == theirs.rms_norm_eps
    assert ours.rope.theta == theirs.rope_parameters["rope_theta"]
    assert ours.rope.kind == theirs.rope_parameters["rope_type"]
    assert f"torch.{ours.dtype}" == str(theirs.dtype)
    if hasattr(theirs, "layer_types"):
        windows = [theirs.sliding_window if kind == "sliding_attention" else 0 for kind in theirs.layer_types]
        assert list(ours.windows) == windows
