"""Mining and measuring on a small index: what is a positive, what is no negative, at which rank a page is found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.errors import QuestionError
from ragtune.recipe.schema import Recipe, Retrieval
from ragtune.records import Evidence, Question
from ragtune.retrieval.gate import judge_ranks, render_table
from ragtune.retrieval.index import Index, build_index, open_index
from ragtune.retrieval.mine import figures_of, find_positives, mine_triples
from ragtune.retrieval.search import IndexSearcher
from ragtune.retrieval.trial import SCOPES, Trial

PAGES = (
    "Net sales were 4,210 in the year and 3,900 before.",
    "Cost of sales 2,600 2,450",
    "The same words on every page one of them.",
    "Net sales by segment: 4,210 in all",
    "Inventories 777 666",
)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    docs = tmp_path_factory.mktemp("mine") / "docs"
    docs.mkdir()
    for company in ("Acme", "Bolt", "Cork"):
        figure = "4,210" if company == "Acme" else f"{len(company)},{ord(company[0])}1"
        pages = [page.replace("4,210", figure) for page in PAGES]
        (docs / f"{company.upper()}_2021_10K.txt").write_text("\f".join(pages))
    recipe = Recipe.model_validate({"documents": {"folder": str(docs), "workers": 1}, "index": {"embedder": "hash"}})
    build_index(recipe, docs.parent / "index")
    return open_index(docs.parent / "index")


def ask(text: str = "What were Acme's net sales in 2021?", page: int = 1, document: str = "ACME_2021_10K",
        line: str = "Net sales were 4,210 in the year and 3,900 before.", **fields: str) -> Question:
    evidence = (Evidence(document, page, line),)
    return Question(fields.pop("id", f"{document}-{page}"), text, fields.pop("answer", "$4,210 million"), evidence, **fields)


def rows_at(index: Index, *places: tuple[str, int]) -> set[int]:
    wanted = {(index.store.positions[name], page) for name, page in places}
    return {row for row, (document, page, _) in enumerate(index.places.tolist()) if (document, page) in wanted}


def test_false_negatives_are_left_out_and_counted(index: Index) -> None:
    trial = Trial(index, [ask()])
    vectors = index.embedder.embed_questions([trial.questions[0].text])
    triples = mine_triples(trial, vectors, ["Acme"], 50)
    positives = {int(triples.rows[at]) for at in triples.positives[0]}
    negatives = [int(triples.rows[at]) for at in triples.negatives[0] if at >= 0]
    assert positives == rows_at(index, ("ACME_2021_10K", 1))
    assert not positives & set(negatives)
    assert not set(negatives) & rows_at(index, ("ACME_2021_10K", 4)), "it holds the figure"
    assert set(negatives) == set(range(len(index.places))) - positives - rows_at(index, ("ACME_2021_10K", 4))
    assert triples.masked == {"same page": 1, "holds the figure": 1}
    assert triples.vectors[triples.positives[0, 0]] == pytest.approx(index.dense.reconstruct(min(positives)))
    assert mine_triples(trial, vectors, ["Acme"], 2).negatives.shape == (1, 2)


def test_equal_texts_and_near_duplicates_are_left_out(index: Index) -> None:
    question = ask("What is on every page?", 3, line="", answer="The same words")
    trial = Trial(index, [question])
    vectors = index.embedder.embed_questions([question.text])
    twins = rows_at(index, ("BOLT_2021_10K", 3), ("CORK_2021_10K", 3))
    triples = mine_triples(trial, vectors, ["x"], 50)
    assert triples.masked["same text"] == 2
    assert not twins & set(triples.rows[triples.negatives[0]].tolist())
    assert mine_triples(trial, vectors, ["x"], 50, near_duplicate=-1.0).masked["near duplicate"] == len(index.places) - 3


def test_positives_are_the_chunks_with_the_line_else_the_whole_page() -> None:
    texts = {1: "Head\nNet  sales 2021 4,210\nmore", 2: "elsewhere", 3: "net sales 2021 4,210"}
    assert find_positives(ask(line="Net sales 2021 4,210"), [1, 2, 3], texts) == [1, 3]
    assert find_positives(ask(line="first\nNet sales 2021 4,210\nlast"), [1, 2, 3], texts) == [1, 3]
    assert find_positives(ask(line="Another row 7,777"), [1, 2, 3], texts) == [1, 2, 3]
    assert find_positives(ask(line=""), [2], texts) == [2]
    assert find_positives(ask(line="elsewhere"), [1, 2], texts) == [1, 2], "a line without a number says too little"


def test_figures_that_give_an_answer_away() -> None:
    question = ask(answer="7.9%", justification="Net sales 2021: 4,210\nNet sales 2020: (3,900)\n4,210 / 3,900 - 1 = 7.9%")
    assert figures_of(question) == {"4210", "3900"}
    assert figures_of(ask(answer="$1577.00")) == {"1577.00"}
    assert figures_of(ask(answer="Yes, in 2021 it rose by 12 to 1,234,567.")) == {"1234567"}
    assert figures_of(ask(answer="")) == frozenset()


@pytest.mark.parametrize("method", ["dense", "lexical", "fused"])
def test_ranks_are_those_of_the_search(index: Index, method: str) -> None:
    questions = [ask(), ask("Bolt's cost of sales?", 2, "BOLT_2021_10K"), ask("Cork inventories", 5, "CORK_2021_10K"),
                 ask("zzzz", 4, "CORK_2021_10K")]
    trial, retrieval = Trial(index, questions), Retrieval(method=method, route=False, rerank="none", expand=())
    ranks = trial.rank(index.embedder.embed_questions([q.text for q in questions]), retrieval)
    searcher = IndexSearcher(index, retrieval)
    for number, question in enumerate(questions):
        for scope in SCOPES:
            evidence = question.evidence[0]
            where = f"document = '{evidence.document}'" if scope == "document" else None
            hits = searcher.search(question.text, 50, where)
            wanted = next((hit.rank for hit in hits if (hit.chunk.document, hit.chunk.page) == (
                evidence.document, evidence.page)), 0)
            assert ranks[scope][number] == wanted
    assert set(ranks) == set(SCOPES)


@pytest.mark.parametrize(
    ("question", "says"),
    [
        (Question("q7", "x"), "'q7' has no evidence"),
        (ask(document="NOBODY"), "names 'NOBODY', which the index has not"),
        (ask(page=99), "names pages without text: ACME_2021_10K page 99"),
    ],
)
def test_questions_that_cannot_be_laid_on_the_index(index: Index, question: Question, says: str) -> None:
    with pytest.raises(QuestionError, match=says):
        Trial(index, [question])


def judged(before: list[int], after: list[int], **settings: float) -> tuple[bool, str]:
    verdict = judge_ranks({"shared": np.array(before)}, {"shared": np.array(after)}, 5, settings.get("max_p", 0.05))
    return verdict.is_accepted, verdict.reason


def test_the_gate() -> None:
    assert judged([0] * 20, [1] * 20) == (
        True, "accepted, recall on held-out questions rises: whole index recall@5 0.000 → 1.000 (n = 20, 20 gained, 0 lost, "
              "p < .0001)")
    assert judged([1] * 20, [6] * 20)[1].startswith("refused, recall on held-out questions falls: whole index")
    assert not judged([0] * 4 + [1] * 9, [1] * 4 + [1] * 9)[0], "four of four may be luck"
    assert judged([0] * 4 + [1] * 9, [1] * 4 + [1] * 9, max_p=1.0)[0]
    assert not judged([3] * 20, [1] * 20, max_p=1.0)[0], "better ranks within the first k are no recall"
    assert not judged([], [])[0]


def test_the_gate_lets_no_scope_fall() -> None:
    up, down, same = ({"a": np.array(b), "b": np.array(c)} for b, c in (([1] * 20, [0] * 20), ([1] * 20, [9] * 20),
                                                                       ([0] * 20, [1] * 20)))
    before = {"a": np.zeros(20, int), "b": np.ones(20, int)}
    assert not judge_ranks(before, up, 5, 0.05).is_accepted
    assert not judge_ranks(before, down, 5, 0.05).is_accepted
    assert not judge_ranks(before, same, 5, 0.05).is_accepted
    both = judge_ranks(before, {"a": np.ones(20, int), "b": np.ones(20, int)}, 5, 0.05)
    assert both.is_accepted
    assert both.gain == 20 * 3
    assert render_table(both.rows)[1] == ("a", "1", "0.000", "1.000", "20", "0", "1.9e-06", "20")


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=60))
def test_swapping_before_and_after_never_passes_both_ways(pairs: list[tuple[int, int]]) -> None:
    before, after = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    assert not (judged(before, after, max_p=1.0)[0] and judged(after, before, max_p=1.0)[0])
