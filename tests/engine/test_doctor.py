"""The doctor: what it reports, and the one sentence for each thing that can be wrong with a GPU."""

import json
from pathlib import Path
from typing import Any

import pytest
from max.driver import accelerator_count

from mili import device, doctor
from mili.errors import DeviceError
from mili.hardware import Gpus, cpu_description, find_gpus, nvidia_driver, pci_gpus
from tests.tiny_models import write_folder

OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs)\nGCC 12\n"
OLD = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.256.02  Thu May  2 14:37:44 UTC 2024\n"


def machine(root: Path, driver: str | None = None, devices: list[tuple[str, str]] | None = None) -> Path:
    """A file tree that looks like a machine with this driver and these PCI devices (vendor, class)."""
    if driver is not None:
        (root / "proc/driver/nvidia").mkdir(parents=True)
        (root / "proc/driver/nvidia/version").write_text(driver)
    for i, (vendor, kind) in enumerate(devices or []):
        folder = root / f"sys/bus/pci/devices/0000:0{i}:00.0"
        folder.mkdir(parents=True)
        (folder / "vendor").write_text(vendor + "\n")
        (folder / "class").write_text(kind + "\n")
    return root


class FakeGpu:
    model_name, architecture_name, is_compatible = "NVIDIA H100", "sm_90a", True
    stats = {"total_memory": 80, "free_memory": 70}  # noqa: RUF012


def look(root: Path, count: int = 0, open_device: Any = lambda i: FakeGpu(), **environment: str) -> Gpus:
    return find_gpus(root, lambda: count, open_device, environment)


NVIDIA, AMD, NETWORK = ("0x10de", "0x030200"), ("0x1002", "0x120000"), ("0x10de", "0x020000")


def test_driver_versions(tmp_path: Path) -> None:
    assert nvidia_driver(machine(tmp_path / "open", OPEN)) == "580.65.06"
    assert nvidia_driver(machine(tmp_path / "old", OLD)) == "470.256.02"
    assert nvidia_driver(machine(tmp_path / "odd", "no numbers here")) is None
    assert nvidia_driver(tmp_path) is None


def test_gpus_on_the_bus(tmp_path: Path) -> None:
    intel = ("0x8086", "0x030000")
    assert pci_gpus(machine(tmp_path, devices=[intel, NVIDIA, NETWORK, AMD])) == ["NVIDIA", "AMD"]
    assert pci_gpus(tmp_path / "nothing") == []


def test_a_machine_without_a_gpu_has_no_problem(tmp_path: Path) -> None:
    assert look(machine(tmp_path, devices=[NETWORK])) == Gpus((), None, None)


def test_usable_gpus(tmp_path: Path) -> None:
    gpus = look(machine(tmp_path, OPEN, [NVIDIA, NVIDIA]), count=2)
    assert [(gpu.index, gpu.name, gpu.free_memory) for gpu in gpus.usable] == [
        (0, "NVIDIA H100", 70),
        (1, "NVIDIA H100", 70),
    ]
    assert gpus.driver == "580.65.06"
    assert gpus.problem is None


def test_gpu_without_a_driver(tmp_path: Path) -> None:
    problem = look(machine(tmp_path, devices=[NVIDIA])).problem
    assert problem == "This machine has a GPU of NVIDIA, but its driver is not loaded: install the driver to use it."


def test_driver_loaded_but_no_gpu_seen(tmp_path: Path) -> None:
    problem = look(machine(tmp_path, OLD, [NVIDIA])).problem
    assert problem is not None
    assert problem.startswith("NVIDIA driver 470.256.02 is loaded, but MAX sees no GPU: the driver is too old, or")


@pytest.mark.parametrize("value", ["", "-1"])
def test_gpu_hidden_by_a_variable(tmp_path: Path, value: str) -> None:
    problem = look(machine(tmp_path, OPEN, [NVIDIA]), CUDA_VISIBLE_DEVICES=value).problem
    assert problem == f"CUDA_VISIBLE_DEVICES is {value!r}, which hides every GPU; unset it to use one."


