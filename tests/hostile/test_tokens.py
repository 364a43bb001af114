"""Who is let in, and what each role may do there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from pipeline import AsyncClient, Client, errors
from pipelined.core.access import Role
from pipelined.rpc.roles import ROLES
from pipelined.rpc.server import SERVICES
from pipelined.store.tokens import TokenFile, TokenFileError
from tests.hostile import user_code
from tests.hostile.guarded import NOTICED_SECONDS, Guarded, denied, refusal
from tests.hostile.wire import answer

PIPELINED = str(Path(sys.executable).with_name("pipelined"))
PIPELINE = str(Path(sys.executable).with_name("pipeline"))


def test_tcp_wants_a_token_for_every_method(guarded: Guarded) -> None:
    with grpc.insecure_channel(guarded.tcp) as channel:
        for method in [*ROLES, "/pipelined.v1.Runs/Nothing", "/no.Service/Method"]:
            found = answer(channel, method, b"")
            assert (found.code, found.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING")


@pytest.mark.parametrize("role", Role)
def test_each_role_gets_as_far_as_the_table_says(guarded: Guarded, role: Role) -> None:
    assert len({method.split("/")[1] for method in ROLES}) == len(SERVICES)
    with guarded.channel(role) as channel:
        for method, needed in ROLES.items():
            # A message that no method takes: whoever is let in is told that, or of an empty one.
            found = answer(channel, method, b"\xff\xff\xff", seconds=5)
            refused = found.reason == "ROLE_TOO_LOW"
            assert refused == (needed > role), (method, found)
            if refused:
                assert found.code is grpc.StatusCode.PERMISSION_DENIED
                assert found.metadata["needed"] == needed.label
                assert found.metadata["role"] == role.label


@pytest.mark.parametrize(
    "token",
    [
        "wrong",
        "pld_0123456789ab_" + "A" * 43,
        "pld_" + "x" * 4000,
        "pld__",
        "../../etc/passwd",
    ],
)
def test_a_wrong_token_lets_nobody_in_anywhere(guarded: Guarded, token: str) -> None:
    # Nor where none would have been needed: the caller believes to be somebody.
    for address in (guarded.tcp, guarded.daemon.address):
        with Client(address, token=token) as client, denied("TOKEN_INVALID"):
            client.info()


def test_the_secret_of_one_token_does_not_fit_another(guarded: Guarded) -> None:
    mine, other = guarded.tokens[Role.RUN].split("_"), guarded.tokens[Role.ADMIN].split("_")
    forged = "_".join([mine[0], other[1], *mine[2:]])
    with guarded.with_token(forged) as client:
        assert refusal(client) == "TOKEN_INVALID"


def test_two_tokens_are_none(guarded: Guarded) -> None:
    pair = tuple(("authorization", f"Bearer {guarded.tokens[role]}") for role in Role)
    with grpc.insecure_channel(guarded.tcp) as channel:
        found = answer(channel, "/pipelined.v1.Daemon/Info", b"", metadata=pair)
    assert found.reason == "TOKEN_INVALID"


def test_tokens_come_and_go_while_the_daemon_runs(guarded: Guarded) -> None:
    token = guarded.issuer.token(Role.DEPLOY)
    with guarded.with_token(token) as client:
        guarded.until_noticed(token, "")
        assert client.info().role == "deploy"
        guarded.issuer.revoke(token)
        guarded.until_noticed(token, "TOKEN_REVOKED")
        # On the connection that it was let in by, too.
        with denied("TOKEN_REVOKED"):
            client.list()
    expired = guarded.issuer.token(Role.ADMIN, expires=-1)
    guarded.until_noticed(expired, "TOKEN_EXPIRED")


def test_a_damaged_file_of_tokens_changes_nothing(guarded: Guarded) -> None:
    path = guarded.issuer.file.path
    content = path.read_bytes()
    try:
        path.write_bytes(b'{"version": 1, "tokens": [{}]}')
        deadline = time.monotonic() + NOTICED_SECONDS
        with guarded.client(Role.RUN) as client:
            while "the tokens are those from before" not in guarded.daemon.log():
                assert client.info().role == "run"
                assert time.monotonic() < deadline, guarded.daemon.log()
            assert client.info().role == "run"
    finally:
        path.write_bytes(content)


def test_a_listener_bounds_the_role(guarded: Guarded) -> None:
    with Client(guarded.run_socket) as client:
        assert (client.info().role, client.info().caller) == ("run", "")
        with denied("ROLE_TOO_LOW"):
            user_code.deploy(client, "by-nobody")
    with Client(guarded.run_socket, token=guarded.tokens[Role.ADMIN]) as client:
        assert client.info().role == "run"
        assert client.info().caller == guarded.tokens[Role.ADMIN].split("_")[1]
    # A token narrows what a socket gives.
    with Client(guarded.daemon.address, token=guarded.tokens[Role.RUN]) as client:
        assert client.info().role == "run"
        with denied("ROLE_TOO_LOW"):
            client.delete("anything")
    with Client(guarded.daemon.address) as client:
        assert client.info().role == "admin"


def test_modes_of_sockets_are_as_asked(guarded: Guarded) -> None:
    assert guarded.daemon.socket_path.stat().st_mode & 0o777 == 0o660
    assert Path(guarded.run_socket.removeprefix("unix:")).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "call",
    [
        lambda client: user_code.deploy(client, "run-deploys"),
        lambda client: client.delete("obedient"),
        lambda client: client.cool("obedient"),
        lambda client: client.create_pointer("obedient:p", "obedient:v1"),
        lambda client: client.delete_pointer("obedient:p"),
        lambda client: list(client.logs("obedient")),
        lambda client: client.create_environment("e", ["numpy"]),
        lambda client: client.delete_environment("e"),
        lambda client: client.check_requirements(["numpy"]),
    ],
)
def test_role_run_only_runs(guarded: Guarded, call: Callable[[Client], object]) -> None:
    with guarded.client(Role.DEPLOY) as deployer:
        user_code.deploy(deployer, "obedient")
    with guarded.client(Role.RUN) as client:
        with denied("ROLE_TOO_LOW"):
            call(client)
        assert user_code.told(client, "obedient", "result = 1 + 1") == "2"


async def test_clients_take_tokens_from_the_environment(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text(guarded.tokens[Role.RUN] + "\n")
    monkeypatch.setenv("PIPELINED_TOKEN_FILE", str(file))
    async with AsyncClient(guarded.tcp) as client:
        assert (await client.info()).role == "run"
    monkeypatch.setenv("PIPELINED_TOKEN", guarded.tokens[Role.DEPLOY])
    with Client(guarded.tcp) as blocking:
        assert blocking.info().role == "deploy"
    with Client(guarded.tcp, token=guarded.tokens[Role.ADMIN]) as blocking:
        assert blocking.info().role == "admin"
        assert guarded.tokens[Role.ADMIN] not in repr(vars(blocking))


def test_the_command_takes_a_token_file(guarded: Guarded, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(guarded.tokens[Role.RUN])
    options = ["--address", guarded.tcp, "--token-file", str(file)]
    done = subprocess.run(
        [PIPELINE, *options, "info", "--json"], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["role"] == "run"


def test_the_command_makes_lists_and_revokes_tokens(guarded: Guarded) -> None:
    where = f"--state-dir={guarded.daemon.state_dir}"

    def run(*arguments: str) -> str:
        command = [PIPELINED, "token", *arguments, where]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    token = run("create", "--role=run", "--expires=30d", "--note=for a test")
    guarded.until_noticed(token, "")
    token_id = token.split("_")[1]
    [row] = [row for row in json.loads(run("list", "--json")) if row["id"] == token_id]
    assert (row["role"], row["state"], row["note"]) == ("run", "valid", "for a test")
    # Kept hashed.
    path = guarded.issuer.file.path
    assert token.split("_", 2)[2] not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    run("revoke", token_id)
    guarded.until_noticed(token, "TOKEN_REVOKED")
    assert f"{token_id}  run     revoked" in run("list")
    unknown = subprocess.run([PIPELINED, "token", "revoke", "nobody", where], capture_output=True)
    assert (unknown.returncode, unknown.stdout) == (1, b"")
    # One that has leaked is taken back by what is known of it, and not repeated.
    leaked = run("create", "--role=run")
    assert run("revoke", leaked) == f"{leaked.split('_')[1]} is revoked"


def test_tokens_that_are_made_at_once_are_all_kept(guarded: Guarded) -> None:
    where = f"--state-dir={guarded.daemon.state_dir}"
    command = [PIPELINED, "token", "create", "--role=run", where]
    processes = [subprocess.Popen(command, stdout=-1, text=True) for _ in range(4)]
    made = [process.communicate(timeout=60)[0].strip().split("_")[1] for process in processes]
    kept = {record.id for record in guarded.issuer.file.read().records()}
    assert set(made) <= kept


@pytest.mark.parametrize("kind", ["pipe", "nested", "far"])
def test_what_is_no_file_of_tokens_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "tokens"
    if kind == "pipe":
        # Nobody writes into it.
        os.mkfifo(path, 0o600)
    elif kind == "nested":
        path.write_text("[" * 100_000)
    else:
        entry = {"id": "0" * 12, "role": "run", "sha256": "0" * 64, "note": "", "revoked": None}
        entry |= {"created": "0001-01-01T00:00:00", "expires": "0001-01-01T00:00:00"}
        path.write_text(json.dumps({"version": 1, "tokens": [entry]}))
    path.chmod(0o600)
    with pytest.raises(TokenFileError, match="is no file|is damaged"):
        TokenFile(path).read()


def test_refused_deletions_do_not_fill_the_audit_log(guarded: Guarded) -> None:
    with guarded.client(Role.RUN) as client:
        for number in range(60):
            with pytest.raises(errors.NotFound):
                client.files.delete(f"{number:064x}")
    entries = (guarded.daemon.state_dir / "audit.log").read_text().splitlines()
    assert 1 <= sum('"delete file"' in entry for entry in entries) < 60


def test_the_audit_log_tells_who_did_what(guarded: Guarded) -> None:
    with guarded.client(Role.DEPLOY) as client:
        user_code.deploy(client, "audited")
        client.create_pointer("audited:p", "audited:v1")
        client.delete_pointer("audited:p")
        client.delete("audited")
    path = guarded.daemon.state_dir / "audit.log"
    assert path.stat().st_mode & 0o777 == 0o600
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    mine = [entry for entry in entries if entry["subject"].startswith("audited")]
    assert [entry["action"] for entry in mine] == [
        "deploy",
        "set pointer",
        "delete pointer",
        "delete",
    ]
    for entry in mine:
        assert entry["outcome"] == "ok"
        assert entry["caller"] == guarded.tokens[Role.DEPLOY].split("_")[1]
        assert entry["role"] == "deploy"
        assert entry["peer"].startswith("ipv4:127.0.0.1:")
        assert entry["listener"] == guarded.tcp
    assert mine[0]["version"] == "1"
    assert any(entry["outcome"] == "TOKEN_MISSING" for entry in entries)
    # Neither there nor in the log.
    for text in (path.read_text(), guarded.daemon.log()):
        assert not any(token.split("_", 2)[2] in text for token in guarded.tokens.values())
