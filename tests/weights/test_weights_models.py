"""Unmodified from_pretrained through the loader: the same models, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import safetensors
import torch
import transformers

from pipelined import weights
from tests.weights.files import assert_same_tensors
from tests.weights.models import Model, files_of, make_models


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize("options", [{}, {"torch_dtype": torch.float16}], ids=["as saved", "half"])
@pytest.mark.parametrize("name", ["unet", "unet-sharded", "vae", "text", "text-sharded", "minilm"])
def test_models_are_the_same_bit_for_bit(
    models: dict[str, Model], name: str, options: dict[str, Any]
) -> None:
    load, folder = models[name]
    expected = load(folder, **options).state_dict()
    assert weights.loads() == []
    weights.install()
    try:
        model = load(folder, **options)
    finally:
        weights.uninstall()
    assert_same_tensors(model.state_dict(), expected)
    loads = weights.loads()
    assert sorted((load.path, load.bytes) for load in loads) == list(files_of(folder))
    assert len(loads) == (1 if "sharded" not in name else len(loads)) > 0
    assert all(load.error is None for load in loads)


def test_transformers_gave_its_name_for_safe_open_up() -> None:
    weights.install()
    try:
        assert transformers.modeling_utils.safe_open is weights.safe_open
    finally:
        weights.uninstall()
    assert transformers.modeling_utils.safe_open is safetensors.safe_open
