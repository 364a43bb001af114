"""What is listened on: TCP never without tokens, and beyond this machine never without TLS."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from pipeline import AsyncClient, Client, errors
from pipelined.core.access import Role
from pipelined.credentials import TlsFiles
from pipelined.listening import ListenAddress, parse_listen_address
from pipelined.rpc.listener import ListenError
from pipelined.rpc.tls import Tls
from pipelined_api.address import InvalidAddress, parse_address
from tests.hostile.guarded import Issuer, denied, free_port
from tests.running_daemon import RunningDaemon, state_directory

PIPELINED = str(Path(sys.executable).with_name("pipelined"))


def refused(tmp_path: Path, *options: str) -> str:
    """Why a daemon with these options does not start."""
    command = [PIPELINED, "serve", f"--state-dir={tmp_path}/state", "--preload=json", *options]
    environment = os.environ | {"PIPELINED_CONFIG": ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


class Authority:
    """An authority, with a certificate for 127.0.0.1 and one for a client, as files."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        authority = trustme.CA()
        self.ca = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca))
        server, client = (
            authority.issue_cert("127.0.0.1"),
            authority.issue_cert("client@example.org"),
        )
        self.cert, self.key = folder / "server.pem", folder / "server.key"
        self.client_cert, self.client_key = folder / "client.pem", folder / "client.key"
        server.cert_chain_pems[0].write_to_path(str(self.cert))
        server.private_key_pem.write_to_path(str(self.key))
        client.cert_chain_pems[0].write_to_path(str(self.client_cert))
        client.private_key_pem.write_to_path(str(self.client_key))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "one")


@pytest.fixture(scope="module")
def other_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "other")


def test_tcp_without_tokens_is_refused(tmp_path: Path) -> None:
    issuer = Issuer(tmp_path / "state" / "tokens")
    for address in ("127.0.0.1:0", "localhost:0", "0.0.0.0:0"):
        assert "there is no token" in refused(tmp_path, f"--address={address}")
    # One that lets nobody in is none.
    issuer.revoke(issuer.token(Role.ADMIN))
    issuer.token(Role.ADMIN, expires=-1)
    assert "pipelined token create" in refused(tmp_path, "--address=127.0.0.1:0")


def test_plain_tcp_beyond_this_machine_is_refused(tmp_path: Path) -> None:
    Issuer(tmp_path / "state" / "tokens").token(Role.RUN)
    for address in ("0.0.0.0:0", "[::]:0", "192.0.2.1:0", "example.org:0", "[::ffff:8.8.8.8]:0"):
        assert "TLS is needed" in refused(tmp_path, f"--address={address}")


def test_a_port_that_is_in_use(tmp_path: Path) -> None:
    Issuer(tmp_path / "state" / "tokens").token(Role.RUN)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        message = refused(tmp_path, f"--address={address}")
    assert address in message
    assert "in use" in message
    # What gRPC has to say of it is none of the log's.
    assert "add_port" not in message


def test_files_that_others_can_read_are_refused(tmp_path: Path) -> None:
    issuer = Issuer(tmp_path / "tokens")
    issuer.token(Role.RUN)
    issuer.file.path.chmod(0o640)
    options = (f"--address=unix:{tmp_path}/s", f"--token-file={issuer.file.path}")
    message = refused(tmp_path, *options)
    assert "mode 0640" in message
    assert "chmod 600" in message
    issuer.file.path.chmod(0o600)
    issuer.file.path.write_text("{")
    assert "is damaged" in refused(tmp_path, *options)


def test_certificates_that_cannot_be_used_are_refused(
    tmp_path: Path, authority: Authority, other_authority: Authority
) -> None:
    Issuer(tmp_path / "state" / "tokens").token(Role.RUN)
    address = "--address=127.0.0.1:0"
    cert, key = f"--tls-cert={authority.cert}", f"--tls-key={authority.key}"
    assert "belong together" in refused(tmp_path, address, cert)
    wrong = f"--tls-key={other_authority.key}"
    assert "the key is that of another certificate" in refused(tmp_path, address, cert, wrong)
    missing = f"--tls-client-ca={tmp_path}/none"
    assert f"{tmp_path}/none': No such file" in refused(tmp_path, address, cert, key, missing)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("unix:/a,role=run", ListenAddress(parse_address("/a"), Role.RUN)),
        (
            "unix:/a,b,mode=0600,group=staff",
            ListenAddress(parse_address("/a,b"), Role.ADMIN, 0o600, "staff"),
        ),
        ("127.0.0.1:1,role=deploy", ListenAddress(parse_address("127.0.0.1:1"), Role.DEPLOY)),
    ],
)
def test_options_of_an_address(text: str, expected: ListenAddress) -> None:
    assert parse_listen_address(text) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("unix:/a,role=root", "no role"),
        ("unix:/a,role=run,role=admin", "two options"),
        ("unix:/a,mode=8", "like 0660"),
        ("unix:/a,mode=7777", "like 0660"),
        ("unix:/a,group=", "no group"),
        ("127.0.0.1:1,mode=0600", "only unix sockets"),
    ],
)
def test_options_that_are_none(text: str, why: str) -> None:
    with pytest.raises(InvalidAddress, match=why):
        parse_listen_address(text)


