"""`python -m mili.doctor`: what MILI sees of this machine, and what is wrong with it.

Loads no model and compiles nothing. The exit status is 1 if something keeps MILI from running; a missing GPU does not.
"""

import argparse
import json
import platform
import re
import sys
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from max._core.engine import max_cache_dir
from max.driver import CPU, Accelerator, Device

import mili
from mili import models
from mili.cache import cache_folder
from mili.config import Qwen3Config
from mili.console import run
from mili.device import DTYPES, select_dtype
from mili.errors import MiliError
from mili.hardware import cpu_description, find_gpus
from mili.kernel_path import kernel_path
from mili.kv_cache import page_bytes, pages_for_memory

PACKAGES = ("mili", "mojo", "max", "numpy", "tokenizers", "jinja2", "gguf", "huggingface_hub", "fastapi", "uvicorn")
PYTHONS = ((3, 11), (3, 14))
PAGE_SIZE = 16


def examine() -> dict[str, Any]:
    """Everything the doctor knows, as JSON values; `problems` are sentences, and `notes` what one should know."""
    gpus = find_gpus()
    device = Accelerator(gpus.usable[0].index) if gpus.usable else CPU()
    problems: list[str] = []
    report: dict[str, Any] = {
        "versions": _versions(problems),
        "cpu": cpu_description(),
        "gpu": {"usable": [asdict(gpu) for gpu in gpus.usable], "driver": gpus.driver},
        "device": _device(device),
        "kernels": _kernels(problems),
        "models": _models(device, problems),
        "graphs": _graphs(),
    }
    return report | {"notes": [gpus.problem] if gpus.problem else [], "problems": problems}


