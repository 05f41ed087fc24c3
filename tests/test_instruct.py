"""Tuning rows: gold among distractors, refusals without it, within the budget, the same again under a seed."""

from __future__ import annotations

from typing import Any

import pytest
from dataset_fakes import ACME, ZENITH, MemorySearcher, count_words, make_document
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ragtune.answering.prompt import REFUSAL, render_prompt
from ragtune.datasets.folder import render_row
from ragtune.datasets.instruct import BuildResult, build_examples
from ragtune.errors import RunError
from ragtune.recipe.schema import Dataset, Generator, Retrieval
from ragtune.records import Evidence, Question

A = "ACME_2021_10K"
SALES = Question("sales", "What were Acme's net sales in 2021?", "$4,210 million",
                 (Evidence(A, 2, "Net sales $ 4,210 $ 3,900"),), "lookup", "Net sales 2021: 4,210")
CAPEX = Question("capex", "What was the capex of Acme in 2021?", "$189 million",
                 (Evidence(A, 3, "Purchases of property, plant and equipment (189) (203)"),), "lookup",
                 "Purchases of property, plant and equipment 2021: (189)")
RATIO = Question(
    "ratio", "Acme capex divided by net sales in 2021?", "4.5%",
    (*CAPEX.evidence, *SALES.evidence), "ratio", f"{CAPEX.justification}\n{SALES.justification}\n189 / 4,210 = 4.5%")
NOTHING = Question("nothing", "What was Acme's royalty income in 2021?", kind="unanswerable")


def build(questions: list[Question], searcher: Any = None, **fields: Any) -> BuildResult:
    section = {"gold_share": 1.0, "closed_book_share": 0.0, "distractors": 2, "rows_per_question": 4}
    names = ("is_served", "excluded", "groups", "progress", "any_chunk", "context_tokens")
    extra = {key: fields.pop(key) for key in names if key in fields}
    budget, k, new = fields.pop("max_prompt_tokens", 1100), fields.pop("k", 3), fields.pop("max_new_tokens", 96)
    return build_examples(questions, searcher or MemorySearcher(ACME, ZENITH), count_words,
                          Dataset.model_validate(section | fields), Retrieval(k=k),
                          Generator(max_prompt_tokens=budget, max_new_tokens=new), **extra)


def test_gold_row_answers_with_a_citation_of_the_gold_passage() -> None:
    for example in build([SALES]).examples:
        trace = example.provenance
        position = trace["passages"].index(trace["gold"][0]) + 1
        assert example.completion == f"Net sales 2021: 4,210 [{position}]\nAnswer: $4,210 million"
        assert trace["gold"] == [f"{A}:2:0"]
        assert len(trace["passages"]) == 3
        shown = example.prompt[-1]["content"]
        assert f"[{position}] Acme 10-K 2021, page 2" in shown
        assert shown.endswith("Question: What were Acme's net sales in 2021?")


def test_no_distractor_holds_the_answer() -> None:
    for example in build([SALES, CAPEX], rows_per_question=8, distractors=4).examples:
        number = "4,210" if example.provenance["question_id"] == "sales" else "189"
        assert example.prompt[-1]["content"].count(number) == 1


def test_gold_stands_at_every_position_and_rows_differ() -> None:
    examples = build([SALES], rows_per_question=20).examples
    positions = {example.provenance["passages"].index(f"{A}:2:0") for example in examples}
    assert positions == {0, 1, 2}
    assert len({example.prompt[-1]["content"] for example in examples}) == len(examples) > 10


def test_without_gold_the_completion_is_the_refusal() -> None:
    examples = build([SALES], gold_share=0.0).examples
    assert examples
    for example in examples:
        assert example.completion == REFUSAL
        assert example.provenance["mode"] == "distractors"
        assert example.provenance["gold"] == []
        assert "4,210" not in example.prompt[-1]["content"]


def test_unanswerable_question_is_refused_with_passages() -> None:
    for example in build([NOTHING]).examples:
        assert example.completion == REFUSAL
        assert len(example.provenance["passages"]) == 3


def test_closed_book_rows_show_no_passage_and_are_not_repeated() -> None:
    built = build([SALES, NOTHING], closed_book_share=1.0)
    assert [e.prompt for e in built.examples] == [render_prompt(SALES.text), render_prompt(NOTHING.text)]
    assert {e.completion for e in built.examples} == {REFUSAL}
    assert built.skipped == {"the same row was drawn before": 6}


