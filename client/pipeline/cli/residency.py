"""The commands about who is in memory, how big it is there, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from pipeline.cli import terminal
from pipeline.cli.options import Address, Json, Name, OptionalName, connect

if TYPE_CHECKING:
    from pipeline.deployment import Deployment
    from pipeline.timeline import Timeline


def add_to(app: typer.Typer) -> None:
    """Make the commands known."""
    app.command()(weights)
    app.command()(why)


def weights(
    context: typer.Context,
    name: OptionalName = None,
    json: Json = False,
    address: Address = None,
) -> None:
    """List the weights files that deployments loaded last."""
    from pipeline.cli.printing import weights_table

    rows: list[dict[str, object]] = []
    with connect(context, address) as client:
        for deployment in [client.deployment(name)] if name is not None else client.list():
            reference = f"{deployment.name}:v{deployment.version}"
            timeline = client.timeline(reference)
            rows += [
                {
                    "deployment": reference,
                    "file": stage.name,
                    "bytes": stage.bytes,
                    "loaded": deployment.state == "warm",
                    "source": stage.source,
                    "seconds": stage.seconds,
                }
                for stage in (timeline.stages if timeline is not None else ())
                if stage.kind == "weights"
            ]
    if json:
        terminal.print_json(rows)
    else:
        terminal.print_rows(weights_table(rows))


def why(context: typer.Context, name: Name, json: Json = False, address: Address = None) -> None:
    """Tell why a deployment is in the state that it is in."""
    with connect(context, address) as client:
        deployment = client.deployment(name)
        timeline = client.timeline(f"{deployment.name}:v{deployment.version}")
    reasons = _reasons(deployment, timeline)
    if json:
        terminal.print_json(
            {
                "deployment": deployment.name,
                "version": deployment.version,
                "state": deployment.state,
                "reasons": reasons,
            }
        )
        return
    terminal.print_text(f"{deployment.name} v{deployment.version} is {deployment.state}")
    for reason in reasons:
        terminal.print_text(f"  {reason}")


def _reasons(deployment: Deployment, timeline: Timeline | None) -> list[str]:
    """Explain a state with what the daemon tells of it, the most important first."""
    from pipeline._quantities import duration

    reasons = []
    if deployment.state == "cold":
        if timeline is None:
            reasons.append("nobody has asked for it since the daemon started")
        else:
            reasons.append("its workers have been stopped: it was cooled, or replaced")
        reasons.append(f"the next run starts it, and so does `pipeline warm {deployment.name}`")
    elif deployment.state == "draining":
        reasons.append("it is being stopped: its runs in progress end first")
    if deployment.failure is not None:
        failure = deployment.failure
        where = f" in {failure.node}" if failure.node else ""
        reasons.append(f"its last startup failed{where}: {failure.type}: {failure.message}")
        reasons.append("the next run or warm tries again, after a while that grows")
    if timeline is not None:
        when = timeline.started_at.isoformat(timespec="seconds")
        took = timeline.startup_seconds
        ended = "has not ended" if took is None else f"took {duration(took)}"
        reasons.append(f"startup {timeline.startup} was asked for at {when} and {ended}")
    live = len(deployment.worker_pids)
    reasons.append(f"{live} of {deployment.instances} workers live; {deployment.startups} startups")
    reasons += [f"{deployment.name}:{pointer} names it" for pointer in deployment.pointers]
    return reasons
