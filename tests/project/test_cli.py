"""The console script: help, version, dispatch, and clean ends."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mili import cli, console
from mili.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def mili(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the console script's entry point in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "mili.cli", *arguments], capture_output=True, text=True, cwd=ROOT, timeout=60
    )


def test_help_lists_the_commands() -> None:
    done = mili("--help")
    assert done.returncode == 0
    assert all(f"  {name} " in done.stdout for name in cli.available())
    assert done.stderr == ""


def test_no_command_is_a_usage_error() -> None:
    assert mili().returncode == 2


def test_version_names_the_toolchain() -> None:
    done = mili("--version")
    assert done.returncode == 0
    assert "mojo 1.2.0, max 26.7.0" in done.stdout


def test_unknown_command_is_named() -> None:
    done = mili("sreve")
    assert done.returncode == 2
    assert "'sreve'" in done.stderr


def test_a_command_gets_its_arguments_and_keeps_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import mili as package

    (tmp_path / "probe.py").write_text("import sys\nprint(sys.argv[1:], __name__)\nsys.exit(3)\n")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    monkeypatch.setitem(cli.COMMANDS, "probe", "a command of this test")
    monkeypatch.setattr(sys, "argv", ["mili"])
    with pytest.raises(SystemExit) as ended:
        cli.dispatch(["probe", "--flag", "x"])
    assert ended.value.code == 3
    assert capsys.readouterr().out == "['--flag', 'x'] __main__\n"


def test_ctrl_c_ends_with_130_and_no_traceback() -> None:
    code = "import time; from mili.console import run\nrun(lambda: print('up', flush=True) or time.sleep(60))"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err


def test_an_error_of_the_user_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise ConfigError("hidden_size is -1; give a positive number")

    with pytest.raises(SystemExit) as ended:
        console.run(fail)
    assert ended.value.code == 1
    assert capsys.readouterr().err == "error: hidden_size is -1; give a positive number\n"


def test_a_closed_pipe_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    code = "from mili.console import run\nrun(lambda: print('x' * 100000))"
    done = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


class Terminal(io.StringIO):
    """A text stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_progress_redraws_one_line_on_a_terminal() -> None:
    out = Terminal()
    with console.progress("Compiling", out):
        time.sleep(3 * console.FRAME_SECONDS)
    text = out.getvalue()
    assert text.count("\r") >= 3
    assert text.count("\n") == 1
    assert "Compiling: done in 0." in text


def test_progress_writes_plain_lines_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "LINE_SECONDS", 0.05)
    out = io.StringIO()

    def fail_slowly() -> None:
        with console.progress("Compiling", out):
            time.sleep(0.2)
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail_slowly()
    lines = out.getvalue().splitlines()
    assert lines[0] == "Compiling ..."
    assert "still at it" in lines[1]
    assert lines[-1].startswith("Compiling: failed after 0.")
    assert "\r" not in out.getvalue()