def test_shares_are_those_of_the_recipe() -> None:
    questions = [Question(f"q{n}", f"{SALES.text} ({n})", SALES.answer, SALES.evidence, "lookup", SALES.justification)
                 for n in range(400)]
    built = build(questions, rows_per_question=1, gold_share=0.8, closed_book_share=0.1)
    modes = [example.provenance["mode"] for example in built.examples]
    assert modes.count("closed_book") / 400 == pytest.approx(0.1, abs=0.04)
    assert modes.count("gold") / 400 == pytest.approx(0.9 * 0.8, abs=0.06)
    assert modes.count("distractors") / 400 == pytest.approx(0.9 * 0.2, abs=0.06)


def test_gold_that_the_search_does_not_find_is_injected_and_said_so() -> None:
    hidden = Question("hidden", "Zenith gross profit operating income?", SALES.answer, SALES.evidence, "lookup",
                      SALES.justification)
    searcher = MemorySearcher(ACME, ZENITH)
    found = next(hit.rank for hit in searcher.search(SALES.text, 99) if hit.chunk.id == f"{A}:2:0")
    missed = next(hit.rank for hit in searcher.search(hidden.text, 99) if hit.chunk.id == f"{A}:2:0")
    assert found < missed
    built = build([hidden, SALES], k=found, rows_per_question=1)
    injected = {example.provenance["question_id"]: example.provenance["gold_injected"] for example in built.examples}
    assert injected == {"hidden": True, "sales": False}
    assert all(example.provenance["gold"] == [f"{A}:2:0"] for example in built.examples)


def test_question_with_two_pages_needs_both_passages() -> None:
    for example in build([RATIO], rows_per_question=6).examples:
        lines = example.completion.split("\n")
        where = {chunk: n for n, chunk in enumerate(example.provenance["passages"], start=1)}
        assert lines[0] == f"{CAPEX.justification} [{where[f'{A}:3:6']}]"
        assert lines[1] == f"{SALES.justification} [{where[f'{A}:2:0']}]"
        assert lines[2:] == ["189 / 4,210 = 4.5%", "Answer: 4.5%"]
        assert len(where) == 3


def test_served_row_shows_the_first_hits_in_their_order() -> None:
    searcher = MemorySearcher(ACME, ZENITH)
    for question in (SALES, CAPEX, RATIO, NOTHING):
        built = build([question], searcher, is_served=True, k=3)
        hits = searcher.search(question.text, 3)
        for example in built.examples:
            assert example.provenance["passages"] == [hit.chunk.id for hit in hits]
            assert example.provenance["ranks"] == [1, 2, 3]
            holds = set(example.provenance["gold"])
            assert (example.completion == REFUSAL) == (not holds)
    assert build([NOTHING], searcher, is_served=True).examples[0].completion == REFUSAL


def test_served_row_whose_answer_stands_elsewhere_is_passed_over() -> None:
    asked = Question("q", "net sales increased driven by higher volumes in fiscal 2021 of Acme", SALES.answer,
                     SALES.evidence, "lookup", SALES.justification)
    built = build([asked], is_served=True, k=1)
    assert built.examples == ()
    assert built.skipped == {"the answer stands in another passage than the evidence": 1}


def test_prompt_stays_within_the_budget_and_gold_survives_whole() -> None:
    for budget in (150, 220, 400):
        built = build([SALES, CAPEX], max_prompt_tokens=budget, rows_per_question=8, distractors=5)
        assert built.examples
        for example in built.examples:
            assert count_words(list(example.prompt)) <= budget
            line = example.completion.split(" [")[0]
            assert line in example.prompt[-1]["content"].split("\n")


def test_too_small_a_budget_is_an_error_that_counts() -> None:
    with pytest.raises(RunError, match=r"8 of 8 rows.*8 because the token budget cuts the gold passage.*max_prompt_tokens"):
        build([SALES, CAPEX], max_prompt_tokens=85)
    with pytest.raises(RunError, match="the question alone is over the token budget"):
        build([Question("long", "word " * 300, "5", SALES.evidence)], max_prompt_tokens=85)


def test_dropped_rows_below_the_allowed_share_are_only_counted() -> None:
    lost = Question("lost", "Where?", "5", (Evidence(A, 77),))
    bare = Question("bare", "Where?", "5")
    built = build([SALES, lost, bare], max_dropped_share=0.9)
    assert built.dropped == {"the page does not hold the evidence": 4, "the answer has no evidence": 4}
    with pytest.raises(RunError, match="4 because the answer has no evidence; 4 because the page"):
        build([SALES, lost, bare], max_dropped_share=0.5)


def test_justification_that_no_passage_shows_is_never_cited() -> None:
    wrong = Question("wrong", SALES.text, "$9,999 million", SALES.evidence, "lookup", "Net sales 2021: 9,999")
    with pytest.raises(RunError, match="no passage shows the rows of the justification"):
        build([wrong])


