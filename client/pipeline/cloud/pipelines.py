"""Upload a graph and run it, with the hosted service's names and argument forms."""

from __future__ import annotations

import contextlib
import importlib.util
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from pipeline import errors
from pipeline._graph.packages import is_installed
from pipeline._graph.streams import Stream
from pipeline.cloud import runs
from pipeline.cloud._accelerators import accelerator_warnings
from pipeline.cloud._connection import connected
from pipeline.cloud._names import split_upload, unowned
from pipeline.cloud.compute_requirements import Accelerator
from pipeline.cloud.schemas.pipelines import PipelineGet
from pipeline.cloud.schemas.runs import Run, RunOutputs

if TYPE_CHECKING:
    from pipeline.objects import Graph
    from pipeline.runs import Run as Handle

__all__ = [
    "get_pipeline_run",
    "poll_async_run",
    "run_pipeline",
    "stream_pipeline",
    "upload_pipeline",
]


def upload_pipeline(
    graph: Graph,
    name: str,
    environment_id_or_name: str | None = None,
    required_gpu_vram_mb: int | None = None,
    minimum_cache_number: int | None = None,
    modules: Sequence[str] | None = None,
    accelerators: Sequence[Accelerator] | None = None,
    *,
    allow_differing: bool = False,
) -> PipelineGet:
    """Deploy a graph under a name; see :meth:`pipeline.Client.deploy`.

    Each upload of something else makes the deployment's next version, which has an id of its own.

    Args:
        graph: from ``Pipeline.get_pipeline()``.
        name: of the deployment, ``name`` or ``user/name``, of which ``user/`` is dropped. With
            ``name:tag`` the pointer of that name is set to what was uploaded.
        environment_id_or_name: of an environment from ``create_environment``: the daemon has to
            meet its requirements.
        required_gpu_vram_mb: warned about: the daemon reserves no memory of a GPU by this number.
        minimum_cache_number: workers that are started and kept. With 0 and None it is cold until it
            is run, and then has one.
        modules: names of modules of your own. The code of those that the graph needs is sent
            whether they are named or not; installed packages are warned about, they are not sent.
        accelerators: any of which will do. It is warned about if the daemon's machine has none of
            them: it runs there on what there is.
        allow_differing: warn about what the daemon does not meet, instead of refusing.

    Raises:
        errors.Incompatible: a requirement is not met; all of them are named, with both versions.
        errors.NotFound: there is no such environment.
        errors.InvalidInput: the name, a number, or a module that is not there.
        errors.PipelineError: the pointer is locked (reason ``"POINTER_LOCKED"``); what was uploaded
            is deployed all the same. See ``Client.deploy`` for the rest.

    """
    plain, pointer = split_upload(name)
    instances = _count("minimum_cache_number", minimum_cache_number) or None
    texts = _vram_warnings(_count("required_gpu_vram_mb", required_gpu_vram_mb))
    texts += _module_warnings(modules or ())
    client = connected()
    if accelerators:
        texts += accelerator_warnings(accelerators, client.info().gpus)
    environment = None
    if environment_id_or_name is not None:
        environment = client.environment(unowned(environment_id_or_name))
    try:
        deployment = client.deploy(
            graph,
            plain,
            instances=instances,
            requirements=() if environment is None else environment.requirements,
            allow_differing=allow_differing,
        )
    except errors.InvalidInput as error:
        if not error.field.endswith("instances"):
            raise
        # Named as the caller has named it.
        field = "minimum_cache_number"
        message = str(error).replace(error.field, field, 1)
        raise errors.InvalidInput(
            message, field=field, bound=error.bound, reason=error.reason
        ) from None
    for text in texts:
        warnings.warn(f"{plain}: {text}", errors.DeploymentWarning, stacklevel=2)
    uploaded = PipelineGet(
        id=f"{deployment.name}:v{deployment.version}",
        name=deployment.name,
        version=deployment.version,
        created_at=deployment.created_at,
        minimum_cache_number=deployment.instances,
        environment_id=None if environment is None else environment.name,
        gpu_memory_min=required_gpu_vram_mb,
        accelerators=tuple(accelerators or ()),
    )
    if pointer:
        client.create_pointer(pointer, uploaded.id, overwrite=True)
    return uploaded


