from __future__ import annotations

import copy
import pickle

import pytest

from pipeline import errors


def test_every_error_is_in_the_tree_and_drawn_in_it() -> None:
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), (errors.PipelineError, Warning))
        assert name in (errors.__doc__ or "")


@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidInput(
            "no", field="a.b", bound="le=1", reason="INVALID_INPUT", metadata={"field": "a.b"}
        ),
        errors.StartupFailed("no", node="M.load", deployment="d", remote_traceback="tb"),
        errors.WorkerDied("no", signal="SIGKILL"),
        errors.Overloaded("no", retry_after=1.5),
        errors.SerialisationError("no", subject="M.lock"),
    ],
)
def test_errors_keep_their_fields_when_pickled_or_copied(error: errors.PipelineError) -> None:
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(other) is type(error)
        assert str(other) == str(error) == "no"
        assert vars(other) == vars(error)
