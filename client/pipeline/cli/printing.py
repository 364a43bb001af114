"""What the commands ask the daemon for, beyond one call, and how they print the answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

from rich.table import Table
from rich.text import Text

from pipeline import errors
from pipeline._quantities import duration, size
from pipeline.cli import terminal
from pipeline.cli.outputs import Outputs
from pipeline.client import Client
from pipeline.deployment import DaemonInfo, Deployment, Pointer
from pipeline.runs import RunInfo
from pipelined_api.v1.runs_pb2 import RunResponse, StreamResponse
from pipelined_api.v1.schema_pb2 import Parameter, Schema

STATE_COLOURS = {"warm": "green", "starting": "yellow", "failed": "red", "draining": "yellow"}


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


_RUN_COLOURS = {"succeeded": "green", "running": "yellow", "failed": "red", "cancelled": "yellow"}


def names(outputs: Iterable[Parameter]) -> list[str]:
    """Return what the outputs are called."""
    return [parameter.name for parameter in outputs]


def streams(schema: Schema) -> bool:
    """Whether an output streams."""
    return any(parameter.stream for parameter in schema.outputs)


def print_stream(
    client: Client,
    names: Sequence[str],
    messages: Iterable[StreamResponse],
    folder: Path,
    *,
    as_json: bool,
) -> None:
    """Print the outputs of a run as they come; for programs, a JSON object per line."""
    outputs = _outputs(client, folder)
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
    names: Sequence[str],
    response: RunResponse,
    folder: Path,
    *,
    as_json: bool,
) -> None:
    """Print what a run returned, and save its files."""
    outputs = _outputs(client, folder)
    named = [(_name(names, index), value) for index, value in enumerate(response.outputs)]
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
    plain["options"] = vars(deployment.options)
    plain["failure"] = None if deployment.failure is None else vars(deployment.failure)
    return plain


def deployments_table(deployments: Iterable[Deployment]) -> Table:
    """Make the table of ``pipeline ps``."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for heading in ("NAME", "VERSION", "STATE"):
        table.add_column(heading, no_wrap=True)
    for heading in ("WORKERS", "MEMORY", "RUNS", "FAILED", "STARTUPS", "AGE"):
        table.add_column(heading, no_wrap=True, justify="right")
    table.add_column("FAILURE")
    now = datetime.now(timezone.utc)
    for each in deployments:
        table.add_row(
            Text(each.name),
            f"v{each.version}",
            Text(each.state, style=STATE_COLOURS.get(each.state, "")),
            f"{len(each.worker_pids)}/{each.instances}",
            size(sum(each.worker_memory)) if each.worker_pids else "",
            str(each.runs_succeeded),
            str(each.runs_failed),
            str(each.startups),
            age((now - each.created_at).total_seconds()),
            _cut(_failure(each)),
        )
    return table


def runs_table(found: Iterable[RunInfo]) -> Table:
    """Make the table of ``pipeline runs``."""
    table = _plain_table("RUN", "DEPLOYMENT", "STATE", "AGE", "TOOK", "ATTEMPTS")
    table.add_column("FAILURE")
    now = datetime.now(timezone.utc)
    for each in found:
        lines = each.message.splitlines()
        table.add_row(
            Text(each.id),
            Text(f"{each.deployment}:v{each.version}"),
            Text(each.state, style=_RUN_COLOURS.get(each.state, "")),
            age((now - each.created_at).total_seconds()),
            duration(each.execution_seconds) if each.execution_seconds else "",
            str(each.attempts),
            _cut(f"{each.reason} {lines[0] if lines else ''}".strip()),
        )
    return table


def versions_table(found: Iterable[Deployment]) -> Table:
    """Make the table of ``pipeline versions``."""
    table = _plain_table("VERSION", "STATE", "POINTERS", "DIGEST", "AGE")
    now = datetime.now(timezone.utc)
    for each in found:
        table.add_row(
            f"v{each.version}",
            Text(each.state, style=STATE_COLOURS.get(each.state, "")),
            Text(", ".join(each.pointers)),
            Text(each.digest[:12]),
            age((now - each.created_at).total_seconds()),
        )
    return table


def pointers_table(found: Iterable[Pointer]) -> Table:
    """Make the table of ``pipeline pointers list``."""
    table = _plain_table("POINTER", "VERSION", "LOCKED", "AGE")
    now = datetime.now(timezone.utc)
    for each in found:
        table.add_row(
            Text(each.pointer),
            f"v{each.version}",
            "locked" if each.locked else "",
            age((now - each.updated_at).total_seconds()),
        )
    return table


def weights_table(rows: Iterable[Mapping[str, object]]) -> Table:
    """Make the table of ``pipeline weights``."""
    table = _plain_table("DEPLOYMENT", "FILE", "SIZE", "LOADED", "FROM", "TOOK")
    for row in rows:
        table.add_row(
            Text(str(row["deployment"])),
            Text(str(row["file"])),
            size(int(str(row["bytes"]))),
            "yes" if row["loaded"] else "no",
            Text(str(row["source"])),
            duration(float(str(row["seconds"]))),
        )
    return table


def _cut(text: str) -> Text:
    """Make a cell that is cut, of a column that may wrap: such a column gives way first."""
    return Text(text, no_wrap=True, overflow="ellipsis")


def _plain_table(*headings: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, no_wrap=True, overflow="ellipsis")
    return table


def info_table(address: str, info: DaemonInfo) -> Table:
    """Make the table of ``pipeline info``."""
    nursery = info.nursery
    since = age((datetime.now(timezone.utc) - info.started_at).total_seconds())
    rows = {
        "address": address,
        "version": f"{info.version} (API {info.api_version})",
        "process": f"{info.pid}, for {since}",
        "python": info.python_version,
        "your role": f"{info.role} (token {info.caller})" if info.caller else info.role,
        "workers": ", ".join(
            (
                f"user {info.worker_user}" if info.worker_user else "the daemon's user",
                f"Landlock {info.landlock_abi}" if info.landlock_abi else "no Landlock",
            )
        ),
        "features": ", ".join(info.features),
        "largest message": size(info.max_message_bytes),
        "nursery": f"{nursery.state}, process {nursery.pid}, {nursery.restarts} restarts",
        "preloaded": f"{len(nursery.preloaded)} modules in {nursery.preload_seconds:.1f} s"
        if nursery.preloaded
        else "",
        "not preloaded": "; ".join(nursery.failed),
        "workers by exec": nursery.exec_reason,
        "not serving": info.not_serving_reason,
        "memory is watched": nursery.memory_watched,
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


def age(seconds: float) -> str:
    """Write how long something has been there, ``5 s`` or ``3 min``."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