def test_excluded_documents_are_never_shown() -> None:
    shown = {p for e in build([SALES, NOTHING], distractors=5).examples for p in e.provenance["passages"]}
    assert any(chunk.startswith("ZENITH") for chunk in shown)
    built = build([SALES, NOTHING], distractors=5, excluded={"ZENITH_2021_10K"})
    assert built.examples
    assert all(p.startswith(A) for e in built.examples for p in e.provenance["passages"])


def test_other_filing_with_the_same_row_may_be_the_gold_passage() -> None:
    text = "Acme sales\n2022 2021\nNet sales of Acme in 2021 what were\nNet sales 4,500 4,210"
    twin = make_document("ACME_2022_10K", text, company="Acme", fiscal_year=2022, form="10-K")
    example = build([SALES], MemorySearcher(twin, ACME), is_served=True, k=1).examples[0]
    assert example.provenance["gold"] == ["ACME_2022_10K:1:0"]
    assert example.completion.startswith("Net sales 2021: 4,210 [1]")


def test_free_answers_are_cited_behind_the_answer() -> None:
    question = Question("why", "Why did sales rise?", "Higher volumes.", (Evidence(A, 1, "The increase was driven by higher "
                                                                                  "volumes and by prices."),))
    example = build([question], rows_per_question=1).examples[0]
    position = example.provenance["passages"].index(f"{A}:1:0") + 1
    assert example.completion == f"Answer: Higher volumes. [{position}]"


def test_row_without_a_justification_is_cited_too() -> None:
    bare = Question("bare", SALES.text, SALES.answer, SALES.evidence)
    for budget in (150, 1100):
        for example in build([bare], max_prompt_tokens=budget).examples:
            position = example.provenance["passages"].index(f"{A}:2:0") + 1
            assert example.completion == f"Answer: $4,210 million [{position}]"
            assert "Net sales 2021: 4,210" in example.prompt[-1]["content"].split("\n")


def test_progress_and_groups_are_passed_on() -> None:
    seen: list[tuple[int, int]] = []
    built = build([SALES, NOTHING], groups={"sales": ["Acme"]}, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(2, 2)]
    assert {tuple(e.provenance["groups"]) for e in built.examples} == {("Acme",), ()}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 99), st.floats(0, 1), st.floats(0, 0.5), st.integers(0, 4), st.integers(100, 600))
def test_rows_are_the_same_again_and_hold_what_they_promise(
    seed: int, gold: float, closed: float, distractors: int, budget: int
) -> None:
    fields = {"seed": seed, "gold_share": gold, "closed_book_share": closed, "distractors": distractors,
              "max_prompt_tokens": budget, "max_dropped_share": 1.0, "rows_per_question": 3}
    questions = [SALES, CAPEX, RATIO, NOTHING]
    built = build(questions, **fields)
    assert [render_row(e) for e in built.examples] == [render_row(e) for e in build(questions, **fields).examples]
    # Other questions beside it change nothing about a question's rows.
    alone = [render_row(e) for e in build([CAPEX], **fields).examples]
    assert [render_row(e) for e in built.examples if e.provenance["question_id"] == "capex"] == alone
    for example in built.examples:
        trace = example.provenance
        assert count_words(list(example.prompt)) <= budget
        assert set(trace["gold"]) <= set(trace["passages"])
        assert (example.completion == REFUSAL) == (not trace["gold"])
        assert len(trace["passages"]) == len(set(trace["passages"])) == len(trace["ranks"])
        for line in example.completion.split("\n"):
            if line.endswith("]"):
                text, _, number = line.rpartition(" [")
                passages = example.prompt[-1]["content"].split("\n\n")
                assert text in passages[int(number[:-1]) - 1].split("\n")


def test_presets_are_public_settings_and_own_fields_go_before() -> None:
    raft = Dataset.model_validate({"preset": "raft"})
    own = Dataset.model_validate({"preset": "instructlab", "distractors": 1})
    assert (raft.gold_share, raft.distractors, raft.closed_book_share) == (0.8, 4, 0.0)
    assert (own.gold_share, own.distractors, own.closed_book_share) == (0.4, 1, 0.0)
    assert Dataset().preset is None
    with pytest.raises(ValidationError, match="'raft', 'instructlab' or 'ra_dit'"):
        Dataset.model_validate({"preset": "rafft"})


