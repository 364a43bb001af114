"""The commands. Each imports what it needs when it runs, so that ``--help`` is quick."""

from __future__ import annotations

import warnings
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli import exit_codes, files, residency, runs, terminal, top, versions, worker_options
from pipeline.cli.group import ErrorReportingGroup
from pipeline.cli.options import (
    Address,
    Ca,
    Cert,
    Connection,
    Inputs,
    Json,
    Key,
    Name,
    OutputDir,
    Priority,
    Timeout,
    Tls,
    TokenFile,
    connect,
)

app = typer.Typer(
    cls=ErrorReportingGroup,
    epilog=exit_codes.table(),
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    # Plain help and errors: one line on stderr, in a terminal as in a log.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        terminal.print_text(metadata.version("pipelined"))
        raise typer.Exit


@app.callback()
def common(
    context: typer.Context,
    address: Address = None,
    token_file: TokenFile = None,
    tls: Tls = False,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Deploy pipelines to a daemon and run them."""
    token = None
    if token_file is not None:
        # Imports gRPC, for which --help does not wait.
        from pipeline._credentials import read_token

        token = read_token(token_file)
    context.obj = Connection(address, token, tls, ca, cert, key)


@app.command()
def init(
    folder: Annotated[
        Path, typer.Argument(metavar="[FOLDER]", help="Made unless it is there.")
    ] = Path(),
    json: Json = False,
) -> None:
    """Write a starter project that runs. What is there is not overwritten."""
    from pipeline.cli.init import next_commands, write_starter

    names = write_starter(folder)
    commands = next_commands(folder)
    if json:
        terminal.print_json({"folder": str(folder), "files": names, "next": commands})
        return
    terminal.print_text(f"wrote {', '.join(names)}. Next:")
    for command in commands:
        terminal.print_text(f"  {command}")


@app.command()
def deploy(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:GRAPH|FOLDER",
            help="For example app:graph, app.py:graph, or a folder, whose files are sent as they "
            "are.",
        ),
    ],
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODULE:GRAPH]",
            help="Of a folder: the graph. Default: pipeline_graph in its pipeline.yaml.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="NAME",
            help="Of the deployment. Of a folder, the default is name in its pipeline.yaml.",
        ),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option("--env", metavar="K=V", help="A variable for its workers; repeatable."),
    ] = None,
    instances: worker_options.Instances = None,
    min_instances: worker_options.MinInstances = None,
    max_instances: worker_options.MaxInstances = None,
    memory: worker_options.Memory = None,
    threads: worker_options.Threads = None,
    gpus: worker_options.Gpus = None,
    cpu_seconds: worker_options.CpuSeconds = None,
    open_files: worker_options.OpenFiles = None,
    queue_length: worker_options.QueueLength = None,
    concurrent_runs: worker_options.ConcurrentRuns = None,
    secret: worker_options.Secret = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Of a folder: only warn where a required package is missing or differs.",
        ),
    ] = False,
    json: Json = False,
    address: Address = None,
) -> None:
    """Make a graph runnable under a name.

    The module of MODULE:GRAPH is imported here and the graph is pickled. The files of a FOLDER are
    sent as they are; its module is imported in a process of its own.
    """
    from pipeline.cli import printing
    from pipeline.cli.target import deploy_target
    from pipeline.errors import DeploymentWarning

    environment = printing.pairs(env or [])
    options = worker_options.collected(
        min_instances=min_instances,
        max_instances=max_instances,
        memory=memory,
        threads=threads,
        gpus=gpus,
        cpu_seconds=cpu_seconds,
        open_files=open_files,
        queue_length=queue_length,
        concurrent_runs=concurrent_runs,
        secrets=secret or [],
    )
    with connect(context, address) as client, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DeploymentWarning)
        deployment = deploy_target(
            client, source, target, name, environment, instances, options, allow_differing=force
        )
    for warning in caught:
        terminal.warn(str(warning.message))
    if json:
        terminal.print_json(printing.deployment_json(deployment))
    else:
        terminal.print_text(f"{deployment.name} v{deployment.version} is {deployment.state}")


@app.command()
def run(
    context: typer.Context,
    name: Name,
    inputs: Inputs = None,
    json: Json = False,
    timeout: Timeout = None,
    priority: Priority = 0,
    output_dir: OutputDir = Path(),
    address: Address = None,
) -> None:
    """Run a deployment once and print its outputs.

    Those that stream are printed as they come; with --json, each line is an object with what has
    come, by name.
    """
    from pipeline.cli import arguments, printing
    from pipeline.cli.transfers import TransferBars

    with (
        TransferBars(f"running {name}") as bars,
        connect(context, address, bars.uploaded) as client,
    ):
        schema = client._schema(name)
        names = printing.names(schema.outputs)
        values = arguments.parse(schema, inputs or [])
        if printing.streams(schema):
            with closing(client._stream(name, (), values, timeout, priority)) as messages:
                printing.print_stream(client, names, bars.until(messages), output_dir, as_json=json)
            return
        response = client._run(name, (), values, timeout, priority)
        bars.close()
        printing.print_outputs(client, name, names, response, output_dir, as_json=json)


@app.command()
def ps(context: typer.Context, json: Json = False, address: Address = None) -> None:
    """List the deployments."""
    from pipeline.cli import printing

    with connect(context, address) as client:
        deployments = client.list(worker_memory=True)
    if json:
        terminal.print_json([printing.deployment_json(each) for each in deployments])
    else:
        terminal.print_rows(printing.deployments_table(deployments))


@app.command()
def warm(
    context: typer.Context,
    name: Name,
    json: Json = False,
    timeout: Timeout = None,
    address: Address = None,
) -> None:
    """Start a deployment, and show its stages as they end. One that is warm stays so."""
    from pipeline.cli.progress import Progress

    with connect(context, address) as client, Progress(name, quiet=json) as progress:
        timeline = client.warm(name, on_progress=progress.add, timeout=timeout)
        progress.finish(timeline)
    if json:
        terminal.print_json(timeline.to_dict())


@app.command()
def timeline(
    context: typer.Context, name: Name, json: Json = False, address: Address = None
) -> None:
    """Show where the time of the last startup went."""
    from pipeline.errors import NotFound
    from pipeline.timeline.chart import chart

    with connect(context, address) as client:
        found = client.timeline(name)
    if found is None:
        raise NotFound(f"{name!r} has not been started yet; `pipeline warm {name}` starts it")
    if json:
        terminal.print_json(found.to_dict())
        return
    console = terminal.stdout()
    ascii_only = terminal.ascii_only(console)
    terminal.print_rows(chart(found, width=terminal.chart_width(console), ascii_only=ascii_only))


@app.command()
def delete(
    context: typer.Context,
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    address: Address = None,
) -> None:
    """Remove a deployment. Runs in progress end first."""
    import sys

    from pipeline.errors import InvalidInput

    if not yes:
        if not sys.stdin.isatty():
            raise InvalidInput("deleting without a terminal to ask on wants --yes", field="--yes")
        typer.confirm(f"Delete {name}?", abort=True)
    with connect(context, address) as client, terminal.waiting(f"deleting {name}"):
        client.delete(name)
    terminal.print_text(f"{name} is deleted")


@app.command()
def schema(context: typer.Context, name: Name, json: Json = False, address: Address = None) -> None:
    """Show what a deployment takes and gives.

    With --json as JSON Schema.
    """
    from pipeline.cli import schemas

    with connect(context, address) as client:
        found = client.deployment(name).schema
    if json:
        terminal.print_json(found())
        return
    for index, table in enumerate(schemas.tables(found)):
        if index:
            terminal.print_text("")
        terminal.print_rows(table)


@app.command()
def info(context: typer.Context, json: Json = False, address: Address = None) -> None:
    """Show what the daemon is and can do."""
    from pipeline.cli import printing

    with connect(context, address) as client:
        found = client.info()
        where = client.address
    if json:
        plain = asdict(found) | {"address": where, "started_at": found.started_at.isoformat()}
        terminal.print_json(plain)
    else:
        terminal.print_rows(printing.info_table(where, found))


@app.command()
def drain(
    context: typer.Context,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            metavar="SECONDS",
            help="How long runs may take to end. Default: what the daemon is configured with.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
    address: Address = None,
) -> None:
    """Stop the daemon: it takes no more work, lets runs end, and exits."""
    with connect(context, address) as client, terminal.waiting("draining the daemon"):
        drained = client.drain(seconds)
    if json:
        terminal.print_json(asdict(drained))
    else:
        text = f"drained in {drained.seconds:.1f} s"
        if drained.unfinished_runs:
            text += f"; runs that were ended unfinished: {drained.unfinished_runs}"
        terminal.print_text(text)


runs.add_to(app)
versions.add_to(app)
residency.add_to(app)
app.command()(top.top)
app.add_typer(files.app, name="files")