def _versions(problems: list[str]) -> dict[str, str | None]:
    """Versions of Python and the packages; those that MILI pins must be the installed ones."""
    versions: dict[str, str | None] = {"python": platform.python_version(), "platform": platform.platform()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    if not PYTHONS[0] <= sys.version_info[:2] < PYTHONS[1]:
        problems.append(f"Python {versions['python']} is not supported; use 3.11, 3.12 or 3.13.")
    for name, wanted in _pins().items():
        if versions.get(name) != wanted:
            problems.append(
                f"{name} {versions.get(name) or 'is missing'}, but MILI needs exactly {wanted}: "
                f"run `{sys.executable} -m pip install {name}=={wanted}`."
            )
    return versions


def _pins() -> dict[str, str]:
    """Exactly pinned packages of this installation; from the repository when MILI is not installed as a package."""
    try:
        requirements = metadata.requires("mili") or []
    except metadata.PackageNotFoundError:
        project = Path(mili.__file__).resolve().parents[1] / "pyproject.toml"
        requirements = re.findall(r'"([\w.-]+==[\w.]+)"', project.read_text()) if project.is_file() else []
    pinned = (re.fullmatch(r"(mojo|max)==([\w.]+)", requirement) for requirement in requirements)
    return {found[1]: found[2] for found in pinned if found}


def _device(device: Device) -> dict[str, Any]:
    """What `--device auto` and `--dtype auto` come to, and the memory the KV cache takes its share of."""
    return {
        "name": "cpu" if device.is_host else f"gpu:{device.id}",
        "dtype": select_dtype("auto", device),
        "page_size": PAGE_SIZE,
        "free_memory": int(device.stats["free_memory"]),
        "graph_capture": not device.is_host,
    }


def _kernels(problems: list[str]) -> dict[str, Any]:
    try:
        folder = kernel_path()
    except MiliError as error:
        problems.append(str(error))
        return {"path": None, "files": 0}
    return {"path": str(folder), "files": len(list(folder.rglob("*.mojo")))}


def _models(device: Device, problems: list[str]) -> dict[str, Any]:
    """The cache folder and the models in it, each with its KV cache at the default settings."""
    folder = cache_folder()
    found = []
    for row in models.listing():
        if not row["present"]:
            continue
        try:
            config = Qwen3Config.from_pretrained(row["path"])
        except MiliError as error:
            problems.append(str(error))
            continue
        found.append({**row, "parameters": config.num_parameters, **_pages(config, device)})
    return {"cache": str(folder), "present": found}


def _pages(config: Qwen3Config, device: Device) -> dict[str, int]:
    """Bytes of a page of `PAGE_SIZE` tokens in bfloat16, and how many pages MILI would take on `device`."""
    each = page_bytes(config.num_layers, config.num_kv_heads, config.head_dim, DTYPES["bfloat16"], PAGE_SIZE)
    longest = 256 * config.max_position_embeddings
    return {
        "page_bytes": each,
        "pages": pages_for_memory(each, PAGE_SIZE, device, max_tokens=longest),
    }


def _graphs() -> dict[str, Any]:
    """Graphs that MAX has compiled and keeps: the next start of the same model loads one instead of compiling."""
    folder = max_cache_dir()
    if folder is None:
        return {"cache": None, "compiled": 0, "nbytes": 0}
    compiled = [path for path in folder.glob("mof/mef/*/*") if not path.name.startswith(".")]
    files = [file for path in compiled for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
    return {"cache": str(folder), "compiled": len(compiled), "nbytes": sum(file.stat().st_size for file in files)}


def render(report: dict[str, Any]) -> str:
    """The report for people."""
    gib = 2**30
    versions, cpu, device, graphs = report["versions"], report["cpu"], report["device"], report["graphs"]
    lines = [
        ("versions", ", ".join(f"{name} {version or '(not installed)'}" for name, version in versions.items())),
        ("cpu", f"{cpu['name']}, {cpu['cores']} cores, {', '.join(cpu['features']) or 'no known instruction sets'}"),
        ("memory", f"{cpu['free_memory'] / gib:.1f} of {cpu['total_memory'] / gib:.1f} GiB free"),
    ]
    for gpu in report["gpu"]["usable"]:
        free, total = gpu["free_memory"] / gib, gpu["total_memory"] / gib
        memory = f"{free:.1f} of {total:.1f} GiB free"
        lines.append((f"gpu:{gpu['index']}", f"{gpu['name']}, {gpu['architecture']}, {memory}"))
    if not report["gpu"]["usable"]:
        lines.append(("gpu", "none that can be used"))
    if report["gpu"]["driver"]:
        lines.append(("driver", f"NVIDIA {report['gpu']['driver']}"))
    lines += [
        ("device", f"{device['name']}, {device['dtype']} (what auto comes to)"),
        ("kernels", f"{report['kernels']['path']}, {report['kernels']['files']} files"),
        ("models", f"kept in {report['models']['cache']}"),
    ]
    for model in report["models"]["present"]:
        pages = f"{model['pages']:,} pages of {PAGE_SIZE} tokens, {model['page_bytes'] / 1024:,.0f} KiB each"
        lines.append(("", f"{model['name']}: {model['parameters'] / 1e6:,.0f} M parameters; KV cache of {pages}"))
    lines.append(("graphs", f"{graphs['compiled']} compiled, {graphs['nbytes'] / 1e6:,.0f} MB in {graphs['cache']}"))
    capture = "captured once and replayed" if device["graph_capture"] else "run directly (capture exists on GPUs)"
    lines.append(("", f"decode steps on {device['name']} are {capture}"))
    text = [f"{name:<9} {value}" for name, value in lines]
    text += [f"\nnote: {note}" for note in report["notes"]]
    text += [f"\nPROBLEM: {problem}" for problem in report["problems"]]
    return "\n".join([*text, "" if report["problems"] else "\nNothing keeps MILI from running."])


def main(arguments: list[str] | None = None) -> int:
    """The command line; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m mili.doctor", description="Examine this machine for MILI.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    report = examine()
    print(json.dumps(report, indent=2) if options.json else render(report))
    return 1 if report["problems"] else 0


if __name__ == "__main__":
    run(main)
