"""Quoted evidence: sentences as the page has them, one that holds the answer, each checked against what is shown."""

from __future__ import annotations

import re
from typing import Any

import pytest
from dataset_fakes import ACME, PROSE, ZENITH, MemorySearcher, count_words, make_document
from hypothesis import given
from hypothesis import strategies as st

from ragtune.answering.answerer import Answerer
from ragtune.answering.prompt import REFUSAL, parse_completion
from ragtune.datasets.card import count_rows
from ragtune.datasets.folded import split_prompt
from ragtune.datasets.instruct import BuildResult, build_examples
from ragtune.datasets.quotes import check_quotes, choose_quotes, split_units
from ragtune.errors import RunError
from ragtune.models.fake import EchoGenerator
from ragtune.recipe.load import check_recipe
from ragtune.recipe.schema import Dataset, Generator, Retrieval
from ragtune.records import Evidence, Passage, Question

A = "ACME_2021_10K"
DRIVEN = "The increase was driven by higher volumes and by prices."
CHOOSE = "Competition is strong in all of our markets, and customers\nchoose on quality, price and service."
WHY = Question("why", "What drove Acme's sales in 2021?", "Higher volumes and prices.", (Evidence(A, 1, DRIVEN),))
SALES = Question("sales", "What were Acme's net sales in 2021?", "$4,210 million",
                 (Evidence(A, 2, "Net sales $ 4,210 $ 3,900"),), "lookup", "Net sales 2021: 4,210")


def build(question: Question, *documents: Any, lines_each: int = 6, **fields: Any) -> BuildResult:
    section = {"quotes": True, "gold_share": 1.0, "closed_book_share": 0.0, "rows_per_question": 4}
    new, extra = fields.pop("max_new_tokens", 96), {key: fields.pop(key) for key in ("is_served",) if key in fields}
    return build_examples([question], MemorySearcher(*(documents or (ACME, ZENITH)), lines_each=lines_each), count_words,
                          Dataset.model_validate(section | fields), Retrieval(), Generator(max_new_tokens=new), **extra)


def passages(*texts: str) -> list[Passage]:
    return [Passage(n, text, f"c{n}", A, n, 0, 1, title="Acme") for n, text in enumerate(texts, 1)]


def test_sentences_and_rows_are_cut_where_they_end() -> None:
    assert split_units(PROSE)[:5] == [
        "Item 7. Discussion", "Net sales increased 7.9% to $4,210 million in fiscal 2021.", DRIVEN,
        "We are a maker of pumps with plants in three states.", CHOOSE]
    assert split_units("Sales of Acme Inc. rose in the U.S. by 7.9%. Costs fell.\n\nNext year") == [
        "Sales of Acme Inc. rose in the U.S. by 7.9%.", "Costs fell.", "Next year"]
    assert split_units("We sold more:\nNet sales 4,210 3,900\nCapex 2021: 12\nThat is all.") == [
        "We sold more:", "Net sales 4,210 3,900", "Capex 2021: 12", "That is all."]


@given(st.text(alphabet="aA. \n!?\"”1,", max_size=200))
def test_units_are_pieces_of_the_text_and_nothing_is_lost(text: str) -> None:
    units = split_units(text)
    place = 0
    for unit in units:
        assert unit == unit.strip() != ""
        place = text.index(unit, place) + len(unit)
    assert "".join("".join(units).split()) == "".join(text.split())


@pytest.mark.parametrize(("asked", "answer", "chosen"), [
    ("What drove the increase?", "Higher volumes and prices", (DRIVEN,)),
    ("What did net sales come to in fiscal 2021?", "$4.21 billion",
     ("Net sales increased 7.9% to $4,210 million in fiscal 2021.",)),
    ("On what do customers choose?", "Quality, price and service.", (CHOOSE,)),
    ("What helped Acme?", "Volumes, prices and its plants in three states",
     (DRIVEN, "We are a maker of pumps with plants in three states.")),
    ("What did steel cost?", "Nine dollars a ton", ()),
    ("Is Acme profitable?", "Yes", ()),
])
def test_the_sentence_that_holds_the_answer_is_chosen(asked: str, answer: str, chosen: tuple[str, ...]) -> None:
    assert choose_quotes(Question("q", asked, answer), split_units(PROSE)) == chosen


