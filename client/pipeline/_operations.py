"""What a client does, written once: ``client`` and ``async_client`` are the two faces of it."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline import _checks, _requests, _responses, errors
from pipeline._calls import STATE_CALL_SECONDS, deadline_in, seconds_left
from pipeline._deploying import Deploying
from pipeline._errors_wire import from_status
from pipeline._transfers import OnUpload, Transfers, Uploads
from pipelined_api.v1 import runs_pb2, schema_pb2

if TYPE_CHECKING:
    from pipeline._transport import Transport
    from pipeline.runs import LogLine, RunInfo

__all__ = ["Operations"]

# A run is waited for in calls of so many seconds: a daemon that is gone is noticed in between.
_WAIT_SECONDS = 60.0


class Operations(Deploying):
    """The operations of a client on a channel of either kind.

    The methods are those of :class:`pipeline.Client`, which documents them. What a run gives back
    is left as the messages have it: the command prints outputs without making tensors of them.
    """

    def __init__(self, transport: Transport, on_upload: OnUpload | None) -> None:
        super().__init__(transport)
        self.transfers = Transfers(self.calls)
        self._on_upload = on_upload

    async def run(
        self,
        name: str,
        inputs: tuple[object, ...],
        named: Mapping[str, object],
        timeout: float | None,
        priority: int = 0,
    ) -> runs_pb2.RunResponse:
        """Run once and return the outputs undecoded."""
        _checks.check_priority(priority)
        _checks.check_run_timeout(timeout)
        deadline = deadline_in(timeout)
        uploads = Uploads(self.transfers, self._on_upload)
        request = await self._fitted(name, inputs, named, timeout, uploads)
        request.priority = priority
        try:
            return await uploads.run(
                lambda left: self.calls.unary(self.transport.stubs.runs.Run, request, left),
                deadline,
            )
        except (errors.InvalidInput, errors.NotFound):
            # Ours is not the schema that the daemon has now.
            self.schemas.pop(name, None)
            raise

    async def begin_stream(
        self,
        name: str,
        inputs: tuple[object, ...],
        named: Mapping[str, object],
        timeout: float | None,
        priority: int = 0,
    ) -> tuple[AsyncGenerator[runs_pb2.StreamResponse, None], int]:
        """Validate the inputs; the run begins when the first message is asked for.

        Returns:
            The messages, and how many outputs the deployment has as far as is known.

        """
        _checks.check_priority(priority)
        _checks.check_run_timeout(timeout)
        uploads = Uploads(self.transfers, self._on_upload)
        fitted = await self._fitted(name, inputs, named, timeout, uploads)
        fitted.priority = priority
        messages = self._messages(_requests.stream_request(fitted), uploads, timeout)
        return messages, len(self.schemas[name].outputs)

    async def _messages(
        self, request: runs_pb2.StreamRequest, uploads: Uploads, timeout: float | None
    ) -> AsyncGenerator[runs_pb2.StreamResponse, None]:
        deadline = deadline_in(timeout)
        messages: AsyncGenerator[runs_pb2.StreamResponse, None] | None = None

        async def first(left: float | None) -> runs_pb2.StreamResponse | None:
            nonlocal messages
            messages = self.calls.stream(self.transport.stubs.runs.Stream, request, left)
            return await anext(messages, None)

        try:
            message = await uploads.run(first, deadline)
            if message is None or messages is None:
                return
            yield message
            async for message in messages:
                yield message
        except (errors.InvalidInput, errors.NotFound):
            # Ours is not the schema that the daemon has now.
            self.schemas.pop(request.deployment, None)
            raise
        finally:
            if messages is not None:
                await messages.aclose()

    async def submit(
        self,
        name: str,
        inputs: tuple[object, ...],
        named: Mapping[str, object],
        timeout: float | None,
        idempotency_key: str | None,
        priority: int,
        delivery: str,
    ) -> RunInfo:
        """See ``Client.submit``."""
        _checks.check_priority(priority)
        _checks.check_run_timeout(timeout)
        if idempotency_key is not None:
            _checks.check_text(idempotency_key, "idempotency_key", "the idempotency key")
        if idempotency_key == "":
            raise errors.InvalidInput(
                "the idempotency key is empty", field="idempotency_key", bound="min_length=1"
            )
        uploads = Uploads(self.transfers, self._on_upload)
        fitted = await self._fitted(name, inputs, named, None, uploads)
        fitted.priority = priority
        # One key for all attempts: a second one does not make a second run.
        key = idempotency_key or uuid.uuid4().hex
        request = _requests.submit_request(fitted, key, timeout, delivery)
        submit = self.transport.stubs.runs.Submit
        try:
            response = await uploads.run(
                lambda _: self.calls.state(submit, request), deadline_in(None)
            )
        except (errors.InvalidInput, errors.NotFound):
            # Ours is not the schema that the daemon has now.
            self.schemas.pop(name, None)
            raise
        return _responses.run_info(response.run)

    async def run_info(self, run_id: str) -> RunInfo:
        """See ``Run.info``."""
        _checks.check_text(run_id, "run_id", "the id of a run")
        request = runs_pb2.RunsGetRequest(run_id=run_id, info_only=True)
        response = await self.calls.state(self.transport.stubs.runs.Get, request)
        return _responses.run_info(response.run)

    async def result(self, run_id: str, timeout: float | None) -> runs_pb2.RunResponse:
        """See ``Run.result``; the outputs undecoded."""
        deadline = deadline_in(timeout)
        while True:
            left = max(0.0, seconds_left(deadline, _WAIT_SECONDS) or 0.0)
            response = await self._waited(run_id, left)
            if response.HasField("response"):
                return response.response
            if response.HasField("status"):
                raise from_status(response.status, self.calls.address)
            if deadline is not None and time.monotonic() >= deadline:
                raise errors.DeadlineExceeded(f"run {run_id} has not ended within {timeout} s")

    async def _waited(self, run_id: str, seconds: float) -> runs_pb2.RunsGetResponse:
        request = runs_pb2.RunsGetRequest(run_id=run_id, wait_seconds=seconds)
        get = self.transport.stubs.runs.Get
        return await self.calls.retrying(
            lambda: self.calls.unary(get, request, seconds + STATE_CALL_SECONDS)
        )

    async def runs(self, name: str | None, states: Sequence[str], limit: int) -> list[RunInfo]:
        """See ``Client.runs``."""
        request = _requests.runs_list(name, states, limit)
        response = await self.calls.state(self.transport.stubs.runs.List, request)
        return [_responses.run_info(message) for message in response.runs]

    async def cancel(self, run_id: str) -> RunInfo:
        """See ``Run.cancel``."""
        request = runs_pb2.CancelRequest(run_id=run_id)
        response = await self.calls.state(self.transport.stubs.runs.Cancel, request)
        return _responses.run_info(response.run)

    async def logs(
        self,
        *,
        run_id: str | None = None,
        deployment: str | None = None,
        follow: bool,
        tail: int | None,
    ) -> AsyncGenerator[LogLine, None]:
        """See ``Run.logs`` and ``Client.logs``."""
        if tail is not None:
            _checks.check_whole(tail, "tail")
            if tail < 0:
                raise errors.InvalidInput(f"tail {tail} is below 0", field="tail", bound="ge=0")
        request = runs_pb2.LogsRequest(follow=follow, tail=tail)
        if run_id is not None:
            request.run_id = run_id
        else:
            _checks.check_name(deployment)
            request.deployment = deployment or ""
        answers = self.calls.stream(
            self.transport.stubs.runs.Logs, request, None if follow else STATE_CALL_SECONDS
        )
        try:
            async for answer in answers:
                for line in answer.lines:
                    yield _responses.log_line(line)
        finally:
            await answers.aclose()

    async def _fitted(
        self,
        name: str,
        inputs: tuple[object, ...],
        named: Mapping[str, object],
        timeout: float | None,
        uploads: Uploads,
    ) -> runs_pb2.RunRequest:
        """Encode the inputs by the schema that is known, or by the daemon's if they do not fit."""

        def encoded(schema: schema_pb2.Schema) -> runs_pb2.RunRequest:
            return _requests.run_request(schema, name, inputs, named, uploads.add)

        _checks.check_name(name)
        known = self.schemas.get(name)
        if known is not None:
            try:
                return await self.transport.work(lambda: encoded(known))
            except errors.InvalidInput:
                # Another client may have deployed a version that takes them.
                pass
        limit = STATE_CALL_SECONDS if timeout is None else min(timeout, STATE_CALL_SECONDS)
        schema = (await self.get(name, limit)).deployment.schema
        return await self.transport.work(lambda: encoded(schema))
