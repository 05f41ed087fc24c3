"""The ranker: signals of pages, features, order, fitting, routes and what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from ragtune.documents.pack import open_pack
from ragtune.errors import RecipeError, RunError
from ragtune.recipe.schema import Recipe, Retrieval
from ragtune.retrieval import rerank
from ragtune.retrieval.asked import read_asked
from ragtune.retrieval.index import build_index, open_index
from ragtune.retrieval.rerank import FEATURES, Candidates, Judged, Ranker, fit_weights, open_ranker, ranker_for
from ragtune.retrieval.search import IndexSearcher, open_searcher
from ragtune.retrieval.signals import FILE, open_signals

FLOWS = """Consolidated Statements of Cash Flows
Years ended December 31, (in millions) {year} {before}
Net income 400 390
Depreciation and amortization 100 90
Net cash provided by operating activities 510 480
Purchases of property, plant and equipment (157) (137)
Net cash used in investing activities (160) (140)
Net cash used in financing activities (200) (210)"""
PROSE = "We spent more on buildings and machines this year. Our capital expenditure plan is discussed with the board."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six reports of three companies: prose about capital expenditure on page 1, the statement that shows it on page 3."""
    root = tmp_path_factory.mktemp("ranked")
    for company in ("ACME", "BOLT", "CORK"):
        for year in (2020, 2021):
            pages = [PROSE, f"{company} makes tools. " * 10, FLOWS.format(year=year, before=year - 1), f"The end of {year}."]
            (root / "documents").mkdir(exist_ok=True)
            (root / "documents" / f"{company}_{year}_10K.md").write_text("\f".join(pages))
    recipe = Recipe.model_validate({"documents": {"folder": str(root / "documents")}, "index": {"embedder": "hash"}})
    build_index(recipe, root / "index")
    return root / "index"


def find(folder: Path, question: str, k: int = 3, where: str | None = None, **retrieval: object) -> tuple[list, object]:
    return IndexSearcher(open_index(folder), Retrieval.model_validate(retrieval)).trace_many([question], k, where)[0]


def test_signals_say_what_pages_show(folder: Path) -> None:
    index = open_index(folder)
    signals, pack = index.signals, index.pack
    names = [section.name for section in pack.sections]
    statement = signals.sections[:, names.index("cash flow statement")]
    assert statement.sum() == 6
    assert set(signals.rows[statement]) == {6}
    capex = next(position for position, term in enumerate(pack.terms) if "capex" in term.names)
    holders = signals.terms[:, capex]
    assert {index.store.chunks_at([row])[0].page for row in np.flatnonzero(holders)} == {int(signals.number[statement][0])}
    assert signals.first[-1] == len(index.places)
    assert (signals.page_of[signals.first[:-1]] == np.arange(len(signals.number))).all()


