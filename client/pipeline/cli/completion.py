"""Names that a shell completes: asked of the daemon, quietly."""

from __future__ import annotations

import typer

__all__ = ["deployments"]


def deployments(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the deployments whose names begin so, with their states; none without a daemon."""
    from pipeline.cli.options import connect
    from pipeline.errors import PipelineError

    try:
        with connect(context, context.params.get("address")) as client:
            found = client.list()
    except PipelineError:
        return []
    return [
        (each.name, f"v{each.version} {each.state}")
        for each in found
        if each.name.startswith(incomplete)
    ]
