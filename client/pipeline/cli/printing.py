"""What the commands ask the daemon for, beyond one call, and how they print the answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path

from rich.table import Table
from rich.text import Text

from pipeline import errors
from pipeline._quantities import size
from pipeline.cli import arguments, terminal
from pipeline.cli.outputs import Outputs
from pipeline.client import Client
from pipeline.deployment import DaemonInfo, Deployment
from pipelined_api.v1.runs_pb2 import RunResponse
from pipelined_api.v1.schema_pb2 import Schema

_STATE_COLOURS = {"warm": "green", "starting": "yellow", "failed": "red", "draining": "yellow"}


def pairs(texts: Iterable[str]) -> dict[str, str]:
    """Read ``K=V`` of ``--env``.

    Raises:
        errors.InvalidInput: one is not of that form, or a name comes twice.

    """
    found: dict[str, str] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise errors.InvalidInput(f"--env {text!r} is not of the form K=V", field="--env")
        if key in found:
            raise errors.InvalidInput(f"--env {key} is given twice", field="--env")
        found[key] = value
    return found


def run(
    client: Client, name: str, schema: Schema, texts: Sequence[str], timeout: float | None
) -> RunResponse:
    """Read the inputs by the deployment's schema, run it, and return the outputs undecoded."""
    return client._run(name, (), arguments.parse(schema, texts), timeout)


def streams(schema: Schema) -> bool:
    """Whether an output streams."""
    return any(parameter.stream for parameter in schema.outputs)


def print_stream(
    client: Client,
    name: str,
    schema: Schema,
    texts: Sequence[str],
    timeout: float | None,
    folder: Path,
    *,
    as_json: bool,
) -> None:
    """Run a deployment and print its outputs as they come; for programs, a JSON object per line."""
    outputs = _outputs(client, folder)
    names = [parameter.name for parameter in schema.outputs]
    with closing(client._stream(name, (), arguments.parse(schema, texts), timeout)) as messages:
        for message in messages:
            # By name; the last message has none.
            parts = [(_name(names, part.index), part.value) for part in message.outputs]
            if as_json and parts:
                terminal.print_json_line({each: outputs.to_json(v, each) for each, v in parts})
                continue
            for each, value in parts:
                text = outputs.to_text(value, each)
                terminal.print_text(text if len(names) == 1 else f"{each}: {text}", flush=True)
    if not as_json:
        _print_saved(outputs)


def _name(names: Sequence[str], index: int) -> str:
    return names[index] if index < len(names) else f"output-{index}"


def print_outputs(
    client: Client,
    name: str,
    schema: Schema,
    response: RunResponse,
    folder: Path,
    *,
    as_json: bool,
) -> None:
    """Print what a run returned, and save its files."""
    outputs = _outputs(client, folder)
    names = [parameter.name for parameter in schema.outputs]
    names += [f"output-{index}" for index in range(len(names), len(response.outputs))]
    named = list(zip(names, response.outputs, strict=False))
    if as_json:
        terminal.print_json(
            {
                "deployment": name,
                "run_id": response.run_id,
                "execution_seconds": response.execution_seconds,
                "outputs": [outputs.to_json(value, output) for output, value in named],
            }
        )
        return
    for output, value in named:
        text = outputs.to_text(value, output)
        terminal.print_text(text if len(named) == 1 else f"{output}: {text}")
    _print_saved(outputs)


def _outputs(client: Client, folder: Path) -> Outputs:
    return Outputs(folder, lambda file, path: client.files.referred(file).save(path))


def _print_saved(outputs: Outputs) -> None:
    console = terminal.stderr()
    for path in outputs.saved:
        console.print(Text(f"saved {path} ({size(path.stat().st_size)})"), soft_wrap=True)


def deployment_json(deployment: Deployment) -> dict[str, object]:
    """Make plain data of a deployment; its schema is JSON Schema."""
    plain = dict(vars(deployment))
    plain["schema"] = deployment.schema()
    plain["created_at"] = deployment.created_at.isoformat()
    plain["failure"] = None if deployment.failure is None else vars(deployment.failure)
    return plain


def deployments_table(deployments: Iterable[Deployment]) -> Table:
    """Make the table of ``pipeline ps``."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for heading in ("NAME", "VERSION", "STATE"):
        table.add_column(heading, no_wrap=True)
    for heading in ("WORKERS", "RUNS", "FAILED", "STARTUPS", "AGE"):
        table.add_column(heading, no_wrap=True, justify="right")
    table.add_column("FAILURE", no_wrap=True, overflow="ellipsis")
    now = datetime.now(timezone.utc)
    for each in deployments:
        table.add_row(
            Text(each.name),
            f"v{each.version}",
            Text(each.state, style=_STATE_COLOURS.get(each.state, "")),
            f"{len(each.worker_pids)}/{each.instances}",
            str(each.runs_succeeded),
            str(each.runs_failed),
            str(each.startups),
            _age((now - each.created_at).total_seconds()),
            Text(_failure(each)),
        )
    return table


def info_table(address: str, info: DaemonInfo) -> Table:
    """Make the table of ``pipeline info``."""
    nursery = info.nursery
    age = _age((datetime.now(timezone.utc) - info.started_at).total_seconds())
    rows = {
        "address": address,
        "version": f"{info.version} (API {info.api_version})",
        "process": f"{info.pid}, for {age}",
        "python": info.python_version,
        "features": ", ".join(info.features),
        "largest message": size(info.max_message_bytes),
        "nursery": f"{nursery.state}, process {nursery.pid}, {nursery.restarts} restarts",
        "preloaded": f"{len(nursery.preloaded)} modules in {nursery.preload_seconds:.1f} s"
        if nursery.preloaded
        else "",
        "not preloaded": "; ".join(nursery.failed),
        "workers by exec": nursery.exec_reason,
    }
    table = Table.grid(padding=(0, 2))
    for label, text in rows.items():
        if text:
            table.add_row(Text(label, style="bold"), Text(text))
    return table


def _failure(deployment: Deployment) -> str:
    failure = deployment.failure
    if failure is None:
        return ""
    where = f" in {failure.node}" if failure.node else ""
    lines = failure.message.splitlines()
    return f"{failure.type}{where}: {lines[0] if lines else ''}"


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