def test_what_would_be_read_as_a_citation_or_calculation_is_not_quoted() -> None:
    for text in ("Prices rose by 5% [3] in all.", "Prices rose: 10 - 5 = 5% more.", 'He said "5%" [1] of it.', "5%\n\nmore"):
        assert choose_quotes(Question("q", "By how much did prices rise?", "5%"), [text]) == ()


def test_quoted_evidence_stands_before_the_answer_with_its_passage() -> None:
    examples = build(WHY).examples
    assert examples
    for example in examples:
        number = example.provenance["passages"].index(f"{A}:1:0") + 1
        assert example.completion == f'"{DRIVEN}" [{number}]\nAnswer: Higher volumes and prices. [{number}]'
        assert example.provenance["quotes"] == ["as printed"]
    assert count_rows(examples)["quotes"] == {"as printed": len(examples)}


def test_rows_that_are_restated_get_nothing_more_and_the_option_is_off_by_default() -> None:
    with_quotes, without = build(SALES).examples, build(SALES, quotes=False).examples
    assert [e.completion for e in with_quotes] == [e.completion for e in without]
    assert {tuple(e.provenance["quotes"]) for e in with_quotes} == {("rows restated",)}
    for example in build(WHY, quotes=False).examples:
        assert example.completion.startswith("Answer:")
        assert "quotes" not in example.provenance
    assert Dataset().quotes is False


def test_a_row_without_a_justification_is_cited_as_the_passage_restates_it() -> None:
    bare = Question("bare", SALES.text, SALES.answer, SALES.evidence)
    for page_only in (bare, Question("page", SALES.text, SALES.answer, (Evidence(A, 2),))):
        for example in build(page_only).examples:
            number = example.provenance["passages"].index(f"{A}:2:0") + 1
            assert example.completion == f"Net sales 2021: 4,210 [{number}]\nAnswer: $4,210 million [{number}]"


def test_a_quote_that_differs_in_space_and_marks_is_replaced_by_the_passages_own() -> None:
    said = CHOOSE.replace("\n", "  ").replace("Competition", "COMPETITION")
    question = Question("q", "On what do customers choose?", "Quality, price and service.", (Evidence(A, 1, said),))
    examples = build(question, lines_each=30).examples
    assert examples
    for example in examples:
        assert example.completion.startswith(f'"{CHOOSE}" [')
        assert example.provenance["quotes"] == ["repaired"]


def test_a_quote_of_another_passage_gets_its_number_and_one_of_none_drops_the_row() -> None:
    shown = passages("Prices – of “steel” – rose.", "Our people are our strength.")
    for said, found in (
        ('"Prices – of “steel” – rose." [1]', ("as printed", '"Prices – of “steel” – rose." [1]')),
        ('"Prices - of "steel" - rose." [1]', ("repaired", '"Prices – of “steel” – rose." [1]')),
        ('"Our people are our strength." [1]', ("cited to another passage", '"Our people are our strength." [2]')),
        ('"Our people  are our STRENGTH." [7]', ("cited to another passage", '"Our people are our strength." [2]')),
    ):
        assert check_quotes(f"{said}\nAnswer: x", shown) == (f"{found[1]}\nAnswer: x", (found[0],))
    for said in ("Our people are our weakness.", "ur people are", "Our people are our strength, and"):
        assert check_quotes(f'"{said}" [2]\nAnswer: x', shown) is None
    unquoted = "Net sales 2021: 4,210 [1]\nAnswer: 4,210"
    assert check_quotes(unquoted, shown) == (unquoted, ())


def test_a_justification_that_quotes_what_is_not_there_drops_the_row_and_counts_it() -> None:
    wrong = Question("w", WHY.text, WHY.answer, WHY.evidence, "why", '"It was driven by luck."')
    for quotes in (True, False):
        with pytest.raises(RunError, match="4 because a quote stands in no shown passage"):
            build(wrong, quotes=quotes)
    right = Question("r", WHY.text, WHY.answer, WHY.evidence, "why", f'"{DRIVEN}"')
    for example in build(right).examples:
        assert example.completion.count(DRIVEN) == 1
    assert build(wrong, max_dropped_share=1).dropped == {"a quote stands in no shown passage": 4}


