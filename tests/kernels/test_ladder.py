"""The report of a ladder: gains, shares of the limit, and steps that failed."""

from pathlib import Path

import pytest

from benchmarks import ladder
from benchmarks.native.steps import STEPS
from benchmarks.rungs import Rung, plot, report


def rung(step: str, seconds: float | None, error: str = "") -> Rung:
    return Rung(step, "what is new", "1 row", seconds, flops=2e6, nbytes=1e6, floor=1e-4, error=error)


def test_a_rung_is_compared_with_the_one_before_and_with_the_limit() -> None:
    lines = report([rung("naive", 8e-4), rung("vector", 2e-4)]).splitlines()
    assert lines[2].split()[-5:] == ["us", "-", "1.2", "2", "12%"]
    assert lines[3].split()[-5:] == ["us", "4.0x", "5.0", "10", "50%"]


def test_a_step_that_failed_is_named_and_the_next_is_compared_with_the_last_that_ran() -> None:
    text = report([rung("naive", 8e-4), rung("mma", None, "no such instruction"), rung("async", 1e-4)])
    assert "failed" in text
    assert "8.0x" in text
    assert text.endswith("mma, 1 row: no such instruction")


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_the_roofline_is_drawn(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"roofline.{ending}"
    plot([rung("naive", 8e-4), rung("failed", None), rung("vector", 2e-4)], 1e10, 1e11, "a kernel", file)
    assert file.stat().st_size > 1000


def test_the_exit_status_says_that_a_step_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    for error, status in (("", 0), ("wrong", 1)):
        monkeypatch.setattr(ladder, "cpu_ladder", lambda *_, e=error: ([rung("naive", 1.0, e)], 1.0, 1.0))
        assert ladder.main(["swiglu"]) == status


def test_every_kernel_with_steps_has_a_ladder() -> None:
    assert set(ladder.CPU) == {"linear", *STEPS}
