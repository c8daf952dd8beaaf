"""The small random models are what they say, in every form they are written in."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from tests import tiny_models


@pytest.mark.parametrize("name", tiny_models.CASES)
def test_weights_have_the_shapes_of_the_config_and_depend_on_the_seed_alone(name: str) -> None:
    config = tiny_models.CASES[name]
    first = tiny_models.random_weights(config, 3)
    again = tiny_models.random_weights(config, 3)
    other = tiny_models.random_weights(config, 4)
    assert {n: w.shape for n, w in first.items()} == dict(tiny_models.weight_shapes(config))
    for tensor, values in first.items():
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, again[tensor])
        assert not np.array_equal(values, other[tensor])


def test_bfloat16_rounds_to_nearest_and_ties_to_even() -> None:
    step = 2.0**-7
    values = np.array([1 + step / 2, 1 + 3 * step / 2, 1 + step * 0.51, -1 - step * 0.49, 0.0], np.float32)
    expected = np.array([1.0, 1 + 2 * step, 1 + step, -1.0, 0.0], np.float32)
    np.testing.assert_array_equal(tiny_models.from_bfloat16(tiny_models.to_bfloat16(values)), expected)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_folder_holds_the_weights(tmp_path: Path, dtype: tiny_models.WeightDtype) -> None:
    folder = tiny_models.write_folder(tmp_path / "model", "qwen3_ratio2", dtype)
    expected = tiny_models.random_weights(tiny_models.CASES["qwen3_ratio2"], tiny_models.seed_of("qwen3_ratio2"))
    stored = load_file(folder / "model.safetensors")
    assert set(stored) == set(expected)
    for tensor, values in expected.items():
        np.testing.assert_array_equal(stored[tensor], values.astype(dtype))


def test_bfloat16_shards_hold_every_tensor_once(tmp_path: Path) -> None:
    folder = tiny_models.write_folder(tmp_path, "llama_yarn", "bfloat16", form="new", shards=3)
    config = json.loads((folder / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    assert config["rope_parameters"]["rope_type"] == "yarn"
    weight_map = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    assert set(weight_map) == dict(tiny_models.weight_shapes(tiny_models.CASES["llama_yarn"])).keys()
    for tensor, file in weight_map.items():
        with safe_open(folder / file, "numpy") as shard:
            assert shard.get_slice(tensor).get_dtype() == "BF16"