def test_random_distractors_come_from_anywhere_and_hold_no_answer() -> None:
    searcher = MemorySearcher(ACME, ZENITH, lines_each=2)
    examples = build([SALES], searcher, distractor_source="random", rows_per_question=20,
                     any_chunk=lambda draw: draw.choice(searcher.chunks)).examples
    drawn = {passage for e in examples for passage in e.provenance["passages"] if passage not in e.provenance["gold"]}
    ranked = {hit.chunk.id for hit in searcher.search(SALES.text, 6)}
    assert len(drawn) > 6
    assert drawn - ranked
    assert all(example.prompt[-1]["content"].count("4,210") == 1 for example in examples)
    again = build([SALES], searcher, distractor_source="random", rows_per_question=20,
                  any_chunk=lambda draw: draw.choice(searcher.chunks)).examples
    assert again == examples


def test_hard_distractors_are_the_same_row_elsewhere_or_the_owners_other_documents() -> None:
    older = make_document("ACME_2019_10K", ACME.pages[1].text.replace("4,210", "3,333"), company="Acme", fiscal_year=2019)
    searcher = MemorySearcher(ACME, ZENITH, older)
    hard = build([SALES], searcher, hard_share=1.0, distractors=1, rows_per_question=10).examples
    easy = build([SALES], searcher, hard_share=0.0, distractors=1, rows_per_question=10).examples
    beside = [{p for e in rows for p in e.provenance["passages"] if p not in e.provenance["gold"]} for rows in (hard, easy)]
    assert any(passage.startswith("ACME_2019_10K") for passage in beside[0])
    assert not any(passage.startswith("ACME_2019_10K") for passage in beside[1])
    assert not beside[0] & beside[1]


def test_refusals_over_their_share_are_left_out_and_counted() -> None:
    fields = {"gold_share": 0.5, "rows_per_question": 20}
    whole = build([SALES, CAPEX, NOTHING], **fields)
    refused = [e for e in whole.examples if e.completion == REFUSAL]
    few = build([SALES, CAPEX, NOTHING], refusal_share=0.2, **fields)
    kept = [e for e in few.examples if e.completion == REFUSAL]
    assert 0 < len(kept) <= 0.2 * len(few.examples) < len(refused)
    assert few.skipped["refusals over dataset.refusal_share 0.2"] == len(refused) - len(kept)
    assert [e for e in whole.examples if e.completion != REFUSAL] == [e for e in few.examples if e.completion != REFUSAL]
    assert not any(e.completion == REFUSAL for e in build([SALES, NOTHING], refusal_share=0.0, **fields).examples)


def test_rows_longer_than_the_model_reads_are_counted_and_not_built() -> None:
    story = Question("story", SALES.text, "So it was. " * 100, SALES.evidence)
    built = build([SALES, story], max_dropped_share=1, context_tokens=400, max_prompt_tokens=300)
    assert built.dropped == {"prompt and completion are over the 400 tokens that the model reads": 4}
    assert {example.provenance["question_id"] for example in built.examples} == {"sales"}
    for example in built.examples:
        assert count_words([*example.prompt, {"role": "assistant", "content": example.completion}]) <= 400
    with pytest.raises(RunError, match="4 because prompt and completion are over the 400 tokens"):
        build([SALES, story], context_tokens=400, max_prompt_tokens=300)


def test_completions_that_serving_would_cut_off_are_counted() -> None:
    count = len(build([SALES, RATIO]).examples)
    assert build([SALES, RATIO]).cut_off == 0
    said = count_words([{"role": "assistant", "content": build([SALES]).examples[0].completion}])
    assert build([SALES], max_new_tokens=said + 1).cut_off == 0  # with the end of its turn
    assert build([SALES], max_new_tokens=said).cut_off == len(build([SALES]).examples)
    assert build([SALES, RATIO], max_new_tokens=said + 1).cut_off == count - len(build([SALES]).examples)


def test_no_kind_of_question_has_more_than_its_share_of_the_rows_that_train() -> None:
    others = [Question(f"s{n}", f"{SALES.text} ({n})", SALES.answer, SALES.evidence, "lookup", SALES.justification)
              for n in range(5)]
    built = build([*others, RATIO, NOTHING], max_kind_share=0.5)
    kinds = [example.provenance["kind"] for example in built.examples]
    assert kinds.count("lookup") == len(kinds) / 2
    assert built.skipped["kind lookup over dataset.max_kind_share 0.5"] == len(
        build([*others, RATIO, NOTHING]).examples) - len(kinds)
    assert built == build([*others, RATIO, NOTHING], max_kind_share=0.5)
    served = build([*others, RATIO, NOTHING], max_kind_share=0.5, is_served=True)
    assert served.examples == build([*others, RATIO, NOTHING], is_served=True).examples
