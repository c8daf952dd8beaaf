"""What the server was told on the command line."""

from dataclasses import dataclass

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Limits and rights of the HTTP server.

    api_key         what clients must send as `Authorization: Bearer KEY`; None: no key needed
    cors_origins    origins whose pages may call the server; none by default
    allowed_hosts   accepted Host headers; empty: any
    max_body        bytes of a request body
    body_timeout    seconds a client may take to send its body
    request_timeout seconds a request may take, waiting included
    drain_timeout   seconds that running requests get to finish after SIGTERM
    served_name     the model's name in answers; None: the name it was loaded by
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = None
    cors_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    max_body: int = 4 * 1024 * 1024
    body_timeout: float = 30.0
    request_timeout: float = 600.0
    drain_timeout: float = 60.0
    served_name: str | None = None
