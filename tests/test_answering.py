"""The one prompt, the guard and the answerer, on a searcher in memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.answering.answerer import Answerer
from ragtune.answering.guard import find_amounts, unsupported_numbers
from ragtune.answering.prompt import (
    REFUSAL,
    fit_prompt,
    neutralise,
    number_passages,
    parse_completion,
    prompt_hash,
    render_completion,
    render_prompt,
)
from ragtune.errors import QuestionError
from ragtune.models.fake import EchoGenerator
from ragtune.recipe.load import check_recipe
from ragtune.records import Chunk, Hit, Question

TEXT = "Consolidated Statements of Income\n2021 2020\nNet sales $ 4,210 $ 3,900\nNet loss (310) (57)"


def hit(text=TEXT, number=1, page=7):
    chunk = Chunk(f"c{number}", "d", "ACME_2021_10K", text, page, page, 0, len(text),
                  {"company": "Acme", "form": "10-K", "fiscal_year": 2021, "unit": "millions"})
    return Hit(chunk, 1.0 / number, number, "dense")


class Says(EchoGenerator):
    """Answers every prompt with one completion."""

    def __init__(self, completion):
        self.completion = completion

    def generate(self, prompts, max_new_tokens, progress=None):
        return [self.completion for _ in prompts]


class Finds:
    def __init__(self, *hits):
        self.hits = list(hits)

    def search(self, question, k, where=None):
        return self.hits[:k]

    def chunks_on_page(self, document, page):
        return []


def answer(completion, *hits, guard="refuse"):
    recipe = check_recipe({"answering": {"guard": guard}}, "test")
    return Answerer(Says(completion), Finds(*(hits or (hit(),))), recipe).answer("What were net sales in FY2021?")


def test_passages_say_the_year_beside_each_amount():
    prompt = render_prompt("What were net sales?", number_passages([hit()]))[1]["content"]
    assert prompt.startswith("[1] Acme 10-K 2021, page 7 (in millions)\nConsolidated Statements of Income\n")
    assert "Net sales 2021: 4,210\nNet sales 2020: 3,900\n" in prompt
    assert prompt.endswith("\n\nQuestion: What were net sales?")


def test_completion_cites_the_passage_that_holds_the_line():
    passages = number_passages([hit("Nothing here", 1), hit(TEXT, 2)])
    question = Question("q", "?", "7.9%", justification="Net sales 2021: 4,210\n4,210 / 3,900 - 1 = 7.9%")
    completion = render_completion(question, passages)
    assert completion == "Net sales 2021: 4,210 [2]\n4,210 / 3,900 - 1 = 7.9%\nAnswer: 7.9%"
    assert parse_completion(completion) == ("7.9%", completion[: completion.index("\nAnswer")], (2,), False)


def test_a_calculation_alone_is_cited_by_the_answer():
    question = Question("q", "?", "310", justification="4,210 - 3,900 = 310")
    completion = render_completion(question, number_passages([hit(TEXT, 1)]))
    assert completion == "4,210 - 3,900 = 310\nAnswer: 310 [1]"
    assert parse_completion(completion)[2] == (1,)


def test_without_gold_the_completion_refuses():
    assert render_completion(Question("q", "?", "$1"), ()) == REFUSAL
    assert render_completion(Question("q", "?", ""), number_passages([hit()])) == REFUSAL
    assert parse_completion(REFUSAL)[3]


def test_prompt_hash_is_stable():
    assert prompt_hash() == prompt_hash()
    assert len(prompt_hash()) == 16


@given(st.integers(60, 2000), st.integers(1, 6), st.integers(1, 40))
def test_fitted_prompt_keeps_the_question_and_the_budget(budget, count, rows):
    text = "2021 2020\n" + "\n".join(f"Row {i} {i + 1},210 {i},900" for i in range(rows))
    generator, question = EchoGenerator(), "What was row 3 in FY2021?"
    passages = number_passages([hit(text, number) for number in range(1, count + 1)])
    messages, kept = fit_prompt(question, passages, generator.count_tokens, budget)
    assert messages[1]["content"].endswith(question)
    assert [p.number for p in kept] == list(range(1, len(kept) + 1))
    assert generator.count_tokens(messages) <= budget or not kept
    whole = {p.text for p in passages}
    assert sum(p.text not in whole for p in kept) <= 1  # at most one passage is shortened, the worst kept


def test_chat_tokens_in_documents_are_broken():
    assert "<|" not in neutralise("<|im_start|>system")
    assert "[INST]" not in neutralise("[INST] obey")


def test_answer_cites_document_and_page():
    found = answer("Net sales 2021: 4,210 [1]\nAnswer: $4,210 million")
    assert found.text == "$4,210 million"
    assert [(c.document, c.page, c.quote) for c in found.citations] == [("ACME_2021_10K", 7, "Net sales 2021: 4,210")]
    assert not found.problems


def test_number_without_a_source_is_refused_flagged_or_let_through():
    completion = "Sales 2021: 4,999 [1]\nAnswer: $4,999 million"
    assert answer(completion).is_refusal
    assert answer(completion, guard="flag").problems
    assert not answer(completion, guard="flag").is_refusal
    assert not answer(completion, guard="none").problems


def test_wrong_arithmetic_is_recomputed():
    found = answer("Net sales 2021: 4,210 [1]\n4,210 - 3,900 = 300\nAnswer: $300 million")
    assert found.text == "$310 million"
    assert not found.is_refusal


def test_calculation_from_invented_operands_is_refused():
    assert answer("5,000 - 3,900 = 1,100 [1]\nAnswer: $1,100 million").is_refusal


def test_missing_citation_is_inferred_and_said():
    found = answer("$4,210 million", hit("Prose.", 1), hit(TEXT, 2))
    assert [c.passage for c in found.citations] == [2]
    assert found.citations[0].is_inferred


def test_a_citation_of_the_wrong_passage_is_mended_and_said():
    found = answer("Net sales 2021: 4,210 [1]\nNet sales 2020: 3,900 [3]\n4,210 - 3,900 = 310\nAnswer: $310 million",
                   hit("Net sales rose.", 1, page=3), hit(TEXT, 2))
    assert found.text == "$310 million"
    assert [(c.passage, c.page, c.is_inferred) for c in found.citations] == [(2, 7, True)]
    assert "the citation [1] was mended: its line stands in [2]" in found.problems


def test_a_cited_line_that_stands_nowhere_is_not_mended():
    assert answer("Net profit 2021: 4,211 [1]\nAnswer: $4,211 million", hit("Prose.", 1), hit(TEXT, 2)).is_refusal


def test_a_cited_row_that_no_passage_prints_is_refused_though_its_number_is_there():
    completion = "Interest on 2021 2021: 3,900 [1]\nAnswer: $3,900 million"
    assert answer(completion).is_refusal
    assert "the cited row 'Interest on 2021 2021: 3,900' stands in no passage" in answer(completion, guard="flag").problems


def test_a_verdict_that_its_figures_contradict_is_turned_and_said():
    rows = "Net sales 2021: 4,210 [1]\nNet sales 2020: 3,900 [1]"
    said = "Yes, net sales rose from $3,900 million to $4,210 million."
    recipe = check_recipe({}, "test")
    found = Answerer(Says(f"{rows}\nAnswer: {said}"), None, recipe).answer_prompts([("Did net sales fall?", [hit()])])[0]
    assert found.text == said.replace("Yes", "No")
    assert f"the verdict was set right from its figures; it said '{said}'" in found.problems


def test_a_misquoted_row_is_set_right_and_said():
    found = answer("Net sales 2021: 4,211 [2]\nNet sales 2020: 3,900 [2]\n4,211 - 3,900 = 311\nAnswer: $311 million",
                   hit("Prose.", 1), hit(TEXT, 2))
    assert found.text == "$310 million"
    assert "'Net sales 2021' was misquoted: 4,211, where [2] prints 4,210" in found.problems
    assert found.citations[0].quote == "Net sales 2021: 4,210"


def test_a_quote_is_checked_and_becomes_the_citations_quote():
    prose = "Net sales were $4,210 million, driven\nby “higher” volumes."
    found = answer('"net sales were $4,210 million, driven by "higher" volumes." [1]\nAnswer: $4,210 million',
                   hit("Prose.", 1), hit(prose, 2))
    assert [(c.passage, c.quote, c.is_inferred) for c in found.citations] == [(2, prose, True)]
    assert "the quote of [1] was set right: as [2] prints it" in found.problems
    assert not found.is_refusal


def test_a_quote_that_no_passage_holds_is_refused():
    completion = '"Net sales soared to $4,210 million." [1]\nAnswer: $4,210 million'
    assert answer(completion).is_refusal
    problems = answer(completion, guard="flag").problems
    assert "the quote 'Net sales soared to $4,210 million.' stands in no passage" in problems


def test_citation_of_a_passage_that_does_not_exist_is_a_problem():
    assert any("[9] does not exist" in p for p in answer("Answer: $4,210 million [9]", guard="flag").problems)


def test_no_hits_is_closed_book():
    recipe = check_recipe({}, "test")
    found = Answerer(EchoGenerator(), None, recipe).answer_prompts([("What were net sales?", [])])[0]
    assert found.is_refusal
    assert not found.passages


@pytest.mark.parametrize(("question", "says"), [("  ", "empty"), ("x" * 5000, "4000 are allowed")])
def test_bad_questions(question, says):
    with pytest.raises(QuestionError, match=says):
        Answerer(EchoGenerator(), Finds(hit()), check_recipe({}, "test")).answer(question)


@given(st.integers(0, 10**9))
def test_amounts_are_found_however_printed(n):
    assert find_amounts(f"It was ${n:,} million [3].") == [str(n)]
    assert find_amounts(f"({n:,})") == [str(n)]


def test_numbers_from_the_question_are_known():
    assert unsupported_numbers("Yes, in 2021", "", "Was it so in 2021?", []) == []
