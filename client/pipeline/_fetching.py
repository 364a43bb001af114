"""Files by their URL: from where they may be fetched, and how.

The name of a host is resolved here, each of its addresses is checked, and the connection is made to
the address that was checked: a name that leads elsewhere the next time leads nowhere. Redirects are
followed by hand, and checked again. No proxy and no credentials of the environment are used.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import unquote, urljoin

from pipeline.errors import InvalidInput, NotFound, PermissionDenied, PipelineError, Unavailable
from pipelined_api.url_hosts import OPTION, InvalidUrl, UrlHosts, split_url
from pipelined_api.wire_values import is_plain_name

if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPResponse

__all__ = ["UrlPolicy", "check", "fetch", "is_restricted", "max_bytes", "name_of", "set_policy"]

MAX_REDIRECTS = 5
# Between two packets, and for everything.
_PACKET_SECONDS = 30.0
_ALL_SECONDS = 1800.0
_CHUNK_BYTES = 1 << 20
_REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(frozen=True)
class UrlPolicy:
    """What this process may fetch.

    Attributes:
        hosts: from where; None for everywhere, which suits a user's own process.
        max_bytes: what one file may have, and what an archive may have once it is unpacked.

    """

    hosts: UrlHosts | None = None
    max_bytes: int = 16 << 30


_policy = UrlPolicy()


def set_policy(policy: UrlPolicy) -> None:
    """Have this process keep to a policy; for workers."""
    global _policy
    _policy = policy


def is_restricted() -> bool:
    """Whether this process is one that fetches for others."""
    return _policy.hosts is not None


def max_bytes() -> int:
    """Return what one file, or the files of one archive, may have."""
    return _policy.max_bytes


def check(url: str) -> None:
    """Make sure that this process may ask the host of a URL.

    Raises:
        InvalidInput: the URL is none.
        PermissionDenied: the host is not allowed; the message names the daemon's option.

    """
    _allowed(url)


def name_of(url: str) -> str:
    """Return what a file at a URL is called."""
    name = unquote(split_url(url)[0].path.rpartition("/")[2])
    return name if is_plain_name(name) else "file"


def fetch(url: str, target: BinaryIO, sha256: str = "") -> None:
    """Write what is at a URL to an open file.

    Args:
        url: http or https.
        target: where it goes.
        sha256: in hexadecimal, which it has to have; empty for any.

    Raises:
        InvalidInput: the URL is none, or there is more than the limit.
        PermissionDenied: a host or an address is not allowed.
        NotFound: the host says that there is no such thing.
        Unavailable: it cannot be reached, or answers with another error.
        PipelineError: what came has another SHA-256.

    """
    deadline = time.monotonic() + _ALL_SECONDS
    at = url
    for _ in range(MAX_REDIRECTS + 1):
        connection = _connection(at)
        try:
            # It has the socket, where the connection ends with it.
            with _ask(connection, at) as response:
                if response.status in _REDIRECTS:
                    at = urljoin(at, response.headers.get("Location", ""))
                    continue
                if response.status != 200:
                    raise _refused(url, response.status)
                _copy(response, target, url, sha256, deadline)
                return
        except OSError as error:
            raise Unavailable(f"{url!r} cannot be fetched: {error}") from error
        finally:
            connection.close()
    raise Unavailable(f"{url!r} redirects more than {MAX_REDIRECTS} times")


def _allowed(url: str) -> tuple[str, str, int]:
    try:
        parts, host, port = split_url(url)
    except InvalidUrl as error:
        raise InvalidInput(str(error), field="url") from None
    if _policy.hosts is not None and not _policy.hosts.allows(host, port):
        raise PermissionDenied(
            f"the host of {url!r} is not one that files may be fetched from; the operator of the "
            f"daemon can allow it with {OPTION} {_shown(host, port)}"
        )
    return parts.scheme, host, port


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _connection(url: str) -> HTTPConnection:
    """Make a connection that is open, to an address that is allowed."""
    import http.client

    scheme, host, port = _allowed(url)
    connection = http.client.HTTPConnection(host, port, timeout=_PACKET_SECONDS)
    try:
        stream = _socket(url, host, port)
        if scheme == "https":
            import ssl

            context = ssl.create_default_context()
            stream = context.wrap_socket(stream, server_hostname=host)
    except OSError as error:
        raise Unavailable(f"{url!r} cannot be fetched: {error}") from error
    connection.sock = stream
    return connection


def _socket(url: str, host: str, port: int) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(item[4][0]) for item in found]
    hosts = _policy.hosts
    allowed = [each for each in addresses if hosts is None or hosts.allows_address(each, port)]
    if not allowed:
        raise PermissionDenied(
            f"the host of {url!r} leads to no address that files may be fetched from; one that is "
            f"not public has to be allowed literally, with {OPTION} ADDRESS:{port}"
        )
    for address in allowed[:-1]:
        with contextlib.suppress(OSError):
            return socket.create_connection((address, port), timeout=_PACKET_SECONDS)
    return socket.create_connection((allowed[-1], port), timeout=_PACKET_SECONDS)


def _ask(connection: HTTPConnection, url: str) -> HTTPResponse:
    import http.client

    parts, _, _ = split_url(url)
    path = parts.path or "/"
    headers = {"User-Agent": "pipelined", "Accept-Encoding": "identity"}
    try:
        # The name, not the address, is what the host knows itself by: http.client says it.
        connection.request("GET", f"{path}?{parts.query}" if parts.query else path, headers=headers)
        return connection.getresponse()
    except http.client.HTTPException as error:
        raise Unavailable(f"{url!r} cannot be fetched: {type(error).__name__}") from error


def _refused(url: str, status: int) -> PipelineError:
    if status in (404, 410):
        return NotFound(f"there is nothing at {url!r} (HTTP status {status})")
    return Unavailable(f"{url!r} cannot be fetched: HTTP status {status}")


def _copy(response: HTTPResponse, target: BinaryIO, url: str, sha256: str, deadline: float) -> None:
    import http.client

    limit = _policy.max_bytes
    if response.length is not None and response.length > limit:
        raise _too_large(url, limit)
    digest, size = hashlib.sha256(), 0
    try:
        # What has come, however little: a host that drips does not outlive the deadline.
        while chunk := response.read1(_CHUNK_BYTES):
            size += len(chunk)
            if size > limit:
                raise _too_large(url, limit)
            if time.monotonic() > deadline:
                raise Unavailable(f"{url!r} took longer than {_ALL_SECONDS:.0f} s")
            digest.update(chunk)
            target.write(chunk)
    except http.client.HTTPException as error:
        raise Unavailable(f"{url!r} broke off: {type(error).__name__}") from error
    if response.length:
        raise Unavailable(f"{url!r} broke off: {response.length} bytes were missing")
    if sha256 and digest.hexdigest() != sha256:
        raise PipelineError(
            f"what is at {url!r} has the sha256 {digest.hexdigest()} and not {sha256}"
        )


def _too_large(url: str, limit: int) -> InvalidInput:
    return InvalidInput(
        f"what is at {url!r} has more than {limit} bytes", field="url", bound=f"max_bytes={limit}"
    )
