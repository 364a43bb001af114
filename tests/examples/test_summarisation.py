"""The summariser: real generation by a small model, the same with and without a daemon."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import summarisation
from language_checkpoints import TEXT
from pipeline import Client
from pipeline.errors import InvalidInput
from summarisation import Options
from tests.running_daemon import RunningDaemon

NAME = "summaries"


@pytest.fixture(scope="module")
def client(daemon: RunningDaemon) -> Iterator[Client]:
    with daemon.client() as client:
        client.deploy(summarisation.graph, NAME)
        yield client
        client.delete(NAME)


def summary(outputs: list[object]) -> tuple[str, int]:
    written, tokens = outputs
    assert isinstance(written, str)
    assert isinstance(tokens, int)
    return written, tokens


def test_equal_texts_give_equal_summaries_with_and_without_a_daemon(client: Client) -> None:
    options = Options(max_new_tokens=20, num_beams=2)
    local = summary(summarisation.graph.run(TEXT, options))
    remote = [summary(client.run(NAME, TEXT, options)) for _ in range(2)]
    assert remote == [local, local]
    assert local[0].strip()
    other, _ = summary(client.run(NAME, "A letter came with the boat.", options))
    assert other != local[0]


def test_options_are_the_models_own(client: Client) -> None:
    lengths = [summary(client.run(NAME, TEXT, {"max_new_tokens": n}))[1] for n in (1, 7)]
    # This model ends no sentence: it goes as far as it may.
    assert lengths == [1, 7]
    texts = {
        summary(client.run(NAME, TEXT, options))[0]
        for options in ({}, {"num_beams": 4}, {"no_repeat_ngram_size": 1})
    }
    assert len(texts) == 3


def test_a_text_longer_than_the_model_reads_is_cut(client: Client) -> None:
    words = ["harbour", *["wind"] * 2 * summarisation.MAX_TEXT_TOKENS]
    written = [
        summary(client.run(NAME, " ".join([*words, *end]), Options(max_new_tokens=8)))
        for end in ([], ["ships"])
    ]
    assert written[0] == written[1]


@pytest.mark.parametrize(
    ("options", "field", "bound"),
    [
        ({"max_new_tokens": 0}, "options.max_new_tokens", "ge=1"),
        ({"max_new_tokens": 257}, "options.max_new_tokens", "le=256"),
        ({"num_beams": 9}, "options.num_beams", "le=8"),
        ({"no_repeat_ngram_size": -1}, "options.no_repeat_ngram_size", "ge=0"),
    ],
)
def test_options_out_of_range_are_refused(
    client: Client, options: dict[str, object], field: str, bound: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        client.run(NAME, TEXT, options)
    assert (refused.value.field, refused.value.bound) == (field, bound)


def test_a_text_without_a_letter_is_refused(client: Client) -> None:
    with pytest.raises(InvalidInput) as refused:
        client.run(NAME, " \n ")
    assert refused.value.field == "text"


def test_the_model_is_loaded_once(client: Client) -> None:
    for _ in range(2):
        client.run(NAME, TEXT, Options(max_new_tokens=1))
    deployment = client.deployment(NAME)
    assert deployment.startups == 1
    assert len(deployment.worker_pids) == 1
