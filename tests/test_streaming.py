"""Completions piece by piece: together they are the whole, whatever the engine, the batch, the adapter and the alphabet."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import make_adapter, make_tiny_model

from ragtune.errors import ModelError
from ragtune.models.language import open_generator
from ragtune.models.streaming import Pieces, Streamer, Wish
from ragtune.recipe.schema import Generator
from ragtune.records import Message
from ragtune.seams import Sampling

PROMPTS = [[Message(role="user", content=text)] for text in ("Net sales?", "What were net sales in 2021, and costs?", "x")]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("m") / "tiny")


@pytest.fixture(scope="module")
def adapter(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(tmp_path_factory.mktemp("a") / "adapter", model)


@pytest.mark.parametrize("engine", ["transformers", "ctranslate2"])
def test_pieces_are_the_whole_with_and_without_adapter(model: Path, adapter: Path, engine: str) -> None:
    if engine == "ctranslate2":
        pytest.importorskip("ctranslate2")
    generator = open_generator(Generator(model=str(model), engine=engine, device="cpu"))  # type: ignore[arg-type]
    assert isinstance(generator, Streamer)
    for chosen in (None, adapter):
        pieces: dict[int, str] = defaultdict(str)

        def say(place: int, piece: str) -> bool:
            pieces[place] += piece  # noqa: B023
            return True

        limits = (7, 12, 1)
        written = generator.stream([Wish(p, n, adapter=chosen) for p, n in zip(PROMPTS, limits)], say)
        with generator.with_adapter(chosen):  # type: ignore[attr-defined]
            alone = [generator.generate([prompt], limit)[0] for prompt, limit in zip(PROMPTS, limits)]  # type: ignore[attr-defined]
        assert [one.text for one in written] == alone == [pieces[place] for place in range(3)]
        assert [one.prompt_tokens for one in written] == [generator.count_tokens(prompt) for prompt in PROMPTS]
        assert all(one.stop == "stop" or one.tokens == limit for one, limit in zip(written, limits))


@pytest.mark.parametrize("engine", ["transformers", "ctranslate2"])
def test_who_has_heard_enough_ends_alone(model: Path, engine: str) -> None:
    if engine == "ctranslate2":
        pytest.importorskip("ctranslate2")
    generator = open_generator(Generator(model=str(model), engine=engine, device="cpu"))  # type: ignore[arg-type]
    assert isinstance(generator, Streamer)
    heard: list[str] = []

    def say(place: int, piece: str) -> bool:
        heard.extend([piece] * (place == 1))
        return place != 1 or len(heard) < 2

    written = generator.stream([Wish(prompt, 12) for prompt in PROMPTS], say)
    assert written[1].stop == "cancelled"
    assert written[1].tokens < 12
    assert {written[place].stop for place in (0, 2)} <= {"stop", "length"}


def test_a_prompt_that_nobody_waits_for_is_not_read(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ctranslate2")
    generator: Any = open_generator(Generator(model=str(model), engine="ctranslate2", device="cpu"))
    read: list[list[int]] = []
    speak = generator._speak
    monkeypatch.setattr(generator, "_speak", lambda places, *rest: (read.append(list(places)), speak(places, *rest)))
    written = generator.stream([Wish(prompt, 3) for prompt in PROMPTS], lambda place, piece: place == 2)
    assert read == [[2]]
    assert [one.stop for one in written][:2] == ["cancelled", "cancelled"]
    assert not any(one.tokens for one in written[:2])
    generator.stream([Wish(prompt, 3) for prompt in PROMPTS], lambda place, piece: False)
    assert read == [[2]]


def test_a_seed_draws_the_same_again_and_too_long_is_refused(model: Path) -> None:
    generator = open_generator(Generator(model=str(model), device="cpu"))
    assert isinstance(generator, Streamer)
    texts = [[one.text for one in generator.stream([Wish(p, 9, Sampling(temperature=1.0, seed=seed)) for p in PROMPTS],
                                                   lambda place, piece: True)] for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    with pytest.raises(ModelError, match="which reads 2048"):
        generator.stream([Wish(PROMPTS[0], 5000)], lambda place, piece: True)


@given(st.text(max_size=40), st.integers(1, 5))
def test_no_piece_ends_within_a_character(text: str, width: int) -> None:
    """Tokens of a byte-level model: some are parts of one character."""
    data = text.encode()
    tokens = [data[i : i + width] for i in range(0, len(data), width)]
    pieces = Pieces(lambda ids: b"".join(tokens[i] for i in ids).decode(errors="replace").strip())
    said = [pieces.add(place) for place in range(len(tokens))] + [pieces.finish()]
    assert "".join(said) == text.strip() or "�" in text or not text.isprintable()
    assert all("�" not in piece for piece in said) or "�" in text
