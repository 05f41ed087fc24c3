"""Lengths of rows: figures, and a drawing that is the same bytes for the same figures."""

from __future__ import annotations

from dataset_fakes import count_words

from ragtune.datasets.lengths import count_lengths, draw_lengths, render_lengths
from ragtune.records import Example


def test_prompt_and_completion_count_together() -> None:
    example = Example(({"role": "system", "content": "a b"}, {"role": "user", "content": "c d e"}), "f g")
    assert count_lengths([example], count_words) == [7]


def test_figures_name_most_least_and_shares() -> None:
    assert render_lengths({"train": list(range(1, 101)), "test": []}, "tokens") == [
        "- train: 1 to 100 tokens a row; 50% up to 51, 90% up to 91, 99% up to 100"]


def test_drawing_is_a_png_the_same_for_the_same_figures() -> None:
    lengths = {"train": [5, 9, 9, 400], "test": [7]}
    first = draw_lengths(lengths, 300)
    assert first.startswith(b"\x89PNG")
    assert first == draw_lengths(lengths, 300)
    assert first != draw_lengths(lengths, 100)
    assert draw_lengths({"train": [7], "test": []}, 300).startswith(b"\x89PNG")
    assert draw_lengths({"train": [], "test": []}, 300) == b""
