"""Page recall from hits and evidence, and the ranking metrics against ir-measures."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtune.errors import RunError
from ragtune.evaluation.metrics.ranking import (
    RANKING_METRICS,
    find_relevant,
    first_rank,
    full_rank,
    rank_items,
    score_page_recall,
    score_rankings,
)
from ragtune.records import Chunk, Evidence, Hit, Question


def hit(document: str, page: int, rank: int, last_page: int | None = None) -> Hit:
    return Hit(Chunk(f"{document}{page}", document, document, "text", page, last_page or page, 0, 4), 1 / rank, rank, "test")


HITS = [hit("A", 1, 1), hit("B", 7, 2), hit("A", 7, 3, last_page=8), hit("A", 9, 4)]


def question(*evidence: tuple[str, int]) -> Question:
    return Question("q", "text", "5", tuple(Evidence(document, page) for document, page in evidence))


def test_page_must_be_of_the_right_document() -> None:
    assert first_rank(question(("A", 7)), HITS) == 3
    assert first_rank(question(("C", 7)), HITS) is None


def test_a_chunk_over_two_pages_holds_both() -> None:
    assert first_rank(question(("A", 8)), HITS) == 3


def test_every_page_is_asked_for_full_recall() -> None:
    asked = question(("A", 1), ("A", 9))
    assert (first_rank(asked, HITS), full_rank(asked, HITS)) == (1, 4)
    assert full_rank(question(("A", 1), ("A", 99)), HITS) is None


def test_recall_at_k() -> None:
    asked = [question(("A", 1)), question(("A", 1), ("A", 9)), question(("C", 1)), question()]
    items = [(one, HITS) for one in asked]
    recall = score_page_recall(items, (1, 4))
    assert recall.n == 3
    assert recall.any_page == {"1": 2 / 3, "4": 2 / 3}
    assert recall.every_page == {"1": 1 / 3, "4": 2 / 3}
    assert score_page_recall([], (1,)).any_page == {"1": 0.0}


@settings(deadline=None)
@given(
    ranked=st.permutations(list("abcdefgh")).flatmap(lambda order: st.integers(0, 8).map(lambda n: order[:n])),
    gains=st.dictionaries(st.sampled_from("abcdefghxyz"), st.integers(0, 3), min_size=1),
    k=st.integers(1, 10),
)
def test_as_ir_measures(ranked: list[str], gains: dict[str, int], k: int) -> None:
    ir_measures = pytest.importorskip("ir_measures", reason="the reference ir-measures is not installed")
    from ir_measures import AP, P, Qrel, R, RR, ScoredDoc, nDCG  # noqa: I001

    theirs = {"recall": R @ k, "precision": P @ k, "mrr": RR @ k, "ndcg": nDCG @ k, "map": AP @ k}
    qrels = [Qrel("q", item, gain) for item, gain in gains.items()]
    # one item that nobody ranks keeps a question without results in their run; its score is the lowest
    run = [ScoredDoc("q", item, float(-place)) for place, item in enumerate([*ranked, *["-"] * (not ranked)])]
    values = ir_measures.iter_calc([*theirs.values(), AP, RR, nDCG], qrels, run)
    expected = {str(found.measure): found.value for found in values}
    for name, measure in theirs.items():
        assert RANKING_METRICS[name](ranked, gains, k) == pytest.approx(expected[str(measure)], abs=1e-9), name
    for name, measure in (("map", AP), ("mrr", RR), ("ndcg", nDCG)):
        assert RANKING_METRICS[name](ranked, gains, None) == pytest.approx(expected[str(measure)], abs=1e-9), name


def test_known_values() -> None:
    ranked, relevant = list("abcde"), {"b": 1.0, "d": 1.0, "z": 1.0}
    found = {name: metric(ranked, relevant, 4) for name, metric in RANKING_METRICS.items()}
    assert found == pytest.approx({
        "recall": 2 / 3, "precision": 2 / 4, "mrr": 1 / 2, "map": (1 / 2 + 2 / 4) / 3,
        "ndcg": (1 / math.log2(3) + 1 / math.log2(5)) / (1 + 1 / math.log2(3) + 1 / 2),
    })  # fmt: skip


@pytest.mark.parametrize("name", RANKING_METRICS)
def test_nothing_found_and_nothing_relevant_score_nothing(name: str) -> None:
    metric = RANKING_METRICS[name]
    assert metric([], {"a": 1.0}, 3) == metric([], {"a": 1.0}, None) == 0.0
    assert metric(["a"], {}, 3) == metric(["a"], {"a": 0.0, "b": -1.0}, 3) == 0.0
    assert metric(["a"], {"a": 1.0}, 1) == 1.0
    for bad in ((["a"], {"a": 1.0}, 0), (["a", "a"], {"a": 1.0}, 1), (["a"], {"a": math.nan}, 1)):
        with pytest.raises(RunError, match="Allowed|Keep"):
            metric(*bad)


def test_the_first_of_a_page_counts_and_the_later_ones_take_no_place() -> None:
    hits = [hit("A", 1, 1), hit("A", 1, 2), hit("A", 7, 3, last_page=8), hit("B", 7, 4), hit("A", 8, 5)]
    assert rank_items(hits, "page") == [("A", 1), ("A", 7), ("A", 8), ("B", 7)]
    assert rank_items(hits, "document") == ["A", "B"]
    assert rank_items(hits, "chunk") == ["A1", "A7", "B7", "A8"]
    scores = score_rankings([(question(("B", 7)), hits)], "page", (3, 4))
    assert scores.means["recall@3"] == 0.0
    assert scores.means["mrr"] == 1 / 4
    assert score_rankings([(question(("B", 7)), hits)], "document", (1,)).means["mrr"] == 1 / 2


def test_ties_keep_the_order_of_the_hits() -> None:
    tied = [Hit(one.chunk, 0.5, place, "test") for place, one in enumerate(HITS, 1)]
    assert rank_items(tied, "page") == rank_items(HITS, "page")


def test_relevant_chunks_are_those_on_the_evidence_page() -> None:
    pages = {("A", 7): [HITS[2].chunk, HITS[0].chunk]}
    asked = question(("A", 7), ("A", 99))
    assert set(find_relevant(asked, "chunk", lambda d, p: pages.get((d, p), []))) == {"A7", "A1"}
    scores = score_rankings([(asked, HITS)], "chunk", (3,), lambda d, p: pages.get((d, p), []))
    assert scores.means["recall@3"] == 1.0
    assert scores.means["map"] == pytest.approx((1 / 1 + 2 / 3) / 2)
    with pytest.raises(RunError, match="Give chunks_on_page"):
        find_relevant(asked, "chunk")


def test_questions_without_evidence_are_left_out_of_the_means() -> None:
    first, nothing = question(("A", 1)), Question("none", "text")
    lost = Question("lost", "text", "5", (Evidence("Z", 1),))
    scores = score_rankings([(first, HITS), (nothing, HITS), (lost, [])], "page", (1,))
    assert (scores.n, scores.left_out) == (2, ("none",))
    assert scores.means["recall@1"] == 0.5
    assert scores.by_question["lost"] == dict.fromkeys(scores.means, 0.0)


def test_bad_input_is_said() -> None:
    with pytest.raises(RunError, match="none with a relevant page"):
        score_rankings([(Question("none", "text"), HITS)])
    with pytest.raises(RunError, match="Did you mean 'page'"):
        score_rankings([(question(("A", 1)), HITS)], "pages")
    with pytest.raises(RunError, match="comes twice"):
        score_rankings([(question(("A", 1)), HITS)] * 2)