def test_signals_of_unchanged_documents_are_taken_over(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "documents"
    source.mkdir()
    for path in (folder.parent / "documents").iterdir():
        (source / path.name).write_text(path.read_text())
    recipe = Recipe.model_validate({"documents": {"folder": str(source)}, "index": {"embedder": "hash"}})
    build_index(recipe, tmp_path / "grown")
    (source / "ABLE_2019_10K.md").write_text(FLOWS.format(year=2019, before=2018))
    build_index(recipe, tmp_path / "grown")
    build_index(recipe, tmp_path / "fresh")
    grown, fresh = open_signals(tmp_path / "grown"), open_signals(tmp_path / "fresh")
    for field in dataclasses.fields(fresh):
        assert np.array_equal(getattr(grown, field.name), getattr(fresh, field.name)), field.name


def test_the_statement_comes_before_prose_that_uses_the_questions_words(folder: Path) -> None:
    hits, trace = find(folder, "What was the capital expenditure of Acme in FY2021? Use the cash flow statement.")
    assert (hits[0].chunk.document, "Purchases of property" in hits[0].chunk.text) == ("ACME_2021_10K", True)
    assert "ACME" in trace.where.upper()
    assert "purchases of property, plant and equipment" in trace.added[0]
    plain, _ = find(folder, "What was the capital expenditure of Acme in FY2021?", rerank="none", route=False, expand=())
    assert "Purchases of property" not in plain[0].chunk.text


def test_rows_count_only_where_the_pack_knows_them(folder: Path, tmp_path: Path) -> None:
    recipe = Recipe.model_validate({"documents": {"folder": str(folder.parent / "documents")}, "index": {"embedder": "hash"},
                                    "pack": "plain"})
    build_index(recipe, tmp_path / "plain")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    for name in "ab":  # rows of options: one page in twelve happens to show a line item
        pages = ["Net income 400 390", *(f"Option {page} sets the width of columns 12 34" for page in range(11))]
        (foreign / f"{name}.md").write_text("\f".join(pages))
    build_index(Recipe.model_validate({"documents": {"folder": str(foreign)}, "index": {"embedder": "hash"}}),
                tmp_path / "manuals")
    for path, counts in ((folder, True), (tmp_path / "plain", False), (tmp_path / "manuals", False)):
        searcher = IndexSearcher(open_index(path), Retrieval())
        question = "Who makes tools?"
        vector = searcher.index.embedder.embed_questions([question])
        asked, variants = searcher.ask(question, None)
        found = searcher.gather(variants, vector, 5, None)
        _, features, _ = rerank.page_features(searcher.index.signals, asked, found, np.ones(6))
        assert searcher.index.signals.rows.any()
        assert features[:, FEATURES.index("rows_unasked")].any() == counts


def test_a_document_named_by_its_file_is_preferred(tmp_path: Path) -> None:
    (tmp_path / "documents").mkdir()
    for number, name in enumerate(("abacus", "flex", "gnuplot")):
        (tmp_path / f"documents/{name}.md").write_text(f"The option verbose prints more messages.\fRelease {number}")
    recipe = Recipe.model_validate({"documents": {"folder": str(tmp_path / "documents")}, "index": {"embedder": "hash"},
                                    "pack": "plain"})
    build_index(recipe, tmp_path / "index")
    for name in ("flex", "gnuplot"):
        hits, trace = find(tmp_path / "index", f"Which option of {name} prints more messages?")
        assert hits[0].chunk.document == name
        assert any(name in reason for reason in trace.reasons)
        assert len({hit.chunk.document for hit in hits}) == 3  # preferred, not walled in
    searcher = IndexSearcher(open_index(tmp_path / "index"), Retrieval())
    priors, keep, _ = searcher.route("Which option of flex prints more messages?")
    assert priors.argmax() == searcher.index.store.positions["flex"]
    assert keep is None
    priors, _, _ = searcher.route("Which option prints more messages?")
    assert len(set(priors.tolist())) == 1


def test_pages_come_before_second_chunks(folder: Path) -> None:
    hits, _ = find(folder, "capital expenditure of Acme in 2021", 100)
    places = [(hit.chunk.document, hit.chunk.page) for hit in hits]
    distinct = len(set(places))
    assert len(set(places[:distinct])) == distinct
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert len({hit.chunk.id for hit in hits}) == len(hits)


def test_a_filter_wins_over_the_route(folder: Path) -> None:
    hits, trace = find(folder, "capital expenditure of Acme in 2021", 5, "company = 'Bolt'")
    assert {hit.chunk.metadata["company"] for hit in hits} == {"BOLT"}
    assert trace.is_fallback
    assert any("filter" in reason for reason in trace.reasons)
    nothing, trace = find(folder, "capital expenditure", 5, "company = 'Nobody'")
    assert nothing == []
    assert trace.is_fallback
    both, trace = find(folder, "capital expenditure of Acme", 5, "fiscal_year = 2020")
    assert {hit.chunk.document for hit in both} == {"ACME_2020_10K"}


def test_a_missing_year_falls_back_and_says_so(folder: Path) -> None:
    hits, trace = find(folder, "capital expenditure of Acme in 2035")
    assert hits
    assert trace.is_fallback
    assert any("2035" in reason for reason in trace.reasons)


def test_no_company_searches_everything(folder: Path) -> None:
    hits, trace = find(folder, "capital expenditure", 50)
    assert {hit.chunk.metadata["company"] for hit in hits} == {"ACME", "BOLT", "CORK"}
    assert trace.where == ""


def test_many_chunks_are_ranked_by_what_the_searchers_find(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    question = "What was the capital expenditure of Acme in FY2021? Use the cash flow statement."
    expected = [hit.chunk.id for hit in find(folder, question)[0][:1]]
    monkeypatch.setattr("ragtune.retrieval.search.FEW", 0)
    assert [hit.chunk.id for hit in find(folder, question)[0][:1]] == expected


@pytest.mark.parametrize("question", ["资本支出是多少？", "ما هي النفقات", "🙂", "?", "x" * 4000])
def test_odd_questions_are_searched(folder: Path, question: str) -> None:
    hits, _ = find(folder, question, 3)
    assert len(hits) == 3


def test_fewer_candidates_than_asked(folder: Path) -> None:
    hits, _ = find(folder, "capital expenditure of Acme in 2021", 10**6, "page = 3 and document = 'ACME_2021_10K'")
    assert hits
    assert {hit.chunk.page for hit in hits} == {3}


def test_asked_reads_measures_and_sections() -> None:
    pack = open_pack()
    asked = read_asked("What is the fixed asset turnover? Use the balance sheet and the income statement.", pack)
    named = {pack.sections[position].name for position in asked.named}
    assert {"balance sheet", "income statement"} <= named
    assert {"revenue", "net PP&E"} <= {pack.terms[position].names[0] for position in asked.terms} | {
        name for position in asked.terms for name in pack.terms[position].names}
    assert read_asked("Use the cash flow statement.", pack).terms == ()


def test_fitting_finds_what_tells_evidence() -> None:
    draws = np.random.default_rng(0)
    judged = []
    for _ in range(60):
        features = draws.normal(size=(30, len(FEATURES)))
        gold = np.zeros(30, dtype=bool)
        gold[np.argmax(features[:, 0] + 2 * features[:, 4])] = True
        judged.append(Judged(features, gold, np.ones(30, dtype=bool)))
    weights = fit_weights(judged)
    assert weights == fit_weights(judged)
    assert weights[FEATURES[4]] > 1.4 * weights[FEATURES[0]] > 0
    others = [abs(weights[name]) for name in FEATURES if name not in (FEATURES[0], FEATURES[4])]
    assert max(others) < 0.5 * weights[FEATURES[0]]


def test_masked_pages_do_not_count() -> None:
    features = np.zeros((3, len(FEATURES)))
    features[0, 0] = features[1, 0] = 1.0
    gold = np.array([True, False, False])
    seen = fit_weights([Judged(features, gold, np.array([True, True, True]))])
    masked = fit_weights([Judged(features, gold, np.array([True, False, True]))])
    assert masked[FEATURES[0]] > seen[FEATURES[0]]


def test_one_candidate_has_finite_features(folder: Path) -> None:
    index = open_index(folder)
    found = Candidates(np.array([0]), np.array([0.3]), np.array([0.0]), np.array([0.0]))
    asked = read_asked("capex", index.pack)
    pages, features, chunks = rerank.page_features(index.signals, asked, found, np.ones(6))
    assert np.isfinite(features).all()
    assert (len(pages), len(chunks)) == (1, 1)


def test_the_shipped_ranker_and_damaged_ones(tmp_path: Path) -> None:
    shipped = open_ranker()
    assert set(shipped.weights) <= set(FEATURES)
    assert shipped.fitted_on
    path = tmp_path / "ranker.json"
    for text in ("", "[]", '{"weights": {"dense": "much"}, "fitted_on": {}}', '{"weights": 3}'):
        path.write_text(text)
        open_ranker.cache_clear()
        with pytest.raises(RunError, match="cannot be read"):
            open_ranker(path)
    path.write_text(json.dumps({"weights": {"height": 1.0}, "fitted_on": {}}))
    open_ranker.cache_clear()
    with pytest.raises(RunError, match="height"):
        open_ranker(path)
    open_ranker.cache_clear()
    assert ranker_for("auto", tmp_path / "index") == shipped
    assert Ranker({}, {}).vector().tolist() == [0.0] * len(FEATURES)


def test_signals_that_are_gone(folder: Path, tmp_path: Path) -> None:
    from ragtune.errors import IndexFolderError

    with pytest.raises(IndexFolderError, match=FILE):
        open_signals(tmp_path)


def test_a_cross_encoder_that_is_not_there_is_named(folder: Path) -> None:
    from ragtune.errors import ModelError

    with pytest.raises(ModelError, match="no/such"):
        open_searcher(folder, Retrieval(rerank="/no/such")).search("capital", 3)


@pytest.mark.parametrize("rerank", ["ranker", "none"])
def test_ways_to_ask_are_searched_and_said(folder: Path, rerank: str) -> None:
    question = "What was capex in 2021, and what was depreciation and amortization in 2020?"
    found = {}
    for names in ((), ("glossary",), ("glossary", "decompose", "feedback"), ("learned",)):
        hits, trace = find(folder, question, 5, rerank=rerank, expand=names)
        assert len(hits) == 5
        found[names] = trace.added
    assert found[()] == found[("learned",)] == ()
    assert any("purchases of property" in text for text in found[("glossary",)])
    assert len(found[("glossary", "decompose", "feedback")]) > len(found[("glossary",)])


def test_a_model_that_rewords(folder: Path) -> None:
    hits, _ = find(folder, "capital expenditure of Acme in 2021", 3, expand=("hyde", "multi_query"), expander="echo")
    assert hits
    with pytest.raises(RecipeError, match="retrieval.expand: found 'glosary'.*Did you mean 'glossary'"):
        find(folder, "capex", 3, expand=("glosary",))


def test_the_rows_of_a_ratio_are_shown_together(tmp_path: Path) -> None:
    rows = [f"Other asset number {number} in a long list of things {number}00 {number}50" for number in range(1, 40)]
    sheet = ["Consolidated Balance Sheets", "December 31, (in millions) 2021 2020", "Cash and cash equivalents 410 390",
             "Total current assets 900 850", *rows, "Total assets 5,000 4,800", "Total current liabilities 600 500",
             "Total liabilities 3,000 2,900", "Retained earnings 1,000 900", "Accounts payable 200 190"]
    (tmp_path / "documents").mkdir()
    pages = [PROSE, "\n".join(sheet), "Our current ratio is sound."]
    (tmp_path / "documents" / "ACME_2021_10K.md").write_text("\f".join(pages))
    recipe = Recipe.model_validate({"documents": {"folder": str(tmp_path / "documents")}, "index": {"embedder": "hash"}})
    build_index(recipe, tmp_path / "index")
    hits, _ = find(tmp_path / "index", "What was Acme's current ratio in FY2021? Use the balance sheet.", 3)
    shown = "\n".join(hit.chunk.text for hit in hits[:2])
    assert {hit.chunk.page for hit in hits[:2]} == {2}
    assert "Total current assets" in shown
    assert "Total current liabilities" in shown
    assert len({hit.chunk.id for hit in hits}) == len(hits)


def test_an_answer_says_that_the_search_fell_back(folder: Path) -> None:
    from ragtune.answering.answerer import Answerer
    from ragtune.models.language import open_generator
    from ragtune.recipe.schema import Generator

    recipe = Recipe.model_validate({"generator": {"model": "extractive"}})
    answerer = Answerer(open_generator(Generator(model="extractive")), open_searcher(folder, Retrieval()), recipe)
    told = answerer.answer("What was Acme's capital expenditure in FY2035?")
    assert any("2035" in problem and problem.startswith("search: ") for problem in told.problems)
    right = answerer.answer("What was Acme's capital expenditure in FY2021?")
    assert not any(problem.startswith("search: ") for problem in right.problems)
    assert "157" in right.text
    assert [citation.page for citation in right.citations] == [3]
