"""Which hosts a worker may fetch files from: the operator's list, and what an address may be.

An entry is ``HOST`` (ports 80 and 443), ``HOST:PORT`` or ``*`` (any public host). A host has to be
on the list, and so has, literally, every address that is not public: a name that is on the list but
leads to a private address is refused unless that address is on it too. ``localhost`` stands for the
loopback addresses.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import SplitResult, urlsplit

from pipelined_api.limits import MAX_URL_LENGTH

__all__ = ["OPTION", "InvalidUrl", "InvalidUrlHost", "UrlHosts", "split_url"]

OPTION = "--allow-url-host"
_ANY = "*"
_WELL_KNOWN = (80, 443)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class InvalidUrl(ValueError):
    """An address that no file can be fetched from; the text says why."""


class InvalidUrlHost(ValueError):
    """An entry of the list that is no host; the text says which."""


class UrlHosts:
    """The hosts that files may be fetched from.

    Args:
        entries: as the operator wrote them.

    Raises:
        InvalidUrlHost: one of them is none.

    """

    def __init__(self, entries: Iterable[str]) -> None:
        self.entries = tuple(entries)
        self._listed: set[tuple[str, int | None]] = {_entry(text) for text in self.entries}

    def allows(self, host: str, port: int) -> bool:
        """Whether a host may be asked for a file, whatever its address."""
        return self._is_listed(_normal(host), port) or (_ANY, None) in self._listed

    def allows_address(self, address: str, port: int) -> bool:
        """Whether one may connect to an address, which a host's name has led to."""
        ip = _embedded(ipaddress.ip_address(address.partition("%")[0]))
        if ip.is_global and not ip.is_multicast and not ip.is_reserved:
            return True
        return self._is_listed(str(ip), port) or (
            ip.is_loopback and self._is_listed("localhost", port)
        )

    def _is_listed(self, host: str, port: int) -> bool:
        return (host, port) in self._listed or (
            port in _WELL_KNOWN and host != _ANY and (host, None) in self._listed
        )


def split_url(url: str) -> tuple[SplitResult, str, int]:
    """Take an address apart; returns its parts, its host and its port.

    Raises:
        InvalidUrl: it is none that a file can be fetched from.

    """
    shown = repr(url[:200])
    if len(url) > MAX_URL_LENGTH:
        raise InvalidUrl(f"the URL {shown} has more than {MAX_URL_LENGTH} characters")
    if any(ord(character) <= 32 or ord(character) >= 127 for character in url):
        raise InvalidUrl(f"the URL {shown} has characters that have to be written as %XX")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidUrl(f"{shown} is no URL: {error}") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise InvalidUrl(f"the URL {shown} is neither http nor https")
    if not parts.hostname:
        raise InvalidUrl(f"the URL {shown} has no host")
    if parts.username is not None or parts.password is not None:
        raise InvalidUrl("a URL with a user or a password in it is not fetched")
    return parts, _normal(parts.hostname), _DEFAULT_PORTS[parts.scheme] if port is None else port


def _entry(text: str) -> tuple[str, int | None]:
    stripped = text.strip()
    if stripped == _ANY:
        return _ANY, None
    host, port = stripped, None
    if stripped.startswith("["):
        inner, bracket, rest = stripped[1:].partition("]")
        host, number = inner, rest.removeprefix(":") if rest.startswith(":") else rest
        if not bracket or (rest and not rest.startswith(":")):
            raise InvalidUrlHost(f"{text!r} is not HOST, HOST:PORT or *")
    else:
        # More than one colon is an IPv6 address.
        host, number = stripped.rsplit(":", 1) if stripped.count(":") == 1 else (stripped, "")
        if stripped.endswith(":") and stripped.count(":") == 1:
            number = "none"
    if number:
        if not (number.isascii() and number.isdigit() and 0 < int(number) < 65536):
            raise InvalidUrlHost(f"{text!r} has no port between 1 and 65535")
        port = int(number)
    host = _normal(host)
    if not _is_ip(host) and _NAME.fullmatch(host) is None:
        raise InvalidUrlHost(f"{text!r} is not HOST, HOST:PORT or *")
    return host, port


def _normal(host: str) -> str:
    host = host.lower().rstrip(".")
    try:
        return str(_embedded(ipaddress.ip_address(host)))
    except ValueError:
        return host


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _embedded(ip: _Address) -> _Address:
    """Return the IPv4 address that an IPv6 one leads to."""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _NAT64:
            return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        teredo = ip.teredo[1] if ip.teredo is not None else None
        return ip.ipv4_mapped or ip.sixtofour or teredo or ip
    return ip