def run_pipeline(
    pipeline_id_or_pointer: str,
    *data: object,
    async_run: bool = False,
    return_response: bool = False,
    retry: bool = False,
    retry_delay: float = 2.0,
) -> Run:
    """Run a pipeline and wait for its outputs; see :meth:`pipeline.Client.run`.

    The daemon keeps them, and what was printed, for a time; see :mod:`pipeline.cloud.runs` and
    :mod:`pipeline.cloud.logs`. Interrupted while it waits, it cancels the run.

    Args:
        pipeline_id_or_pointer: what ``upload_pipeline`` returned as the id, a deployment's name,
            or ``name:tag``.
        data: in the order of the graph's input Variables.
        async_run: return at once what ``runs.get_run`` and ``poll_for_run_completion`` look up.
        return_response: not served: there is no HTTP response.
        retry: wait and try again while the daemon refuses the run because too many wait.
        retry_delay: seconds until then, unless the daemon asks for more.

    Raises:
        errors.NotServed: ``return_response``; nothing has been run.
        errors.PipelineError: what ``Client.run`` raises, if it fails.

    """
    if return_response:
        raise errors.NotServed(
            "run_pipeline(return_response=True): a daemon is not asked by HTTP, so that there is "
            "no response to return; the Run has the state, the outputs and the error"
        )
    reference = unowned(pipeline_id_or_pointer)
    while True:
        try:
            handle = connected().submit(reference, *data)
            break
        except errors.Overloaded as error:
            if not retry:
                raise
            time.sleep(max(retry_delay, error.retry_after or 0.0))
    if async_run:
        return runs.made(handle.info())
    outputs = _outputs(handle)
    return runs.made(handle.info(), outputs)


def stream_pipeline(pipeline_id_or_pointer: str, *data: object) -> Stream[RunOutputs]:
    """Run a pipeline and yield its outputs as they are made; see :meth:`pipeline.Client.stream`.

    The outputs that do not stream come first and once, then the next element of every stream that
    has not ended. There is one item per output in each; what has nothing to give is
    ``pipeline.objects.graph.ABSENT``. Closing the Stream, or leaving its ``with``, ends the run. ::

        for part in stream_pipeline("writer", "a prompt"):
            [token] = part.outputs_formatted()

    Raises:
        errors.PipelineError: what ``Client.stream`` raises; from the iterator if the run fails.

    """
    parts = connected().stream(unowned(pipeline_id_or_pointer), *data)

    def wrapped() -> Iterator[RunOutputs]:
        with parts:
            for part in parts:
                yield RunOutputs(part)

    return Stream(wrapped())


def get_pipeline_run(run_id: str) -> Run:
    """Look up a run; see :func:`pipeline.cloud.runs.get_run`."""
    return runs.get_run(run_id)


def poll_async_run(
    run_id: str,
    *,
    timeout: float | None = None,
    interval: float = 1.0,
    state_change_callback: Callable[[Run], None] | None = None,
    poll_callback: Callable[[Run], None] | None = None,
) -> Run:
    """Wait until a run has ended; see :func:`pipeline.cloud.runs.poll_for_run_completion`.

    Args:
        run_id: of the run.
        timeout: seconds; None for no limit.
        interval: seconds between two questions, at most.
        state_change_callback: called with the run whenever its state is another than before.
        poll_callback: called with the run whenever the daemon was asked for it.

    Raises:
        runs.RunNotFinished: it had not ended by then. It is a ``TimeoutError``, too.

    """
    return runs.wait(run_id, timeout, interval, state_change_callback, poll_callback)


def _outputs(handle: Handle) -> list[object]:
    try:
        return handle.result()
    except errors.PipelineError:
        raise
    except BaseException:
        # Nobody waits for it any more.
        with contextlib.suppress(errors.PipelineError):
            handle.cancel()
        raise


def _count(argument: str, value: int | None) -> int:
    if value is None:
        return 0
    if value < 0:
        raise errors.InvalidInput(f"{argument}: {value} is negative", field=argument, bound="ge=0")
    return value


def _vram_warnings(megabytes: int) -> list[str]:
    if not megabytes:
        return []
    return [
        f"the {megabytes} MB of GPU memory that it requires are not reserved: a startup takes what "
        "it needs, and fails if there is no more"
    ]


def _module_warnings(modules: Sequence[str]) -> list[str]:
    texts = []
    for index, module in enumerate(modules):
        try:
            found = importlib.util.find_spec(module) is not None
        except (ImportError, ValueError):
            # A parent is not there, or it was run as a script.
            found = module == "__main__"
        if not found:
            field = f"modules[{index}]"
            raise errors.InvalidInput(f"{field}: there is no module {module!r} here", field=field)
        if is_installed(module):
            texts.append(
                f"module {module!r} is part of an installed package, which is not sent: the daemon "
                "runs its own"
            )
    return texts
