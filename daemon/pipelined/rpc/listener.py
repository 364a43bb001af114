"""Binding the daemon's addresses: a second daemon fails loudly, a dead one does not matter.

What may be listened on is decided here, too: TCP never without tokens, and beyond this machine
never without TLS.
"""

from __future__ import annotations

import errno
import fcntl
import grp
import os
import socket
import stat
from pathlib import Path

import grpc
import grpc.aio

from pipelined.listening import ListenAddress
from pipelined_api.address import Address

PROBE_SECONDS = 2.0


class ListenError(Exception):
    """An address cannot be listened on; the text names it and says why."""


class AddressInUse(ListenError):
    """Another daemon, or another program, is alive on the address."""


class Listener:
    """Binds addresses to servers; closing it removes the sockets that it made.

    Args:
        tls: Of all TCP listeners; None if there is none.
        has_tokens: Whether there are tokens that let somebody in.
    """

    def __init__(self, tls: grpc.ServerCredentials | None, *, has_tokens: bool) -> None:
        self._tls = tls
        self._has_tokens = has_tokens
        self._locks: dict[Path, int] = {}

    def bind(self, server: grpc.aio.Server, listen: ListenAddress) -> Address:
        """Listen on an address; the port of the returned one is the system's choice if it was 0.

        Raises:
            AddressInUse: Somebody is alive on it.
            ListenError: It cannot be bound, or is not allowed.
        """
        address = listen.address
        if address.path is not None:
            self._bind_socket(server, listen, address.path)
            return address
        if not self._has_tokens:
            raise ListenError(
                f"{address}: TCP is served to callers with tokens only, and there is no token: "
                "make one with `pipelined token create`, or listen on a unix socket"
            )
        if self._tls is None and not address.is_loopback:
            raise ListenError(
                f"{address}: beyond this machine TLS is needed: give --tls-cert and --tls-key, or "
                "listen on a loopback address or a unix socket"
            )
        try:
            if self._tls is None:
                port = server.add_insecure_port(address.target)
            else:
                port = server.add_secure_port(address.target, self._tls)
        except RuntimeError:
            # gRPC does not say why; the system does.
            reason = _bind_error(address)
            kind = AddressInUse if reason == errno.EADDRINUSE else ListenError
            raise kind(f"cannot listen on {address}: {os.strerror(reason)}") from None
        return Address(host=address.host, port=port)

    def close(self) -> None:
        """Remove the sockets and let others have their paths."""
        for path, lock in self._locks.items():
            path.unlink(missing_ok=True)
            path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
            os.close(lock)
        self._locks.clear()

    def _bind_socket(self, server: grpc.aio.Server, listen: ListenAddress, path: Path) -> None:
        address = listen.address
        group = _group(listen)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock_path = path.with_name(f"{path.name}.lock")
            lock = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ListenError(f"cannot listen on {address}: {error.strerror}") from error
        try:
            # Held as long as the daemon lives, so that of two that start at once one gives way.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(lock), lock_path.stat()):
                # A daemon that was stopping removed the file between our open and our lock.
                raise AddressInUse(f"another daemon is stopping on {address}; try again")
            _remove_stale(path, address)
            before = os.umask(0o777 & ~listen.mode)
            try:
                server.add_insecure_port(address.target)
            finally:
                os.umask(before)
            if group is not None:
                os.chown(path, -1, group)
        except BaseException as error:
            os.close(lock)
            if isinstance(error, BlockingIOError):
                raise AddressInUse(f"another daemon is alive on {address}") from None
            if isinstance(error, RuntimeError | OSError):
                raise ListenError(f"cannot listen on {address}: {error}") from error
            raise
        self._locks[path] = lock


def _remove_stale(path: Path, address: Address) -> None:
    """Remove the socket of a daemon that is dead; leave everything else alone."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ListenError(f"cannot listen on {address}: there is a file that is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_SECONDS)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except TimeoutError:
            pass
    raise AddressInUse(f"another program is alive on {address}")


def _group(listen: ListenAddress) -> int | None:
    """The number of the group that a socket is to belong to."""
    if not listen.group:
        return None
    if listen.group.isascii() and listen.group.isdigit():
        return int(listen.group)
    try:
        return grp.getgrnam(listen.group).gr_gid
    except KeyError:
        raise ListenError(f"{listen}: there is no group {listen.group!r}") from None


def _bind_error(address: Address) -> int:
    """The errno of binding a TCP address."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address.host, address.port))
        except OSError as error:
            return error.errno or errno.EADDRNOTAVAIL
    return errno.EADDRINUSE
