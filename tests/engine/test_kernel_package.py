"""Precompiled kernels: kept by contents, made anew when a kernel changes, and errors in the compiler's words."""

import pytest

from mili import kernel_package as module
from mili.errors import ConfigError
from mili.kernel_package import kernel_package


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
