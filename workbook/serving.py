"""A server for a notebook: `python -m mili.serve` in a process of its own, which ends when the notebook does."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbook.paths import ROOT

ADDRESS = re.compile(r"MILI at http://127\.0\.0\.1:(\d+)")
START_SECONDS = 240.0  # compiling everything for the first time, on a busy machine


class Server:
    """Serves mili-tiny on a free port of this machine with the kernels of a folder; ready when this returns.

    options: further options of `python -m mili.serve`. Raises RuntimeError with what the server said when it ends
    instead, for example because the kernels do not compile.
    """

    def __init__(self, kernels: Path, *options: str) -> None:
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the server
        command = [sys.executable, "-m", "workbook.serving", "--model", "mili-tiny", "--device", "cpu", "--port", "0"]
        command += ["--kernels", str(kernels), *options]
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=self.log,
            stderr=self.log,
            env=os.environ | {"PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C in the notebook is not for the server
        )
        self.port = 0
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def said(self) -> str:
        """What it has written."""
        self.log.seek(0)
        return self.log.read()

    def get(self, path: str) -> Any:
        """The JSON that a GET answers."""
        return self._json("GET", path, None)

    def post(self, path: str, **body: Any) -> Any:
        """The JSON that a POST of `body` answers."""
        return self._json("POST", path, body)

    def stream(self, path: str, **body: Any) -> Iterator[bytes]:
        """The bytes that a POST of `body` with `stream` answers, in pieces as they come off the network.

        Closing the iterator closes the connection.
        """
        connection, response = self._ask("POST", path, body | {"stream": True})
        try:
            while piece := response.read1(1 << 16):
                yield piece
        finally:
            response.close()
            connection.close()

    def stop(self) -> None:
        """End it: what runs is finished first."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()

    def _ask(self, method: str, path: str, body: Any) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        text = None if body is None else json.dumps(body)
        try:
            connection.request(method, path, text, {"Content-Type": "application/json"} if text else {})
            response = connection.getresponse()
        except (ConnectionError, http.client.HTTPException) as error:
            raise RuntimeError(self._ended() or f"{method} {path}: {error}") from error
        if response.status != 200:
            message = response.read().decode(errors="replace")
            connection.close()
            raise RuntimeError(f"{method} {path} answered {response.status}: {message}")
        return connection, response

    def _json(self, method: str, path: str, body: Any) -> Any:
        connection, response = self._ask(method, path, body)
        try:
            return json.loads(response.read())
        finally:
            connection.close()

    def _ended(self, seconds: float = 2) -> str | None:
        """That the process has ended, and its last words; None while it runs. A kernel that crashes ends it."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        return f"the server ended with status {status}:\n{self.said()[-3000:]}"

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(self._ended())
            if not self.port and (found := ADDRESS.search(self.said())):
                self.port = int(found[1])
            try:
                if self.port and self.get("/health")["ready"]:
                    return
            except RuntimeError as error:  # it says that it failed, and why when it ends
                raise RuntimeError(self._ended(20) or str(error)) from error
            time.sleep(0.1)
        raise RuntimeError(f"the server was not ready after {START_SECONDS:.0f} s:\n{self.said()}")


def main() -> int:
    """`python -m mili.serve`, ending when the pipe from the notebook closes, however the notebook ended."""
    from mili.serve.__main__ import main as serve

    def watch() -> None:
        os.read(0, 1)  # nothing is ever written: it returns at the end of the pipe
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
    return serve(sys.argv[1:])


if __name__ == "__main__":
    from mili.console import run

    run(main)
