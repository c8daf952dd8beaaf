"""Serve a model over HTTP: `python -m mili.serve`."""

import argparse
import os
import signal
import socket
import sys
from collections.abc import Sequence
from types import FrameType

import uvicorn

from mili.cli import version
from mili.console import run
from mili.errors import ConfigError
from mili.launch import Launch, add_arguments, default_model, launch_from
from mili.serve.app import create_app
from mili.serve.logs import LOG, configure
from mili.serve.settings import LOOPBACK, ServerSettings
from mili.serve.state import ServerState

KEY_VARIABLE = "MILI_API_KEY"


def parser() -> argparse.ArgumentParser:
    """The options; see --help."""
    result = argparse.ArgumentParser(prog="python -m mili.serve", description="Serve a model over HTTP.")
    defaults = ServerSettings()
    http = result.add_argument_group("HTTP")
    add = http.add_argument
    add("--host", default=defaults.host, help="address to listen at; 0.0.0.0 for all (default 127.0.0.1: this machine)")
    add("--port", type=int, default=defaults.port, help="port, 0 for any free one (default 8000)")
    add("--api-key", help=f"key that clients must send; better set {KEY_VARIABLE}, which other users cannot see")
    add("--cors-origin", action="append", default=[], metavar="ORIGIN", help="origin whose pages may call the server")
    add("--allowed-host", action="append", default=[], metavar="NAME", help="Host header to accept beside this machine")
    add("--served-name", metavar="NAME", help="the model's name in the API (default: the name it was loaded by)")
    limits = result.add_argument_group("limits")
    add = limits.add_argument
    add("--max-queue", type=int, default=1024, help="requests that may wait; more are answered 429 (default 1024)")
    add("--max-body", type=int, default=defaults.max_body, help="bytes of a request (default 4 MiB)")
    add("--body-timeout", type=float, default=defaults.body_timeout, help="seconds to send a request (default 30)")
    add("--request-timeout", type=float, default=defaults.request_timeout, help="seconds for an answer (default 600)")
    add("--drain-timeout", type=float, default=defaults.drain_timeout, help="seconds to finish at the end (default 60)")
    logs = result.add_argument_group("logs")
    logs.add_argument(
        "--log-format", choices=("text", "json"), default="json", help="one line a request (default json)"
    )
    logs.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    add_arguments(result)
    return result


def settings_from(options: argparse.Namespace) -> ServerSettings:
    """Checked settings. Raises ConfigError."""
    for name in ("max_body", "body_timeout", "request_timeout", "drain_timeout"):
        if not getattr(options, name) > 0:
            raise ConfigError(f"--{name.replace('_', '-')} is {getattr(options, name)}: it must be above 0")
    if options.max_queue < 0:
        raise ConfigError(f"--max-queue is {options.max_queue}: it must be 0 or more")
    if not 0 <= options.port <= 65535:
        raise ConfigError(f"--port is {options.port}: it must be from 0 to 65535")
    key = options.api_key if options.api_key is not None else os.environ.get(KEY_VARIABLE)
    if key is not None and not key.strip():
        raise ConfigError(f"the API key is empty: give one with --api-key or {KEY_VARIABLE}, or neither")
    # A page elsewhere can point a name of its own at this machine; only a server for this machine is open to that.
    hosts = (*LOOPBACK, *options.allowed_host) if options.host in LOOPBACK else tuple(options.allowed_host)
    return ServerSettings(
        host=options.host,
        port=options.port,
        api_key=key.strip() if key is not None else None,
        cors_origins=tuple(options.cors_origin),
        allowed_hosts=hosts,
        max_body=options.max_body,
        body_timeout=options.body_timeout,
        request_timeout=options.request_timeout,
        drain_timeout=options.drain_timeout,
        served_name=options.served_name,
    )


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to the address. Raises ConfigError if that is not possible."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # The protocol must be named: asyncio turns Nagle's algorithm off only for sockets that say TCP, and with it
        # on, an answer in two pieces waits 40 ms for the client's acknowledgement.
        bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(1024)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise ConfigError(f"cannot listen at {host}:{port} ({reason}); choose another with --host and --port") from None
    return bound


class Server(uvicorn.Server):
    """uvicorn that tells the application when it begins to drain."""

    def __init__(self, config: uvicorn.Config, state: ServerState) -> None:
        super().__init__(config)
        self.state = state

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called for SIGINT and SIGTERM: no new requests, running ones finish; a second Ctrl-C ends at once."""
        LOG.info("draining" if not self.should_exit else "stopping")
        self.state.draining = True
        if self.state.engine is None:  # the compiler cannot be interrupted, and nobody waits for an answer
            os._exit(128 + sig if sig == signal.SIGINT else 0)
        super().handle_exit(sig, frame)


def serve(launch: Launch, settings: ServerSettings) -> int:
    """Serve until a signal comes. Raises the error of loading the model."""
    name = launch.random_shape or launch.model or default_model()
    detail: dict[str, str | int | None] = {
        "version": version(),
        "device": launch.device,
        "dtype": launch.dtype,
        "page_size": launch.page_size,
        "kv_memory": launch.kv_memory,
        "kernels": launch.kernels,
    }
    state = ServerState(settings, name, detail)
    bound = listen(settings.host, settings.port)
    config = uvicorn.Config(
        create_app(state),
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=max(1, round(settings.drain_timeout)),
        server_header=False,
        timeout_keep_alive=75,  # longer than the pauses of a client that keeps its connection
        lifespan="on",
    )
    server = Server(config, state)

    def failed() -> None:
        server.should_exit = True

    host, port = bound.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    print(f"MILI at http://{shown}:{port} (loading {name})", file=sys.stderr, flush=True)
    if settings.host not in LOOPBACK and settings.api_key is None:
        LOG.warning("everyone who reaches this address can use the server: set an API key")
    loader = state.load(launch.engine, failed, lambda: LOG.info("ready", extra={"fields": {"model": state.name}}))
    # uvicorn raises the signal again when it has ended; SIGTERM is a clean end here.
    signal.signal(signal.SIGTERM, lambda *_: None)
    server.run(sockets=[bound])
    if state.failure is not None:
        raise state.failure
    if loader.is_alive():
        os._exit(0)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; see `parser`."""
    options = parser().parse_args(arguments)
    settings = settings_from(options)
    configure(options.log_format, options.log_level)
    return serve(launch_from(options, max_queue=options.max_queue), settings)


if __name__ == "__main__":
    run(main)
