"""Nothing leaves the machine: the toolchain's usage report and crash upload are off once `mili` is imported.

The toolchain is pointed at a collector on this machine. Each test first shows that the collector does hear of it when
reporting is on, so that silence means something.
"""

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

SESSION = "import max.driver, max.engine; max.engine.InferenceSession(devices=[max.driver.CPU()])"
SWITCHES = ("MODULAR_TELEMETRY_ENABLED", "MODULAR_CRASH_REPORTING_ENABLED")


@pytest.fixture
def collector() -> Iterator[tuple[str, list[str]]]:
    """A local HTTP server: its address and the paths posted to it."""
    posted: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            posted.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", posted
    server.shutdown()
    thread.join()


def python(code: str, environment: dict[str, str]) -> None:
    """Run code in a fresh interpreter with the switches unset, then the given variables added."""
    clean = {name: value for name, value in os.environ.items() if name not in SWITCHES}
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code], env=clean | environment, check=True, timeout=120, cwd=root)


def test_usage_report_is_off(collector: tuple[str, list[str]]) -> None:
    address, posted = collector
    endpoints = {
        "MODULAR_TELEMETRY_EXPORTERS_LOGS_HTTP_ENDPOINT": address,
        "MODULAR_TELEMETRY_EXPORTERS_METRICS_HTTP_ENDPOINT": address,
    }
    python(SESSION, endpoints | {"MODULAR_TELEMETRY_ENABLED": "1"})
    assert posted, "the collector must hear a report when reporting is on, or this test shows nothing"
    posted.clear()
    python(f"import mili; {SESSION}", endpoints)
    assert posted == []


def test_crash_upload_is_off(tmp_path: Path) -> None:
    touched = tmp_path / "started"
    handler = tmp_path / "handler"
    handler.write_text(f"#!/bin/sh\ntouch {touched}\n")
    handler.chmod(0o755)
    program = tmp_path / "program.mojo"
    program.write_text("def main():\n    pass\n")
    run_mojo = f"from mojo.run import subprocess_run_mojo as m; m(['run', {str(program)!r}], check=True)"
    handler_path = {"MODULAR_CRASH_REPORTING_HANDLER_PATH": str(handler)}
    quiet = {"MODULAR_TELEMETRY_ENABLED": "0"}
    python(run_mojo, handler_path | quiet | {"MODULAR_CRASH_REPORTING_ENABLED": "1"})
    assert touched.exists(), "the handler must start when crash reporting is on, or this test shows nothing"
    touched.unlink()
    python(f"import mili; {run_mojo}", handler_path)
    assert not touched.exists()


def test_a_choice_of_the_user_stays() -> None:
    python(
        "import os, mili; assert os.environ['MODULAR_TELEMETRY_ENABLED'] == '1'; "
        "assert os.environ['MODULAR_CRASH_REPORTING_ENABLED'] == '0'",
        {"MODULAR_TELEMETRY_ENABLED": "1"},
    )
