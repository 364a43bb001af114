"""Addresses of a daemon, read the same way by the client and by the daemon."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

# sockaddr_un.sun_path has 108 bytes, the last of which is NUL (unix(7)).
MAX_SOCKET_PATH_BYTES = 107


class InvalidAddress(ValueError):
    """The text is not an address."""


@dataclass(frozen=True, slots=True)
class Address:
    """A unix socket or a TCP endpoint.

    Attributes:
        path: Of the socket; None for TCP.
        host: Name or address without brackets; empty for a unix socket.
        port: 0 to 65535; 0 lets the system choose when listening.
    """

    path: Path | None = None
    host: str = ""
    port: int = 0

    @property
    def target(self) -> str:
        """As gRPC wants it, for listening and for connecting: a URI, if it is a path."""
        return str(self) if self.path is None else f"unix:{quote(os.fsencode(self.path))}"

    @property
    def is_loopback(self) -> bool:
        """Whether what is sent there stays on this machine; so it does in a unix socket."""
        if self.path is not None or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_address(text: str) -> Address:
    """Read ``unix:/path``, ``/path`` or ``host:port`` (``[::1]:port`` for IPv6).

    Raises:
        InvalidAddress: It is none of these; the text says why.
    """
    if text.startswith("unix:") or text.startswith(("/", "./", "~")):
        name = text.removeprefix("unix:")
        # gRPC also writes unix:///path.
        name = name[2:] if name.startswith("///") else name
        if not name:
            raise InvalidAddress(f"address {text!r} names no path")
        path = Path(name).expanduser().absolute()
        length = len(os.fsencode(path))
        if length > MAX_SOCKET_PATH_BYTES:
            raise InvalidAddress(
                f"the path of unix socket {str(path)!r} has {length} bytes; the system allows "
                f"{MAX_SOCKET_PATH_BYTES}"
            )
        return Address(path=path)
    host, separator, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not separator or not host or "/" in host:
        raise InvalidAddress(f"address {text!r} is neither unix:/path nor host:port")
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise InvalidAddress(f"address {text!r}: the port has to be a number from 0 to 65535")
    return Address(host=host, port=int(port))


def default_address() -> str:
    """``PIPELINED_ADDRESS``, else the user's runtime directory, else the system's."""
    if configured := os.environ.get("PIPELINED_ADDRESS"):
        return configured
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return f"unix:{runtime}/pipelined.sock"
    return "unix:/run/pipelined/pipelined.sock"
