"""Runs and their outputs in the hosted SDK's form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from pipeline import errors
from pipeline._graph.streams import ABSENT
from pipeline.objects import Directory, File

__all__ = ["Run", "RunError", "RunIOType", "RunOutput", "RunOutputs", "RunResult", "RunState"]


class RunState(str, Enum):
    """Where a run is in its life.

    ``cancelled`` is the daemon's own; ``rate_limited`` is no state that a run here is in: it names
    what ``run_pipeline(retry=True)`` waits for.
    """

    queued = "queued"
    running = "running"
    completed = "completed"
    failed = "failed"
    cancelled = "cancelled"
    rate_limited = "rate_limited"
    unknown = "unknown"

    @staticmethod
    def terminal_states() -> list[RunState]:
        """Return the states that a run stays in."""
        return [RunState.completed, RunState.failed, RunState.cancelled]

    @staticmethod
    def is_terminal(state: RunState) -> bool:
        """Whether a run stays in that state."""
        return state in RunState.terminal_states()


class RunIOType(str, Enum):
    """What kind of value an output is."""

    integer = "integer"
    string = "string"
    fp = "fp"
    dictionary = "dictionary"
    boolean = "boolean"
    none = "none"
    array = "array"
    pkl = "pkl"
    file = "file"

    @classmethod
    def from_object(cls, value: object) -> RunIOType:
        """Tell of a Python value; ``pkl`` is all that has no kind of its own, such as a tensor."""
        if value is None or value is ABSENT:
            return cls.none
        for types, kind in _KINDS:
            if isinstance(value, types):
                return kind
        return cls.pkl


_KINDS: tuple[tuple[type | tuple[type, ...], RunIOType], ...] = (
    # Before integers, which they are too.
    (bool, RunIOType.boolean),
    (int, RunIOType.integer),
    (float, RunIOType.fp),
    (str, RunIOType.string),
    (dict, RunIOType.dictionary),
    ((list, tuple), RunIOType.array),
    ((File, Directory), RunIOType.file),
)


@dataclass(frozen=True)
class RunOutput:
    """One output.

    Attributes:
        type: of the value.
        value: as a Python value; None if it is a file.
        file: the File or Directory, if it is one.

    """

    type: RunIOType
    value: object = None
    file: File | Directory | None = None

    @classmethod
    def of(cls, value: object) -> RunOutput:
        """Wrap a Python value."""
        if isinstance(value, (File, Directory)):
            return cls(RunIOType.file, None, value)
        return cls(RunIOType.from_object(value), value)


class RunOutputs:
    """Outputs of a run.

    Attributes:
        outputs: one item per output of the graph.

    """

    def __init__(self, values: Sequence[object]) -> None:
        self._values = list(values)
        self.outputs = [RunOutput.of(value) for value in self._values]

    def result_array(self) -> list[object]:
        """Return the outputs as Python values, Files among them."""
        return list(self._values)

    def outputs_formatted(self) -> list[object]:
        """Return the outputs as Python values, Files among them."""
        return self.result_array()


class RunResult(RunOutputs):
    """All outputs of a run.

    Attributes:
        run_id: of the run.
        outputs: one item per output of the graph.

    """

    def __init__(self, run_id: str, values: Sequence[object]) -> None:
        super().__init__(values)
        self.run_id = run_id


@dataclass(frozen=True)
class RunError:
    """Why a run did not end well.

    Attributes:
        exception: what happened, for people.
        traceback: in the worker, as Python prints it; None if nothing was raised there.
        type: the daemon's stable reason, such as ``"RUN_FAILED"``.

    """

    exception: str
    traceback: str | None
    type: str

    @property
    def message(self) -> str:
        """The same as ``exception``."""
        return self.exception


@dataclass(frozen=True)
class Run:
    """A run as it was when the daemon was asked.

    Attributes:
        id: what ``runs.get_run`` takes, also from another process.
        pipeline_id: the version that ran, ``"name:v3"``.
        state: where it was in its life.
        created_at: when it was asked for, in UTC.
        updated_at: when it began or ended, in UTC.
        result: its outputs; None if it has not ended well, or if they are not kept.
        error: why it did not end well; None otherwise.

    """

    id: str
    pipeline_id: str
    state: RunState
    created_at: datetime
    updated_at: datetime
    result: RunResult | None = None
    error: RunError | None = None

    @property
    def outputs(self) -> list[object]:
        """The outputs as Python values; empty if there are none."""
        return [] if self.result is None else self.result.result_array()

    def outputs_formatted(self) -> list[object]:
        """Return the outputs as Python values, Files among them.

        Raises:
            errors.PipelineError: there are none: it has not ended, it failed, or they are not kept.

        """
        if self.result is None:
            why = f": {self.error.exception}" if self.error is not None else ""
            raise errors.PipelineError(
                f"run {self.id} has no outputs here; it is {self.state.value}{why}"
            )
        return self.result.result_array()
