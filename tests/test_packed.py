"""Batches without padding: the same words as transformers' own, rows that leave, models that are not written so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tiny_model import make_tiny_model

from ragtune.models import language
from ragtune.models.language import open_generator
from ragtune.models.packed import Prefixes, is_packable
from ragtune.models.spoken import SpokenBatch
from ragtune.models.streaming import Wish, Written
from ragtune.recipe.schema import Generator
from ragtune.records import Message
from ragtune.seams import GREEDY, Sampling

TEXTS = ("Net sales?", "What were net sales in 2021, and costs? " * 9, "x", "Total assets 2021 2020 " * 20,
         "Cost of goods sold")
LIMITS = (7, 40, 1, 23, 12)


@pytest.fixture(autouse=True)
def _two_threads(generator: Any) -> Iterator[None]:
    """Read prompts side by side, as on a machine of several processors."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return open_generator(Generator(model=str(make_tiny_model(tmp_path_factory.mktemp("m") / "tiny")), device="cpu"))


def write(generator: Any, places: list[int], sampling: Sampling = GREEDY) -> list[Written]:
    wishes = [Wish([Message(role="user", content=TEXTS[place])], LIMITS[place], sampling) for place in places]
    return generator.stream(wishes, lambda place, piece: True)


def test_a_batch_says_what_transformers_says_padded_and_each_prompt_alone(
    generator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_packable(generator.model)
    packed = write(generator, [0, 1, 2, 3, 4])
    assert packed == [write(generator, [place])[0] for place in range(5)]
    assert [one.tokens for one in packed] == list(LIMITS), "rows leave the batch at lengths of their own"
    monkeypatch.setattr(language, "is_packable", lambda model: False)
    assert write(generator, [0, 1, 2, 3, 4]) == packed
    assert len({one.text for one in packed}) > 2


def test_a_stop_token_lets_a_row_leave(generator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: dict[int, list[int]] = {}

    class Recording(SpokenBatch):
        def take(self, place: int, token: int) -> bool:
            taken.setdefault(place, []).append(token)
            return super().take(place, token)

    monkeypatch.setattr(language, "SpokenBatch", Recording)
    drawing = Sampling(temperature=1.0, seed=3)
    whole = write(generator, [1, 3], drawing)
    said = taken.pop(0)
    length, stop = next((n, token) for n, token in enumerate(said) if n > 3 and said.index(token) == n
                        and token not in taken[1][: n + 1])
    monkeypatch.setattr(generator, "stop_ids", [stop])
    taken.clear()
    short = write(generator, [1, 3], drawing)
    assert (short[0].stop, short[0].tokens, whole[0].stop) == ("stop", length, "length")
    assert whole[0].text.startswith(short[0].text)
    assert taken[0] == said[: length + 1]
    assert len(taken[1]) > length, "the other row goes on"


def test_what_is_drawn_comes_again_under_its_seed_and_little_top_p_leaves_the_likeliest(generator: Any) -> None:
    drawn = [write(generator, [0, 1, 3], Sampling(temperature=1.0, seed=seed)) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert write(generator, [0, 1, 3], Sampling(temperature=1.0, top_p=1e-4)) == write(generator, [0, 1, 3])


def test_models_with_other_attention_or_settings_of_their_own_are_left_to_transformers(generator: Any) -> None:
    from types import SimpleNamespace

    import torch
    from transformers import GenerationConfig, LlamaConfig, MistralConfig

    def model(**parts: Any) -> Any:
        return SimpleNamespace(**{"device": torch.device("cpu"), "generation_config": GenerationConfig(),
                                  "config": LlamaConfig(num_hidden_layers=2), **parts})

    assert is_packable(model())
    assert not is_packable(model(generation_config=GenerationConfig(repetition_penalty=1.05)))
    assert not is_packable(model(config=MistralConfig(num_hidden_layers=2, sliding_window=64)))
    assert not is_packable(model(virtual_tokens=8))
    assert not is_packable(model(device=torch.device("meta")))


def test_a_prompt_that_begins_like_one_before_goes_on_from_there(generator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "prefixes", Prefixes())
    passages = "[1] Net sales 2021: 4,210 2020: 3,900 " * 12

    def ask(question: str) -> Written:
        wish = Wish([Message(role="user", content=f"{passages}\nQuestion: {question}")], 12)
        return generator.stream([wish], lambda place, piece: True)[0]

    questions = ("What were net sales?", "Total assets?", "What were net sales in 2020?")
    reused = [ask(question) for question in questions]
    counts = generator.prefixes.counts
    assert counts["reused"] > counts["read"] > 0
    for question, written in zip(questions, reused):
        monkeypatch.setattr(generator, "prefixes", Prefixes())
        assert ask(question) == written
        assert generator.prefixes.counts["reused"] == 0


def test_a_seeded_draw_goes_on_from_nothing_kept(generator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "prefixes", Prefixes())
    drawing = Sampling(temperature=1.0, seed=5)
    wishes = [Wish([Message(role="user", content=TEXTS[1])], 12, drawing, is_seeded=True)]
    first, again = (generator.stream(wishes, lambda place, piece: True) for _ in range(2))
    assert first == again
    assert generator.prefixes.counts == {"read": 0, "reused": 0}


def test_kept_prompts_are_of_their_weights_alone_and_the_oldest_go(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from ragtune.models import packed

    def layers(length: int) -> tuple[tuple[Any, Any], ...]:
        return ((torch.arange(length).float().reshape(1, 1, length, 1),) * 2,)

    prefixes = Prefixes()
    prefixes.keep("base", [5, 6, 7, 8], layers(4))
    assert prefixes.find("tuned", [5, 6, 7, 9]) == (0, ())
    length, ((keys, _),) = prefixes.find("base", [5, 6, 7, 9])
    assert (length, keys.flatten().tolist()) == (3, [0, 1, 2])
    assert prefixes.find("base", [5, 6, 7])[0] == 2, "the last token is always read"
    assert prefixes.find("base", [5, *range(9)])[0] == 0, "so little is no gain"
    monkeypatch.setattr(packed, "MAX_PREFIX_BYTES", 64)
    prefixes.keep("base", [1, 2, 3, 4], layers(4))
    assert prefixes.find("base", [5, 6, 7, 9])[0] == 3
    prefixes.keep("base", [9, 2, 3, 4], layers(4))
    assert prefixes.find("base", [5, 6, 7, 9])[0] == 0
    assert prefixes.find("base", [1, 2, 3, 9])[0] == 3


def test_the_prompts_of_those_who_left_are_not_read(generator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "prefixes", Prefixes())
    wishes = [Wish([Message(role="user", content=TEXTS[place])], LIMITS[place]) for place in range(3)]
    gone = generator.stream(wishes, lambda place, piece: False)
    assert [(one.stop, one.tokens) for one in gone] == [("cancelled", 0)] * 3
    assert generator.prefixes.counts == {"read": 0, "reused": 0}
    some = generator.stream(wishes, lambda place, piece: place == 1)
    assert [one.stop for one in some] == ["cancelled", "length", "cancelled"]
    assert some[1] == write(generator, [1])[0]