def test_of_evidence_in_several_chunks_the_one_with_the_sentence_is_shown() -> None:
    page = "\n".join(f"Plant {word} makes pumps of many sorts and sells them to the whole of its own region." for word in
                     "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu".split()) + f"\n{DRIVEN}"
    document = make_document(A, page, company="Acme", fiscal_year=2021)
    question = Question("q", "What drove plant sales of pumps?", "Higher volumes and prices", (Evidence(A, 1, page),))
    for example in build(question, document, ZENITH, lines_each=3).examples:
        number = example.provenance["passages"].index(f"{A}:1:12") + 1
        assert example.completion.startswith(f'"{DRIVEN}" [{number}]')
        assert example.provenance["gold"] == [f"{A}:1:12"]
    unquoted = build(question, document, ZENITH, lines_each=3, quotes=False).examples
    assert {chunk for e in unquoted for chunk in e.provenance["gold"]} != {f"{A}:1:12"}


def test_a_sentence_over_the_end_of_a_chunk_is_quoted_as_far_as_it_holds_the_answer() -> None:
    lines = ["Acme sells pumps in many places of the world and has done so for a long time,",
             "and in fiscal 2021 the company spent $77 million on new plants in three",
             "states of the west, which are to make pumps that last for longer than those of its rivals do."]
    document = make_document(A, "\n".join(lines), company="Acme", fiscal_year=2021)
    evidence = (Evidence(A, 1, "\n".join(lines)),)
    question = Question("q", "What did Acme spend on plants in fiscal 2021?", "$77 million", evidence)
    for each, quote in ((3, "\n".join(lines)), (2, "\n".join(lines[:2])), (1, lines[1])):
        examples = build(question, document, ZENITH, lines_each=each).examples
        assert examples
        assert all(example.completion.startswith(f'"{quote}" [') for example in examples)


def test_quotes_longer_than_the_generator_says_are_left_out_and_counted() -> None:
    for example in build(WHY, max_new_tokens=14).examples:
        assert example.completion.startswith("Answer:")
        assert example.provenance["quotes"] == ["over generator.max_new_tokens"]
    verdict = Question("q", "Is Acme good?", "Yes, it is", (Evidence(A, 1, DRIVEN),))
    assert {tuple(e.provenance["quotes"]) for e in build(verdict).examples} == {("no sentence holds the answer",)}


def test_every_row_is_read_again_without_a_problem_when_answering() -> None:
    """What is learned must pass the guard that reads it later: quotes, citations, numbers."""

    class Says(EchoGenerator):
        def generate(self, prompts: Any, max_new_tokens: int, progress: Any = None) -> list[str]:
            return [example.completion]

    recipe = check_recipe({"generator": {"model": "echo"}, "retrieval": {"k": 3}}, "test")
    for question in (WHY, SALES, Question("bare", SALES.text, SALES.answer, SALES.evidence)):
        searcher = MemorySearcher(ACME, ZENITH)
        for example in build(question).examples:
            found = {hit.chunk.id: hit for hit in searcher.search("", 99)}
            hits = [found[chunk] for chunk in example.provenance["passages"]]
            answer = Answerer(Says(), None, recipe).answer_prompts([(question.text, hits)])[0]
            assert answer.problems == ()
            assert answer.text == question.answer
            assert [citation.chunk_id for citation in answer.citations] == list(example.provenance["gold"])
            if question is WHY:
                assert answer.citations[0].quote == DRIVEN


@given(st.integers(0, 50), st.integers(1, 12), st.integers(0, 4))
def test_every_quote_of_every_row_is_a_piece_of_its_passage_the_same_again(seed: int, lines: int, distractors: int) -> None:
    fields = {"seed": seed, "distractors": distractors, "lines_each": lines, "max_dropped_share": 1.0}
    page_only = Question("c", "On what do customers choose?", "Quality, price and service", (Evidence(A, 1),))
    for question in (WHY, SALES, page_only):
        built = build(question, **fields)
        assert built == build(question, **fields)
        for example in (*built.examples, *build(question, is_served=True, **fields).examples):
            shown = {number: text for number, _, text in split_prompt(example.prompt[-1]["content"])[0]}
            _, reasoning, numbers, is_refusal = parse_completion(example.completion)
            assert is_refusal == (example.completion == REFUSAL)
            assert set(numbers) <= set(shown)
            quotes = re.findall(r'"(.*?)" \[(\d+)\]', reasoning, re.DOTALL)
            assert len(quotes) == reasoning.count('"') / 2
            assert all(quote in shown[int(number)] for quote, number in quotes)
