"""Precompiled kernels: kept by contents, made anew when a kernel changes, and errors in the compiler's words."""

from pathlib import Path

import pytest

from mili import kernel_package as module
from mili.errors import ConfigError
from mili.kernel_package import failures, kernel_package


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MILI_CACHE", str(tmp_path / "cache"))
    kernels = tmp_path / "mine"
    kernels.mkdir()
    (kernels / "__init__.mojo").write_text("")
    (kernels / "ops.mojo").write_text("def three() -> Int:\n    return 3\n")
    return kernels


def test_a_package_is_made_once_for_the_same_contents(folder, monkeypatch):
    first = kernel_package(folder)
    assert first.is_file()
    monkeypatch.setattr(module, "subprocess_run_mojo", None)
    assert kernel_package(folder) == first
    assert [file.name for file in first.parent.iterdir()] == [first.name]


def test_a_changed_kernel_is_another_package_and_a_broken_one_an_error(folder):
    first = kernel_package(folder)
    (folder / "ops.mojo").write_text("def three() -> Int:\n    return 4\n")
    assert kernel_package(folder) != first
    (folder / "ops.mojo").write_text("def three() -> Int:\n    return nothing_there\n")
    with pytest.raises(ConfigError, match=r"do not compile:(.|\n)*nothing_there"):
        kernel_package(folder)


INSTANTIATION = """Graph compilation failed:
error: function instantiation failed
<unknown>:246:39: note: call expansion failed
/mine/ops_norm.mojo:46:9: note: function instantiation failed
/mine/rms_norm.mojo:35:5: note: constraint failed: my own limit
error: function instantiation failed
<unknown>:492:39: note: call expansion failed
/mine/ops_norm.mojo:76:9: note: function instantiation failed
/mine/rms_norm.mojo:35:5: note: constraint failed: my own limit
"""


def test_an_error_that_shows_only_in_the_graph_is_named_once_at_its_line():
    error = RuntimeError("Failed to compile the model.")
    error.__cause__ = RuntimeError(INSTANTIATION)
    assert failures(Path("/mine"), error) == "/mine/rms_norm.mojo:35:5: note: constraint failed: my own limit"
    assert failures(Path("/other"), error) is None
    assert failures(Path("/mine"), RuntimeError("out of memory")) is None
