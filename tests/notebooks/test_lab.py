"""What a notebook imports to show the engine: source as it stands, and engines over the small model."""

import pytest

from workbook.lab import show


def test_a_function_is_shown_whole_and_alone() -> None:
    text = show("kernels/rms_norm.mojo", "inverse_rms").data
    assert text.startswith("`kernels/rms_norm.mojo`\n```mojo\n@always_inline\ndef inverse_rms[")
    assert "return 1 / sqrt" in text
    assert "SOLUTION" not in text
    assert "def norm_row" not in text


def test_a_method_is_shown_without_its_indentation() -> None:
    text = show("mili/scheduler.py", "ContinuousBatchScheduler._take_running").data
    assert "```python\ndef _take_running(self)" in text
    assert text.endswith("    return take\n```")


def test_a_decorator_belongs_to_the_definition() -> None:
    assert "@dataclass(slots=True)\nclass Step:" in show("mili/step.py", "Step").data


def test_an_unknown_name_is_told() -> None:
    for name in ("nothing", "ContinuousBatchScheduler.nothing", "Step._take_running"):
        with pytest.raises(ValueError, match=f"mili/scheduler.py defines no {name}"):
            show("mili/scheduler.py", name)