def test_a_group_that_is_none_is_refused(tmp_path: Path) -> None:
    message = refused(tmp_path, f"--address=unix:{tmp_path}/s,group=no-such-group")
    assert "there is no group 'no-such-group'" in message


class Secure:
    """A daemon with mutual TLS on every address of this machine."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.token = Issuer(state_directory(folder) / "tokens").token(Role.RUN)
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        self.daemon = RunningDaemon(
            folder,
            options=(
                f"--address=0.0.0.0:{port}",
                f"--tls-cert={authority.cert}",
                f"--tls-key={authority.key}",
                f"--tls-client-ca={authority.ca}",
                "--preload=json",
            ),
        )


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Secure]:
    running = Secure(tmp_path_factory.mktemp("d"), authority)
    yield running
    running.daemon.close()


async def test_mutual_tls(
    secure: Secure,
    authority: Authority,
    other_authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, other = authority, other_authority

    def client_with(
        ca: Path | None, cert: Path | None, key: Path | None, token: str | None = secure.token
    ) -> Client:
        return Client(secure.address, token=token, ca=ca, cert=cert, key=key)

    with client_with(one.ca, one.client_cert, one.client_key) as client:
        assert client.info().role == "run"
    # A certificate is no token.
    without = client_with(one.ca, one.client_cert, one.client_key, None)
    with without as client, denied("TOKEN_MISSING"):
        client.info()
    closed, untrusted = "or a certificate of the client's", "no authority that is trusted"
    for ca, cert, key, why in (
        (one.ca, None, None, closed),
        (one.ca, other.client_cert, other.client_key, closed),
        (other.ca, one.client_cert, one.client_key, untrusted),
        (None, None, None, "it may want TLS"),
    ):
        with client_with(ca, cert, key) as client, pytest.raises(errors.Unavailable, match=why):
            client.info()
    monkeypatch.setenv("PIPELINED_CA", str(one.ca))
    monkeypatch.setenv("PIPELINED_CERT", str(one.client_cert))
    monkeypatch.setenv("PIPELINED_KEY", str(one.client_key))
    async with AsyncClient(secure.address, token=secure.token) as connected:
        assert (await connected.info()).role == "run"
    # They are not for sockets.
    with Client(secure.daemon.address) as client:
        assert client.info().role == "admin"


def test_a_token_is_not_sent_in_the_clear(authority: Authority, tmp_path: Path) -> None:
    token = "pld_0123456789ab_secret"
    for address in ("192.0.2.1:1", "example.org:1"):
        with pytest.raises(errors.InvalidInput, match="in the clear") as caught:
            Client(address, token=token)
        assert caught.value.field == "token"
        assert "secret" not in str(caught.value)
    Client("192.0.2.1:1", token=token, ca=authority.ca).close()
    with pytest.raises(errors.InvalidInput, match="has no TLS"):
        Client(f"unix:{tmp_path}/s", ca=authority.ca)
    with pytest.raises(errors.InvalidInput, match="there is no key"):
        Client("127.0.0.1:1", ca=authority.ca, cert=authority.client_cert)
    with pytest.raises(errors.InvalidInput, match="no token has") as caught:
        Client("127.0.0.1:1", token="sec ret\n")
    assert "sec ret" not in str(caught.value)


async def test_certificates_are_replaced_while_it_serves(
    tmp_path: Path, authority: Authority, other_authority: Authority
) -> None:
    cert, key = tmp_path / "cert", tmp_path / "key"

    def use(one: Authority) -> None:
        cert.write_bytes(one.cert.read_bytes())
        key.write_bytes(one.key.read_bytes())

    async def trusted_by(one: Authority) -> bool:
        credentials = grpc.ssl_channel_credentials(one.ca.read_bytes())
        options = (("grpc.use_local_subchannel_pool", 1),)
        async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
            try:
                # Nothing is served: a handshake that succeeded is enough.
                call: Any = channel.unary_unary("/no.Service/Method")
                await call(b"")
            except grpc.aio.AioRpcError as error:
                return error.code() is grpc.StatusCode.UNIMPLEMENTED
        return False

    use(authority)
    tls = Tls(TlsFiles(cert, key))
    server = grpc.aio.server()
    address = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', tls.credentials)}"
    await server.start()
    try:
        assert await trusted_by(authority)
        use(other_authority)
        assert await trusted_by(authority)
        tls.reload()
        assert await trusted_by(other_authority)
        assert not await trusted_by(authority)
        key.write_bytes(authority.key.read_bytes())
        with pytest.raises(ListenError):
            tls.reload()
        assert await trusted_by(other_authority)
    finally:
        await server.stop(None)
