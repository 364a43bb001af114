"""A deployment that does whatever it is told: the worst that a deployer can ship."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline import Client, Graph, Pipeline, Variable, pipe


@pipe
def execute(code: str) -> str:
    """Run the code, and return what it leaves in `result`, or how it fails."""
    scope: dict[str, object] = {}
    try:
        exec(code, scope)
    except BaseException as error:
        return f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}"
    return str(scope.get("result"))


def obedient() -> Graph:
    with Pipeline() as builder:
        code = Variable(str, title="code")
        builder.output(execute(code))
    return builder.get_pipeline()


def deploy(client: Client, name: str, environment: Mapping[str, str] | None = None) -> None:
    client.deploy(obedient(), name, environment=environment)


def told(client: Client, name: str, code: str) -> str:
    """What became of the code in a worker."""
    [result] = client.run(name, code, timeout=60)
    assert isinstance(result, str)
    return result
