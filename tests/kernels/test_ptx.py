"""The PTX of the tuned GPU kernels holds the instructions they are built around, and keeps arrays in registers.

The compiler writes PTX on a machine without a GPU, so this says what a learner's edit does to the machine code: a load
that is no longer 16 bytes wide, a product that left the tensor cores, an array that moved to local memory.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
TARGET = "sm_90a"
LOCAL = re.compile(r"\b(ld|st)\.local|\.local\b")


@pytest.fixture(scope="module")
def ptx(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The PTX of each kernel of ptx_driver.mojo by file name."""
    folder = tmp_path_factory.mktemp("ptx")
    mojo = Path(sys.executable).parent / "mojo"
    driver = Path(__file__).with_name("ptx_driver.mojo")
    options = ["--emit", "asm", "--target-accelerator", TARGET, "-I", str(ROOT), "-o", str(folder / "driver.s")]
    command = [str(mojo), "build", *options, str(driver)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"LC_ALL": "C"})
    assert done.returncode == 0, done.stderr[-4000:]
    return {file.name: file.read_text() for file in folder.glob("*.ptx")}


def kernels(ptx: dict[str, str], name: str) -> list[str]:
    """The texts of the variants of one kernel."""
    found = [text for file, text in ptx.items() if f"mili_{name}_" in file]
    assert found, f"no PTX of {name} among {sorted(ptx)}"
    return found


@pytest.mark.parametrize("name", ["linear_skinny", "attention_decode"])
def test_weights_and_cache_are_read_sixteen_bytes_at_a_time(ptx: dict[str, str], name: str) -> None:
    for text in kernels(ptx, name):
        assert re.search(r"ld\.global(\.\w+)*\.v4\.(b32|u32|f32)|ld\.global(\.\w+)*\.v2\.(b64|u64)", text)


@pytest.mark.parametrize("name", ["linear_tiled", "attention_prefill"])
def test_tiles_come_by_asynchronous_copies(ptx: dict[str, str], name: str) -> None:
    for text in kernels(ptx, name):
        assert re.search(r"cp\.async\.cg\.shared\.global\S* \[[^]]+\], \[[^]]+\], 16", text)
        assert "ldmatrix.sync.aligned.m8n8.x4" in text


def test_warpgroup_products_read_shared_memory_and_are_waited_for_once_a_step(ptx: dict[str, str]) -> None:
    for text in kernels(ptx, "linear_hopper"):
        assert len(re.findall(r"wgmma\.mma_async\.sync\.aligned\.m64n(?:128|256)k16\.f32\.bf16\.bf16", text)) == 4
        assert len(re.findall(r"wgmma\.wait_group", text)) == 2
        assert "fence.proxy.async.shared::cta" in text


@pytest.mark.parametrize("name", ["linear_skinny", "linear_tiled", "attention_decode", "attention_prefill"])
def test_products_run_on_tensor_cores(ptx: dict[str, str], name: str) -> None:
    for text in kernels(ptx, name):
        assert "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32" in text


@pytest.mark.parametrize(
    "name",
    ["linear_skinny", "linear_tiled", "linear_hopper", "attention_decode", "attention_prefill", "attention_join"],
)
def test_arrays_stay_in_registers(ptx: dict[str, str], name: str) -> None:
    for text in kernels(ptx, name):
        assert not LOCAL.search(text)
