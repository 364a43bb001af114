"""The commands about runs that go on by themselves, and about what runs printed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli import completion, terminal
from pipeline.cli.options import (
    Address,
    Inputs,
    Json,
    Name,
    OptionalName,
    OutputDir,
    Priority,
    Timeout,
    connect,
)

if TYPE_CHECKING:
    from pipeline.runs import LogLine, RunInfo

RunId = Annotated[str, typer.Argument(metavar="RUN", help="The id of a run.")]


def add_to(app: typer.Typer) -> None:
    """Make the commands known."""
    app.command()(submit)
    app.command()(runs)
    app.command()(result)
    app.command()(cancel)
    app.command()(logs)


def submit(
    context: typer.Context,
    name: Name,
    inputs: Inputs = None,
    json: Json = False,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="SECONDS", help="End the run after so long."),
    ] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option("--idempotency-key", metavar="KEY", help="The same key is the same run."),
    ] = None,
    priority: Priority = 0,
    at_least_once: Annotated[
        bool,
        typer.Option(
            "--at-least-once", help="Execute it again if its process, or the daemon, dies."
        ),
    ] = False,
    address: Address = None,
) -> None:
    """Begin a run without waiting for it, and print its id. `pipeline result` waits for it."""
    from pipeline.cli import arguments
    from pipeline.cli.transfers import TransferBars

    with (
        TransferBars(f"submitting a run of {name}") as bars,
        connect(context, address, bars.uploaded) as client,
    ):
        values = arguments.parse(client._schema(name), inputs or [])
        delivery = "at_least_once" if at_least_once else "at_most_once"
        run = client._submit(name, values, timeout, idempotency_key, priority, delivery)
    if json:
        terminal.print_json(_json(run))
    else:
        terminal.print_text(run.id)


def runs(
    context: typer.Context,
    name: OptionalName = None,
    state: Annotated[
        list[str] | None,
        typer.Option(
            "--state", help="queued, running, succeeded, failed or cancelled; repeatable."
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="At most so many.")] = 20,
    json: Json = False,
    address: Address = None,
) -> None:
    """List runs, the newest first."""
    from pipeline.cli import printing

    with connect(context, address) as client:
        found = client.runs(name, states=state or (), limit=limit)
    if json:
        terminal.print_json([_json(each) for each in found])
    else:
        terminal.print_rows(printing.runs_table(found))


def result(
    context: typer.Context,
    run_id: RunId,
    json: Json = False,
    timeout: Timeout = None,
    output_dir: OutputDir = Path(),
    address: Address = None,
) -> None:
    """Wait for a run that was submitted, and print its outputs. Fails as the run did."""
    from pipeline.cli import printing
    from pipeline.errors import NotFound

    with connect(context, address) as client:
        info = client.get_run(run_id).info()
        with terminal.waiting(f"waiting for run {run_id} of {info.deployment}"):
            response = client._result(run_id, timeout)
        try:
            names = printing.names(client._schema(f"{info.deployment}:v{info.version}").outputs)
        except NotFound:
            # The version that ran is gone, and with it the names of its outputs.
            names = []
        printing.print_outputs(client, info.deployment, names, response, output_dir, as_json=json)


def cancel(
    context: typer.Context, run_id: RunId, json: Json = False, address: Address = None
) -> None:
    """End a run. One that has ended stays as it is."""
    with connect(context, address) as client:
        info = client.get_run(run_id).cancel()
    if json:
        terminal.print_json(_json(info))
    else:
        terminal.print_text(f"{info.id} is {info.state}")


def logs(
    context: typer.Context,
    of: Annotated[
        str,
        typer.Argument(
            metavar="NAME|RUN",
            help="A deployment or the id of a run.",
            show_default=False,
            autocompletion=completion.deployments,
        ),
    ],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")] = False,
    tail: Annotated[
        int | None, typer.Option("--tail", "-n", min=0, help="Only so many of the newest lines.")
    ] = None,
    json: Json = False,
    address: Address = None,
) -> None:
    """Print what the workers of a deployment, or a run, have printed.

    With --json each line is an object.
    """
    from pipeline.errors import NotFound

    with connect(context, address) as client:
        try:
            # A deployment comes first: its name was chosen, the id of a run was not.
            lines = client.logs(client.deployment(of).name, follow=follow, tail=tail)
        except NotFound as error:
            try:
                run = client.get_run(of)
            except NotFound:
                raise NotFound(f"there is no deployment or run {of!r}") from error
            lines = run.logs(follow=follow, tail=tail)
        with lines:
            for line in lines:
                _print(line, as_json=json)


def _print(line: LogLine, *, as_json: bool) -> None:
    if as_json:
        terminal.print_json_line(dict(vars(line)) | {"time": line.time.isoformat()})
    elif line.note:
        terminal.warn(line.text)
    else:
        terminal.print_text(line.text, flush=True)


def _json(info: RunInfo) -> dict[str, object]:
    plain = dict(vars(info))
    for key in ("created_at", "started_at", "ended_at"):
        plain[key] = plain[key] and plain[key].isoformat()
    return plain
