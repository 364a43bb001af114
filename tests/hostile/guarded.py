"""A daemon with every kind of listener, and the tokens and certificates to come in by."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from pipeline import Client, errors
from pipelined.core.access import Role
from pipelined.core.tokens import Token, new_token, revoked
from pipelined.store.tokens import TokenFile
from tests.conftest import QUICK_PRELOAD
from tests.running_daemon import RunningDaemon, state_directory

# A change of the file of tokens is noticed within a second; this is for a machine that is busy.
NOTICED_SECONDS = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Issuer:
    """Makes tokens as ``pipelined token`` does, without a process for each."""

    def __init__(self, path: Path) -> None:
        self.file = TokenFile(path)

    def token(self, role: Role, expires: float | None = None) -> str:
        """A new token; expires so many seconds from now."""
        now = time.time()
        text, record = new_token(role, now, None if expires is None else now + expires, "test")
        self.file.change(lambda records: [*records, record])
        return text

    def revoke(self, text: str) -> None:
        token_id = text.split("_")[1]

        def change(records: list[Token]) -> list[Token]:
            return [revoked(r, time.time()) if r.id == token_id else r for r in records]

        self.file.change(change)


class Guarded:
    """A daemon with a unix socket for everybody, one for role run, and TCP with tokens.

    Attributes:
        daemon: It; its own socket gives the role admin.
        issuer: Of its tokens.
        run_socket: Address of the socket for role run.
        tcp: Address of the TCP listener.
    """

    def __init__(self, folder: Path) -> None:
        self.issuer = Issuer(state_directory(folder) / "tokens")
        self.tokens = {role: self.issuer.token(role) for role in Role}
        self.tcp = f"127.0.0.1:{free_port()}"
        self.daemon = RunningDaemon(
            folder,
            options=(
                *QUICK_PRELOAD,
                f"--address={self.tcp}",
                f"--address=unix:{folder}/r,role=run,mode=0600",
                "--file-max-size=4MiB",
            ),
        )
        self.run_socket = f"unix:{folder}/r"

    def client(self, role: Role) -> Client:
        """A client over TCP with the token of that role."""
        return self.with_token(self.tokens[role])

    def with_token(self, token: str | None) -> Client:
        return Client(self.tcp, token=token)

    @contextlib.contextmanager
    def channel(self, role: Role) -> Iterator[grpc.Channel]:
        """A bare channel over TCP, whose calls carry the token of that role."""
        with grpc.insecure_channel(self.tcp) as channel:
            yield grpc.intercept_channel(channel, _Bearer(self.tokens[role]))

    def until_noticed(self, token: str, reason: str) -> None:
        """Call until the daemon has taken note; an empty reason means that it lets the token in."""
        deadline = time.monotonic() + NOTICED_SECONDS
        with self.with_token(token) as client:
            while (found := refusal(client)) != reason:
                assert time.monotonic() < deadline, found


class _Bearer(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    def __init__(self, token: str) -> None:
        self._metadata = (("authorization", f"Bearer {token}"),)

    def _intercept(self, continuation, details, request):  # type: ignore[no-untyped-def]
        return continuation(details._replace(metadata=self._metadata), request)

    intercept_unary_unary = _intercept
    intercept_unary_stream = _intercept
    intercept_stream_unary = _intercept
    intercept_stream_stream = _intercept


def refusal(client: Client) -> str:
    """The reason for which a client is let in nowhere; empty if it is let in."""
    try:
        client.info()
    except errors.PermissionDenied as error:
        return error.reason
    return ""


def denied(reason: str) -> pytest.RaisesExc[errors.PermissionDenied]:
    """What a call raises that is refused for that reason."""
    return pytest.raises(errors.PermissionDenied, check=lambda error: error.reason == reason)
