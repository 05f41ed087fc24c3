"""Rows folded for a person: what was rendered is split again, whatever the passages hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.answering.prompt import render_prompt
from ragtune.datasets.folded import choose_rows, fold_row, split_prompt
from ragtune.errors import QuestionError
from ragtune.records import Example, Passage

LINE = st.text(st.characters(codec="ascii", exclude_characters="\n\r", categories=("L", "N", "P", "Zs")), min_size=1,
               max_size=30).filter(lambda line: line.strip())


def passage(number: int, title: str, text: str) -> Passage:
    return Passage(number, text, f"c{number}", "ACME_2021_10K", 4, 0, len(text), title)


def example(kind: str = "lookup", mode: str = "gold", name: str = "q", **more: object) -> Example:
    prompt = render_prompt("What were net sales?", [passage(1, "ACME, page 2", "In millions\nNet sales [7] 4"),
                                                    passage(2, "ACME, page 9", "\nProse.")], names_rows=False)
    provenance = {"question_id": name, "kind": kind, "mode": mode, "passages": ["c1", "c2"], "ranks": [3, None],
                  "gold": ["c1"]}
    return Example(prompt, "Net sales 2021: 4 [1]\nAnswer: 4", {**provenance, **more})


@given(st.lists(st.tuples(LINE, st.lists(LINE, min_size=1, max_size=4)), max_size=4), LINE)
def test_what_was_rendered_is_split_again(parts: list[tuple[str, list[str]]], question: str) -> None:
    passages = [passage(number, title, "\n".join(lines)) for number, (title, lines) in enumerate(parts, start=1)]
    content = render_prompt(question, passages, names_rows=False)[-1]["content"]
    assert split_prompt(content) == ([(p.number, p.title, p.text) for p in passages], question.strip())


def test_row_is_folded_to_titles_first_lines_and_gold() -> None:
    row = fold_row(example(groups=["Acme"]))
    assert (row.question, row.question_id, row.kind, row.mode) == ("What were net sales?", "q", "lookup", "gold")
    assert [(p.number, p.title, p.first_line, p.lines, p.chunk_id, p.is_gold, p.rank) for p in row.passages] == [
        (1, "ACME, page 2", "In millions", 2, "c1", True, 3), (2, "ACME, page 9", "Prose.", 2, "c2", False, None)]
    assert row.completion.endswith("Answer: 4")
    assert row.provenance == {"groups": ["Acme"]}


def test_rows_of_other_forms_are_shown_whole() -> None:
    row = fold_row(Example(({"role": "user", "content": "Say [1] hello\n\nnow"},), "Hello"))
    assert row.question == "Say [1] hello\n\nnow"
    assert row.passages == ()


def test_rows_are_spread_over_the_file_and_chosen_by_kind_and_mode() -> None:
    rows = [example("lookup" if n % 2 else "growth", "gold" if n < 6 else "distractors", f"q{n}") for n in range(10)]

    def names(*chosen: object) -> list[str]:
        return [row.provenance["question_id"] for row in choose_rows(rows, *chosen)]  # type: ignore[arg-type]

    assert names(5) == ["q0", "q2", "q4", "q6", "q8"]
    assert names(2, "lookup") == ["q1", "q5"]
    assert names(99, "lookup", "distractors") == ["q7", "q9"]
    with pytest.raises(QuestionError, match="kind 'lokup'. There are: growth, lookup. Did you mean 'lookup'"):
        names(1, "lokup")
    with pytest.raises(QuestionError, match="mode 'served'. There are: distractors, gold"):
        names(1, None, "served")
    assert choose_rows([], 3) == []
