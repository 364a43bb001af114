"""Whatever is sent to whatever method, the daemon answers, and goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelined.core.access import Role
from pipelined_api.limits import MAX_ENVELOPE_BYTES, MAX_MESSAGE_BYTES
from tests.e2e.test_bad_input import scaling
from tests.hostile.guarded import Guarded
from tests.hostile.rpc_fuzzing import DEPLOYMENT, Fuzzer, messages, methods
from tests.hostile.wire import answer

METHODS = methods()
CANARY = Path("/tmp/pipelined-fuzz-canary")


@pytest.fixture(scope="module")
def fuzzer(guarded: Guarded) -> Iterator[Fuzzer]:
    with guarded.client(Role.DEPLOY) as client:
        client.deploy(scaling(), DEPLOYMENT)
    with guarded.channel(Role.ADMIN) as channel:
        yield Fuzzer(channel)


@pytest.mark.parametrize("path", METHODS)
def test_whatever_is_sent_is_answered(guarded: Guarded, fuzzer: Fuzzer, path: str) -> None:
    before = len(guarded.daemon.log())
    pid = guarded.daemon.pid

    @given(data=st.data())
    @settings(
        max_examples=15,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    def run(data: st.DataObject) -> None:
        fuzzer.call(path, data.draw(messages(METHODS[path])))

    run()
    with guarded.client(Role.RUN) as client:
        assert client.info().pid == pid
    log = guarded.daemon.log()[before:]
    assert "rpc.internal_error" not in log
    assert "Traceback" not in log
    assert not CANARY.exists()


def test_messages_that_are_too_large_are_refused(guarded: Guarded) -> None:
    large = bytes(MAX_MESSAGE_BYTES + MAX_ENVELOPE_BYTES + 1)
    options = (("grpc.max_send_message_length", -1),)
    for address in (guarded.daemon.address, guarded.run_socket):
        with grpc.insecure_channel(address, options=options) as channel:
            found = answer(channel, "/pipelined.v1.Runs/Run", large, seconds=60)
            assert found.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert answer(channel, "/pipelined.v1.Daemon/Info", b"").code is grpc.StatusCode.OK


def test_metadata_that_is_too_large_is_refused(guarded: Guarded) -> None:
    with grpc.insecure_channel(guarded.daemon.address) as channel:
        long = (("x-long", "x" * 100_000),)
        found = answer(channel, "/pipelined.v1.Daemon/Info", b"", metadata=long)
        assert found.code is not grpc.StatusCode.OK
        assert answer(channel, "/pipelined.v1.Daemon/Info", b"").code is grpc.StatusCode.OK