def test_driver_too_old_for_max(tmp_path: Path) -> None:
    def refuse(index: int) -> FakeGpu:
        raise ValueError("Your current NVIDIA GPU driver version is not supported.\n  Required: driver version >= 999")

    gpus = look(machine(tmp_path, OLD, [NVIDIA]), 1, refuse)
    assert gpus.usable == ()
    assert gpus.problem == (
        "GPU 0 with NVIDIA driver 470.256.02 cannot be used (Your current NVIDIA GPU driver version is not supported. "
        "Required: driver version >= 999); update the driver, or use --device cpu."
    )


def test_incompatible_gpu(tmp_path: Path) -> None:
    class Incompatible(FakeGpu):
        is_compatible = False

    problem = look(machine(tmp_path, OPEN, [NVIDIA]), 1, lambda i: Incompatible()).problem
    assert problem is not None
    assert "MAX finds it incompatible" in problem


def test_cpu(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("model name\t: Xeon Test\nflags\t\t: fpu avx2 amx_bf16 sse\n")
    cpu = cpu_description(tmp_path)
    assert (cpu["name"], cpu["features"]) == ("Xeon Test", ["avx2", "amx_bf16"])
    assert cpu["cores"] >= 1
    assert cpu_description(tmp_path / "nothing")["features"] == []
    assert 0 < cpu["free_memory"] <= cpu["total_memory"]


def test_auto_says_why_it_leaves_a_gpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(device, "find_gpus", lambda count: Gpus((), "470.1", "The GPU is too old."))
    assert device.select_device("auto").is_host
    assert capsys.readouterr().err == "note: The GPU is too old. The CPU is used.\n"


def test_devices_by_name() -> None:
    assert device.select_device("cpu").is_host
    with pytest.raises(DeviceError, match="device 'tpu' is unknown; use auto, cpu, gpu or gpu:N"):
        device.select_device("tpu")
    with pytest.raises(DeviceError, match=f"device 'gpu:99' was asked for, but MAX sees {accelerator_count()} GPUs"):
        device.select_device("gpu:99")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MILI_CACHE", str(tmp_path))
    return tmp_path


def fetched(cache: Path) -> Path:
    """A model in the cache as if fetched from the hub."""
    base = cache / "hub" / "models--someone--tiny"
    (base / "refs").mkdir(parents=True)
    (base / "refs" / "main").write_text("abc")
    return write_folder(base / "snapshots" / "abc", "qwen3_ratio4")


def test_report(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fetched(cache)
    assert doctor.main(["--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["problems"] == []
    assert report["versions"]["max"] == "26.7.0"
    assert report["device"]["dtype"] == "bfloat16"
    assert report["kernels"]["files"] > 5
    (tiny,) = [model for model in report["models"]["present"] if model["name"] == "someone/tiny"]
    assert tiny["page_bytes"] == 2 * 2 * 2 * 16 * 16 * 2  # layers, K and V, heads, tokens, head size, bytes
    assert tiny["pages"] == 256 * 256 // 16  # 256 requests of 256 tokens, which is less than the memory allows
    assert doctor.main([]) == 0
    text = capsys.readouterr().out
    for word in ("max 26.7.0", "device ", "kernels ", "graphs ", "someone/tiny: ", "4,096 pages of 16 tokens, 4 KiB"):
        assert word in text
    assert text.endswith("Nothing keeps MILI from running.\n")


def test_problems_are_sentences_and_the_status(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (fetched(cache) / "config.json").write_text("{")
    monkeypatch.setenv("MILI_KERNELS", str(cache))
    monkeypatch.setattr(doctor, "_pins", lambda: {"max": "1.2.3"})
    monkeypatch.setattr(doctor, "PYTHONS", ((3, 99), (3, 100)))
    assert doctor.main([]) == 1
    text = capsys.readouterr().out
    assert text.count("PROBLEM: ") == 4
    for words in (
        "max 26.7.0, but MILI needs exactly 1.2.3: run `",
        "is not supported; use 3.11, 3.12 or 3.13.",
        "which has no __init__.mojo: give a folder",
        "config.json is not valid JSON",
    ):
        assert words in text


def test_pins_are_read_from_the_project() -> None:
    assert set(doctor._pins()) == {"mojo", "max"}
