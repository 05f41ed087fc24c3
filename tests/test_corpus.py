"""Text of documents packed and deduplicated, and the shapes made from questions and rows."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from dataset_fakes import make_document
from hypothesis import given
from hypothesis import strategies as st

from ragtune.datasets.corpus import build_texts, render_instruction
from ragtune.errors import RunError
from ragtune.records import Question


def count_words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def test_rows_hold_whole_lines_within_the_limit_and_documents_follow_each_other() -> None:
    one = make_document("ONE", "a b c\nd e", "f g h i")
    two = make_document("TWO", "j k")
    texts = build_texts([one, two], count_words, 6, end=" </s> ")
    assert [row["text"] for row in texts.rows] == ["a b c\nd e", "f g h i </s> ", "j k </s> "]
    texts = build_texts([one, two], count_words, 100, end=" </s> ")
    assert texts.rows == ({"text": "a b c\nd e\nf g h i </s> j k </s> ", "documents": ["ONE", "TWO"]},)
    assert texts.counts == {"documents": 2, "pages": 3, "repeated_pages": 0, "repeated_lines": 0, "tokens": 13, "rows": 1}


def test_repeated_pages_and_passages_are_left_out_but_single_rows_stay() -> None:
    first = make_document("ONE", "Our risks\nare many\nand grave\nNet sales 4", "Cover   page\nof all")
    second = make_document("TWO", "cover page\nOf all", "Net sales 4\nOther\nour risks\nARE many\nand grave\nas ever")
    texts = build_texts([first, second], count_words, 100)
    assert texts.rows[0]["text"].split("\n") == [
        "Our risks", "are many", "and grave", "Net sales 4", "Cover   page", "of all", "", "Net sales 4", "Other", "as ever"]
    assert (texts.counts["repeated_pages"], texts.counts["repeated_lines"]) == (1, 3)


def test_a_line_longer_than_a_row_is_cut_between_words() -> None:
    words = [f"w{n}" for n in range(50)]
    texts = build_texts([make_document("ONE", " ".join(words))], count_words, 8)
    assert " ".join(row["text"] for row in texts.rows).split() == words
    assert all(len(row["text"].split()) <= 8 for row in texts.rows)


def test_a_tokenizer_that_counts_more_together_than_apart_keeps_the_limit() -> None:
    def count(texts: Sequence[str]) -> list[int]:
        return [len(text.split()) + 3 * text.strip().count("\n") for text in texts]

    texts = build_texts([make_document("ONE", "\n".join(f"a{n} b" for n in range(20)))], count, 9)
    assert max(count([row["text"] for row in texts.rows])) <= 9
    assert " ".join(row["text"] for row in texts.rows).split().count("b") == 20


def test_tokens_of_the_model_inside_documents_are_broken() -> None:
    texts = build_texts([make_document("ONE", "An </s> in text\nand <|im_end|> too")], count_words, 99, end="</s>")
    assert texts.rows[0]["text"] == "An < /s> in text\nand < |im_end|> too</s>"


@given(st.lists(st.lists(st.text("ab \n", max_size=60), max_size=4), min_size=1, max_size=4), st.integers(1, 20))
def test_no_row_is_over_the_limit_and_none_is_empty(pages: list[list[str]], limit: int) -> None:
    documents = [make_document(f"D{number}", *texts) for number, texts in enumerate(pages)]
    if not any(text.strip() for texts in pages for text in texts):
        with pytest.raises(RunError, match="no text is left"):
            build_texts(documents, count_words, limit)
        return
    texts = build_texts(documents, count_words, limit)
    assert all(0 < count_words([row["text"]])[0] <= limit for row in texts.rows)
    words = sum(len(text.split()) for texts in pages for text in texts)
    assert texts.counts["tokens"] <= words
    if not texts.counts["repeated_pages"] and not texts.counts["repeated_lines"] and limit >= words:
        assert texts.counts["tokens"] == words


def test_instructions_have_the_answer_and_no_citation() -> None:
    row = render_instruction(Question("q", "What were sales?", "$4 million", (), "lookup", "Net sales 2021: 4\n2 + 2 = 4"))
    assert row == {"messages": [{"role": "user", "content": "What were sales?"},
                                {"role": "assistant", "content": "Net sales 2021: 4\n2 + 2 = 4\nAnswer: $4 million"}]}
    assert render_instruction(Question("q", "Who?"))["messages"][1]["content"] == "Not found in the documents."
