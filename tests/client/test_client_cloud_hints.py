"""What an upload asks of the machine: hints, accelerators, and environments."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from pipeline import Pipeline, Variable, errors, pipe
from pipeline.cloud import (
    environments,
    pipelines,
)
from pipeline.cloud._accelerators import accelerator_warnings
from pipeline.cloud._connection import connected
from pipeline.cloud.compute_requirements import Accelerator
from pipeline.objects import Graph
from tests.running_daemon import RunningDaemon


@pipe
def double(number: int) -> int:
    return 2 * number


def doubling() -> Graph:
    with Pipeline() as builder:
        builder.output(double(Variable(int)))
    return builder.get_pipeline()


@pytest.fixture(autouse=True)
def address(daemon: RunningDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINED_ADDRESS", daemon.address)


def test_hints_that_are_not_honoured_are_told() -> None:
    with pytest.warns(errors.DeploymentWarning) as caught:
        uploaded = pipelines.upload_pipeline(
            doubling(),
            "cloud-hints",
            required_gpu_vram_mb=40_000,
            minimum_cache_number=2,
            modules=["tests.client.subprocesses", "json"],
        )
    texts = [str(each.message) for each in caught]
    assert len(texts) == 2
    assert any("cloud-hints: the 40000 MB" in text for text in texts)
    assert any("module 'json' is part of an installed package" in text for text in texts)
    assert (uploaded.minimum_cache_number, uploaded.gpu_memory_min) == (2, 40_000)
    assert connected().deployment("cloud-hints").instances == 2


@pytest.mark.parametrize(
    ("hint", "field"),
    [
        ({"required_gpu_vram_mb": -1}, "required_gpu_vram_mb"),
        ({"minimum_cache_number": -1}, "minimum_cache_number"),
        ({"minimum_cache_number": 1000}, "minimum_cache_number"),
        ({"modules": ["json", "not_a.module"]}, "modules[1]"),
    ],
)
def test_hints_that_are_none(hint: dict[str, Any], field: str) -> None:
    with pytest.raises(errors.InvalidInput) as caught:
        pipelines.upload_pipeline(doubling(), "cloud-bad-hints", **hint)
    assert caught.value.field == field
    with pytest.raises(errors.NotFound):
        connected().deployment("cloud-bad-hints")


def test_accelerators_are_compared_with_the_machine() -> None:
    accelerators = [Accelerator.nvidia_t4, Accelerator.nvidia_a16]
    expected = accelerator_warnings(accelerators, connected().info().gpus)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        uploaded = pipelines.upload_pipeline(
            doubling(), "cloud-accelerators", accelerators=accelerators
        )
    assert [str(each.message) for each in caught] == [f"cloud-accelerators: {t}" for t in expected]
    assert uploaded.accelerators == tuple(accelerators)


@pytest.mark.parametrize(
    ("accelerator", "gpus", "there"),
    [
        (Accelerator.cpu, [], True),
        (Accelerator.nvidia_all, [], False),
        (Accelerator.nvidia_all, ["unknown"], True),
        (Accelerator.nvidia_t4, ["Tesla T4"], True),
        (Accelerator.nvidia_t4, [], False),
        (Accelerator.nvidia_l4, ["NVIDIA L40S"], False),
        (Accelerator.nvidia_h100, ["NVIDIA L4", "NVIDIA H100 80GB HBM3"], True),
        (Accelerator.nvidia_a100_80gb, ["NVIDIA A100-SXM4-40GB"], False),
        (Accelerator.nvidia_a100_80gb, ["NVIDIA A100-SXM4-80GB"], True),
        (Accelerator.nvidia_v100_32gb, ["Tesla V100-SXM2-32GB"], True),
        (Accelerator.nvidia_3090, ["NVIDIA GeForce RTX 3090"], True),
        (Accelerator.nvidia_a5000, ["NVIDIA RTX A5000"], True),
    ],
)
def test_models_of_gpus(accelerator: Accelerator, gpus: list[str], there: bool) -> None:
    texts = accelerator_warnings([accelerator], gpus)
    assert (texts == []) is there
    assert all(accelerator.value in text for text in texts)
    assert all(text.count(gpu) == 1 for text in texts for gpu in gpus)


def test_a_model_that_is_not_known_is_not_denied() -> None:
    [text] = accelerator_warnings([Accelerator.nvidia_t4], ["unknown"])
    assert text.endswith("is not known")
    with pytest.raises(ValueError, match="tpu"):
        accelerator_warnings(["tpu"], [])  # type: ignore[list-item]


def test_an_environment_that_fits() -> None:
    assert environments.create_environment("someone/cloud-fits", ["numpy", "torch>=2"]) == (
        "cloud-fits"
    )
    uploaded = pipelines.upload_pipeline(doubling(), "cloud-in-it", "someone/cloud-fits")
    assert uploaded.environment_id == "cloud-fits"
    assert pipelines.run_pipeline(uploaded.id, 2).outputs == [4]
    with pytest.raises(errors.AlreadyExists, match="cloud-fits"):
        environments.create_environment("cloud-fits", ["numpy"], allow_existing=False)
    assert connected().environment("cloud-fits").requirements == ("numpy", "torch>=2")
    environments.create_environment("cloud-fits", ["numpy"])
    assert connected().environment("cloud-fits").requirements == ("numpy",)


def test_an_environment_that_does_not_fit() -> None:
    wanted = ["numpy", "torch==1.0", "a-package-of-nobody>=3"]
    with pytest.warns(errors.DeploymentWarning) as caught:
        made = environments.create_environment("cloud-misfit", wanted)
    torch = connected().environment(made).unmet[0].installed_version
    assert [str(each.message) for each in caught] == [
        f"torch==1.0 is required, and the daemon has torch {torch}",
        "a-package-of-nobody>=3 is required, and the daemon has none",
    ]
    with pytest.raises(errors.Incompatible) as refused:
        pipelines.upload_pipeline(doubling(), "cloud-misfit", made)
    for part in ("torch==1.0", f"torch {torch}", "a-package-of-nobody>=3"):
        assert part in str(refused.value)
    with pytest.raises(errors.NotFound):
        connected().deployment("cloud-misfit")
    with pytest.warns(errors.DeploymentWarning) as caught:
        pipelines.upload_pipeline(doubling(), "cloud-misfit", made, allow_differing=True)
    assert len(caught) == 2
    assert pipelines.run_pipeline("cloud-misfit", 2).outputs == [4]
    with pytest.raises(errors.NotFound, match="no environment named 'cloud-nobodys'"):
        pipelines.upload_pipeline(doubling(), "cloud-misfit", "cloud-nobodys")
