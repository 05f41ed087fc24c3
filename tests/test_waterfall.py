"""Each stage that can lose an answer, told from a search that loses it there; and the waterfall that adds up."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ladder_fakes import COMPANIES, MemorySearcher, ReadingGenerator, chunks, questions

from ragtune.answering.prompt import number_passages
from ragtune.evaluation.ladder.graded import Graded, Shown
from ragtune.evaluation.ladder.rungs import open_rungs
from ragtune.evaluation.ladder.trail import Asked, Needed, Trail, find_needed, follow
from ragtune.evaluation.losses.attribute import LABELS, STAGES, attribute, label_of
from ragtune.evaluation.losses.waterfall import Waterfall, build_waterfalls
from ragtune.evaluation.reporting.plots import draw_waterfall
from ragtune.evaluation.reporting.summary import EvaluationSummary
from ragtune.files import write_jsonl
from ragtune.recipe.schema import Answering, Documents, Evaluation, Index, Recipe, Retrieval
from ragtune.records import Chunk, Citation, Evidence, Hit, Question, Trace
from ragtune.stages.evaluate import evaluate_models

RECIPE = Recipe(name="test", answering=Answering(guard="none"), retrieval=Retrieval(k=2))
PAGE = "Net sales 2021: 4,210\nNet sales 2020: 3,900\nIn millions."
QUESTION = Question("q", "What was growth?", "7.9%", (Evidence("ACME", 1),), "growth", "4,210 / 3,900 - 1 = 7.9%")
CHUNK = Chunk("c1", "ACME", "ACME", PAGE, 1, 1, 0, len(PAGE))
NEEDED = Needed(("4210", "3900"))
IN_PROMPT = Trail("ACME", 1, page_rank=1, rank=1, depth=20, needed=NEEDED)


def lost(
    answer: str = "12%", trail: Trail = IN_PROMPT, gold: str = "7.9%", shown: int = len(PAGE), **changes: object
) -> tuple[str, str]:
    """Attribute a wrong answer whose prompt showed the page, but for what the case changes."""
    values = {"outcome": "wrong", "passages": (Shown(1, "ACME", 1, 1, "c1", shown),), **changes}
    row = Graded("base", "retrieval", "q", "growth", reason="", question="", gold=gold, answer=answer, **values)
    (passage,) = number_passages([Hit(CHUNK, 1, 1, "x")])
    return attribute(row, Asked(QUESTION, trails=(trail,)), {"c1": (CHUNK, passage.text)}, 2)


def changed(**values: object) -> Trail:
    return Trail(**{**vars(IN_PROMPT), **values})


@pytest.mark.parametrize(
    ("stage", "why", "case"),
    [
        ("page_not_read", "lacks ACME", {"trail": changed(is_present=False, is_read=False)}),
        ("page_not_read", "no text", {"trail": changed(is_read=False, is_indexed=False)}),
        ("chunk_not_indexed", "no chunk holds", {"trail": changed(is_indexed=False, rank=None)}),
        ("filtered_out", "shut out", {"trail": changed(is_kept=False, rank=None)}),
        ("filtered_out", "hit 1 without router", {"trail": changed(rank=9, unfiltered_rank=1)}),
        ("not_retrieved", "is hit 9$", {"trail": changed(rank=9, page_rank=9)}),
        ("not_retrieved", "first 20 hits; the page is hit 2, by another", {"trail": changed(rank=None, page_rank=2)}),
        ("cut", "no room", {"shown": 21}),
        ("cut", "no room", {"passages": ()}),
        ("not_used", "cites nothing", {}),
        ("not_used", "refused", {"outcome": "refused", "is_refusal": True, "completion": "Not found in the documents."}),
        ("computed_wrong", "takes 4210", {"reasoning": "4,210 / 3,000 - 1 = 12%"}),
        ("computed_wrong", r"cites \[1\]", {"citations": (Citation(1, "ACME", 1, "c1", 0, 9, ""),)}),
        ("computed_wrong", "the guard refused", {"outcome": "refused", "is_refusal": True, "answer": "Not found",
                                                 "completion": "4,210 / 3,000 [1]\nAnswer: 40%"}),
        ("guarded", "refused '7.9%': no source", {"outcome": "refused", "is_refusal": True, "answer": "Not found",
                                                  "completion": "Answer: 7.9%", "problems": ("no source",)}),
        ("scored_wrong", "7.9% stands", {"answer": "7.9% (and 12% before)"}),
        ("scored_wrong", "41% sure", {"confidence": 0.41}),
        ("not_used", "cites nothing", {"confidence": 0.9}),
        ("not_used", "cites nothing", {"gold": "Yes, by 7.9%", "answer": "No, it grew 7.9%"}),
        ("not_used", "cites nothing", {"gold": "-7.9%", "answer": "7.9%"}),
    ],
)  # fmt: skip
def test_each_stage_is_told(stage: str, why: str, case: dict) -> None:
    found, reason = lost(**case)
    assert found == stage
    assert re.search(why, reason), reason


def test_a_question_without_evidence_cannot_be_told() -> None:
    row = Graded("base", "retrieval", "q", "", "wrong", "", "", "7.9%", "12%")
    assert attribute(row, Asked(QUESTION), {}, 2)[0] == "untold"


def test_the_first_of_two_losses_counts() -> None:
    trails = (IN_PROMPT, changed(page=2, rank=None), changed(page=3, is_indexed=False))
    row = Graded("base", "retrieval", "q", "", "wrong", "", "", "7.9%", "12%")
    assert attribute(row, Asked(QUESTION, trails=trails), {}, 2)[0] == "chunk_not_indexed"


def test_what_is_needed_of_a_page() -> None:
    assert find_needed(QUESTION, QUESTION.evidence[0], PAGE).figures == ("4210", "3900")
    in_year = find_needed(Question("q", "?", "In 2021"), Evidence("ACME", 1, "sales 2021"), PAGE)
    assert in_year == Needed(words=("sales", "2021"), enough=1)
    assert find_needed(Question("q", "?", "Clocks"), Evidence("ACME", 1), PAGE) == Needed()
    assert Needed().is_held_by([""])
    assert not Needed().is_held_by([])
    assert NEEDED.is_held_by(["4,210", "3,900"])
    assert not NEEDED.is_held_by(["4,210"])


def test_evidence_longer_than_a_chunk_is_held_by_a_chunk_that_has_its_share() -> None:
    text = " ".join(f"word{letter * 4}" for letter in "abcdefghijkl")
    parts = text.split()
    stored = [Chunk(f"c{n}", "D", "D", " ".join(parts[4 * n : 4 * n + 4]), 1, 1, 0, 9) for n in range(3)]
    question = Question("q", "?", "Much", (Evidence("D", 1, text),))
    searcher = MemorySearcher(stored)
    trail = follow(question, question.evidence[0], searcher, [Hit(stored[2], 1.0, 1, "x")], Trace())
    assert (trail.is_indexed, trail.rank, trail.needed.enough) == (True, 1, 2)
    few = MemorySearcher(stored[:1])
    few.index = type("Index", (), {"page_text": lambda self, *_: text, "store": type("S", (), {"positions": {"D": 0}})})()
    assert not follow(question, question.evidence[0], few, [], Trace()).is_indexed


class Hiding(MemorySearcher):
    """Never finds one page within the first ``depth`` hits."""

    def __init__(self, hidden: str, depth: int = 99) -> None:
        super().__init__()
        self.hidden, self.depth = hidden, depth

    def search(self, question: str, k: int, where: str | None = None) -> list[Hit]:
        hits = super().search(question, 99, where)
        if where:
            return hits[:k]
        hits = [hit for hit in hits if hit.chunk.id != self.hidden]
        own = [chunk for chunk in self.stored if chunk.id == self.hidden]
        found = [*[hit.chunk for hit in hits[: self.depth - 1]], *own, *[hit.chunk for hit in hits[self.depth - 1 :]]]
        return [Hit(chunk, 1.0, rank, "hiding") for rank, chunk in enumerate(found[:k], start=1)]


def test_only_what_is_missed_is_searched_for_again() -> None:
    searcher = Hiding("ACME_2021_10K-1", depth=7)
    rungs = open_rungs(questions(), searcher, ("retrieval",), 2)
    trail = rungs.asked["q01"].trails[0]
    assert (trail.rank, trail.page_rank, trail.is_indexed) == (7, 7, True)
    assert len(rungs.shown["retrieval"]["q01"]) == 2
    texts = {question.id: question.text for question in questions()}
    assert searcher.searches.count(texts["q01"]) == 2
    assert searcher.searches.count(texts["q11"]) == 1
    assert not rungs.asked["q-lost"].trails[0].is_present


def test_the_log_tells_where_answers_were_lost(tmp_path: Path) -> None:
    summary = evaluate_models(RECIPE, questions(), Hiding("ACME_2021_10K-1"), {"base": lambda: ReadingGenerator(slip=3)},
                              tmp_path / "e")
    rows = [json.loads(line) for line in (tmp_path / "e" / "answers.jsonl").read_text().splitlines()]
    (lost_row,) = [row for row in rows if row["question_id"] == "q01" and row["setting"] == "retrieval"]
    assert lost_row["lost_at"] == "not_retrieved"
    assert all(bool(row["lost_at"]) == (row["setting"] == "retrieval" and row["outcome"] != "correct") for row in rows)
    (waterfall,) = summary.waterfalls
    counts = {entry.stage: entry.count for entry in waterfall.lost}
    assert counts["page_not_read"] == 1  # q-lost
    assert counts["not_retrieved"] == 1
    assert counts["computed_wrong"] >= 1
    assert waterfall.n == 13
    assert sum(counts.values()) == waterfall.n - waterfall.retrieval
    told = summary.to_dict()["waterfalls"][0]
    assert told["steps"][-1]["end"] == 13
    assert "1 not retrieved at 2" in told["sentence"]
    for name in ("report.md", "report.html"):
        assert "not retrieved at 2" in (tmp_path / "e" / name).read_text()
    asked = [Asked.from_dict(json.loads(line)) for line in (tmp_path / "e" / "questions.jsonl").read_text().splitlines()]
    assert [entry.question.id for entry in asked] == [question.id for question in questions()]
    ids = {json.loads(line)["chunk_id"] for line in (tmp_path / "e" / "passages.jsonl").read_text().splitlines()}
    assert ids >= {shown["chunk_id"] for row in rows for shown in row["passages"]}


def test_router_and_filter_are_told_from_a_poor_rank(tmp_path: Path) -> None:
    from ragtune.retrieval.search import open_searcher
    from ragtune.stages.index import run_index

    folder = tmp_path / "documents"
    folder.mkdir()
    for company in COMPANIES:
        (folder / f"{company}.txt").write_text("\f".join(chunk.text for chunk in chunks() if chunk.document == company))
    sidecar = tmp_path / "documents.jsonl"
    write_jsonl(sidecar, ({"document": c, "company": c[:4].title(), "fiscal_year": 2021} for c in COMPANIES))
    documents = Documents(folder=str(folder), metadata=str(sidecar))
    settings = {"documents": documents, "index": Index(embedder="hash"), "retrieval": Retrieval(k=1)}
    recipe = RECIPE.model_copy(update=settings)
    run_index(recipe, tmp_path / "index")
    asked = [
        Question("routed", "What were net sales in 2021 of the company that Bolt bought?", "$4,210 million",
                 (Evidence("ACME_2021_10K", 1),)),
        Question("plain", "What were net sales of Acme in 2021?", "$4,210 million", (Evidence("ACME_2021_10K", 1),)),
    ]
    searcher = open_searcher(tmp_path / "index", recipe.retrieval.model_copy(update={"where": "company = 'Bolt'"}))
    trails = {i: entry.trails[0] for i, entry in open_rungs(asked, searcher, ("retrieval",), 1).asked.items()}
    assert (trails["plain"].is_present, trails["plain"].is_kept) == (True, False)
    searcher = open_searcher(tmp_path / "index", recipe.retrieval)
    found = open_rungs(asked, searcher, ("retrieval",), 1).asked
    assert not found["routed"].trails[0].is_kept
    assert found["routed"].trace.where == "company = 'Bolt'"
    entry = found["plain"]
    assert (entry.trails[0].is_kept, entry.trails[0].rank) == (True, 1)
    assert entry.companies == ("Acme",)


outcomes = st.sampled_from(("correct", "wrong", "refused"))


@given(st.lists(st.tuples(outcomes, outcomes, outcomes, st.sampled_from(STAGES)), min_size=1, max_size=30), st.booleans())
def test_the_waterfall_adds_up(cases: Sequence[tuple[str, str, str, str]], has_oracle: bool) -> None:
    graded, asked = [], {}
    for number, (closed, retrieval, oracle, stage) in enumerate(cases):
        question = Question(f"q{number}", "?", "5", (Evidence("ACME", 1),))
        asked[question.id] = Asked(question, trails=(IN_PROMPT,))
        for setting, outcome in (("closed_book", closed), ("retrieval", retrieval), ("oracle", oracle)):
            if setting != "oracle" or has_oracle:
                at = stage if setting == "retrieval" and outcome != "correct" else ""
                graded.append(Graded("base", setting, question.id, "", outcome, "", "?", "5", "6", lost_at=at))
    (waterfall,) = build_waterfalls(graded, asked, 3)
    steps, at = waterfall.steps(), 0
    for step in steps:
        if step.kind == "level":
            assert step.start == 0
            assert step.label == "closed book" or step.end == at
            at = step.end
        else:
            assert step.start == at != step.end
            at = step.end
    assert at == waterfall.n == len(cases)
    assert Waterfall.from_dict(json.loads(json.dumps(waterfall.to_dict()))) == waterfall


def test_the_drawing_names_every_step() -> None:
    from ragtune.evaluation.losses.waterfall import Lost

    waterfall = Waterfall("base", 20, 3, 2, 11, 15, 10, 1, 1, (Lost("not_retrieved", 5, 4), Lost("not_used", 4, 1)))
    svg = draw_waterfall(waterfall)
    for step in waterfall.steps():
        assert step.label in svg
    assert 'id="waterfall-base-title"' in svg
    assert svg == draw_waterfall(waterfall)


def test_labels() -> None:
    assert set(LABELS) == set(STAGES)
    assert label_of("not_retrieved", 5) == "not retrieved at 5"
    assert label_of("not_used", 5) == LABELS["not_used"]


def test_without_retrieval_there_is_no_waterfall(tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(update={"evaluation": Evaluation(settings=("closed_book",))})
    summary: EvaluationSummary = evaluate_models(recipe, questions(), None, {"base": ReadingGenerator}, tmp_path / "e")
    assert summary.waterfalls == ()
    assert "Where are answers lost" not in (tmp_path / "e" / "report.html").read_text()
