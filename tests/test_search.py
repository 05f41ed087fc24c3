"""Search: methods, filters before the cut, fusion, order among equals, bad questions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtune.errors import IndexFolderError, QuestionError, RecipeError
from ragtune.models.fake import HashEmbedder
from ragtune.recipe.schema import Recipe, Retrieval
from ragtune.retrieval import dense, lexical
from ragtune.retrieval.fuse import fuse_ranks
from ragtune.retrieval.index import build_index, open_index
from ragtune.retrieval.search import SEARCHERS, IndexSearcher, open_searcher
from ragtune.seams import Searcher

COMPANIES = ("Acme", "Bolt", "Cork", "Dent")
TOPICS = (
    "Net sales rose to 4,210 million.",
    "Capital expenditures fell.",
    "Nine employees left the company.",
    "The same line.",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    docs = tmp_path_factory.mktemp("search") / "docs"
    docs.mkdir()
    for company in COMPANIES:
        for year in (2020, 2021):
            (docs / f"{company.upper()}_{year}_10K.txt").write_text(
                "\f".join(f"{company} {topic}" for topic in TOPICS) + f"\fEnd {year}"
            )
    recipe = Recipe.model_validate({"documents": {"folder": str(docs), "workers": 1}, "index": {"embedder": "hash"}})
    build_index(recipe, docs.parent / "index")
    return docs.parent / "index"


def searcher(folder: Path, **retrieval: object) -> IndexSearcher:
    """Open the folder for search by the searchers alone; router, expansion and ranker have their own tests."""
    return open_searcher(folder, Retrieval.model_validate({"route": False, "rerank": "none", "expand": (), **retrieval}))


@pytest.mark.parametrize("method", list(SEARCHERS))
def test_contract(folder: Path, method: str) -> None:
    """What any Searcher keeps."""
    found = searcher(folder, method=method)
    assert isinstance(found, Searcher)
    hits = found.search("What were the capital expenditures of Bolt in 2021?", 5)
    assert (hits[0].chunk.document, hits[0].chunk.page) == ("BOLT_2021_10K", 2)
    assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5]
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert {hit.searcher for hit in hits} == {method}
    assert len({hit.chunk.id for hit in hits}) == 5
    assert found.search("What were the capital expenditures of Bolt in 2021?", 5) == hits
    assert found.search_many(["net sales", "What were the capital expenditures of Bolt in 2021?"], 5)[1] == hits
    assert [hit.chunk for hit in hits if hit.rank == 1] == found.chunks_on_page("BOLT_2021_10K", 2)
    assert found.chunks_on_page("BOLT_2021_10K", 99) == []
    assert len(found.search("Acme Bolt Cork Dent company line net sales capital employees end", 1000)) == 40
    assert found.search_many([], 3) == []


@pytest.mark.parametrize("method", list(SEARCHERS))
def test_filters_come_before_the_cut(folder: Path, method: str) -> None:
    """The best hits belong to Bolt; a filter for Dent still fills k from Dent alone."""
    found = searcher(folder, method=method, candidates=4)
    hits = found.search("capital expenditures of Bolt", 4, "company = 'dent' and fiscal_year = 2020")
    assert hits
    assert {hit.chunk.document for hit in hits} == {"DENT_2020_10K"}
    assert hits[0].chunk.page == 2
    pages = found.search("net sales", 50, "page = 1 and document in ('ACME_2020_10K', 'acme_2021_10k')")
    assert {(hit.chunk.document, hit.chunk.page) for hit in pages} == {("ACME_2020_10K", 1), ("ACME_2021_10K", 1)}
    assert found.search("net sales", 5, "company = 'Nobody'") == []
    assert found.search("net sales", 5, "fiscal_year > 2021 or page = 77") == []


@pytest.mark.parametrize("method", list(SEARCHERS))
def test_the_recipes_filter_and_the_callers_both_hold(folder: Path, method: str) -> None:
    found = searcher(folder, method=method, where="fiscal_year = 2021")
    assert {hit.chunk.metadata["fiscal_year"] for hit in found.search("net sales", 50)} == {2021}
    assert {hit.chunk.document for hit in found.search("net sales", 50, "company = 'Cork'")} == {"CORK_2021_10K"}
    assert found.search("net sales", 5, "fiscal_year = 2020") == []


def test_years_and_numbers_are_words(folder: Path) -> None:
    found = searcher(folder, method="lexical")
    assert {hit.chunk.metadata["fiscal_year"] for hit in found.search("2021", 50)} == {2021}
    assert {hit.chunk.page for hit in found.search("$4210", 50)} == {1}
    assert {hit.chunk.page for hit in found.search("employee", 50)} == {3}
    assert found.search("what is the of zzzz", 50) == []
    assert lexical.tokenise("Net sales rose to $4,210.5 in 2021; what's 10-K?") == [
        "net",
        "sale",
        "rose",
        "4210.5",
        "2021",
        "what",
        "10",
        "k",
    ]


@pytest.mark.parametrize("method", list(SEARCHERS))
def test_equal_scores_are_in_the_order_of_the_index(folder: Path, method: str) -> None:
    hits = searcher(folder, method=method).search("the same line", 3, "page = 4 and fiscal_year = 2020")
    places = [hit.chunk.document for hit in hits]
    assert places == ["ACME_2020_10K", "BOLT_2020_10K", "CORK_2020_10K"] or method != "lexical"
    assert places == sorted(places) or len({round(hit.score, 6) for hit in hits}) > 1


@pytest.mark.parametrize("question", ["", "  ", "\n"])
def test_empty_questions(folder: Path, question: str) -> None:
    with pytest.raises(QuestionError, match="the question is empty"):
        searcher(folder).search(question, 3)
    with pytest.raises(QuestionError, match="question 2 of 2 is empty"):
        searcher(folder).search_many(["fine", question], 3)


def test_bad_requests(folder: Path) -> None:
    with pytest.raises(QuestionError, match="k is 0"):
        searcher(folder).search("x", 0)
    with pytest.raises(QuestionError, match="no column 'sector'"):
        searcher(folder).search("x", 3, "sector = 'Tools'")
    with pytest.raises(QuestionError, match="filter is empty"):
        searcher(folder).search("x", 3, "")
    with pytest.raises(QuestionError, match="no column 'yer'"):
        searcher(folder, where="yer = 3")
    with pytest.raises(RecipeError, match=r"retrieval.method: found 'dens', .* Did you mean 'dense'"):
        searcher(folder, method="dens")
    with pytest.raises(RecipeError, match="both dense_weight and lexical_weight are 0"):
        searcher(folder, dense_weight=0, lexical_weight=0)


def test_another_embedder(folder: Path) -> None:
    class Other(HashEmbedder):
        name = "other"
        fingerprint = "other:1"

    with pytest.raises(IndexFolderError, match=r"'hash' .* found 'other'"):
        open_searcher(folder, Retrieval(), Other())
    assert open_searcher(folder, Retrieval(), HashEmbedder()).search("net sales", 1)


def test_one_weight_alone_gives_that_searchers_order(folder: Path) -> None:
    only = searcher(folder, method="fused", dense_weight=0).search("capital", 5)
    lexical_hits = searcher(folder, method="lexical").search("capital", 5)
    assert [hit.chunk.id for hit in only] == [hit.chunk.id for hit in lexical_hits]


def test_fusion_by_hand() -> None:
    fused = fuse_ranks([[(1, 0.9), (2, 0.8)], [(2, 7.0), (3, 5.0)]], [1.0, 2.0], 3)
    assert fused == [(2, pytest.approx(1 / 62 + 2 / 61)), (3, pytest.approx(2 / 62)), (1, pytest.approx(1 / 61))]
    assert fuse_ranks([[(5, 1.0)], [(4, 1.0)]], [1.0, 1.0], 5) == [(4, 1 / 61), (5, 1 / 61)]
    assert fuse_ranks([[(1, 1.0)], [(2, 1.0)]], [1.0, 0.0], 5) == [(1, 1 / 61)]


@given(seed=st.integers(0, 10**6), rows=st.integers(1, 80), k=st.integers(1, 100), share=st.floats(0, 1))
@settings(deadline=None, max_examples=50)
def test_dense_against_numpy(tmp_path_factory: pytest.TempPathFactory, seed: int, rows: int, k: int, share: float) -> None:
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(rows, 8)).astype(np.float32)
    vectors[rows // 2 :] = vectors[: rows - rows // 2]  # equal rows
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    keep = random.random(rows) < share
    folder = tmp_path_factory.mktemp("dense")
    dense.build_dense(vectors, folder)
    question = vectors[:1]
    found = dense.search_dense(dense.open_dense(folder, rows), question, k, keep)[0]
    scores = np.round(vectors @ question[0], 6)
    wanted = sorted(np.flatnonzero(keep), key=lambda row: (-scores[row], row))[:k]
    assert len(found) == len(wanted)
    assert np.allclose([score for _, score in found], scores[wanted], atol=2e-6)
    assert all(keep[row] for row, _ in found)


def test_an_index_of_other_rows_is_refused(tmp_path: Path) -> None:
    dense.build_dense(np.eye(3, dtype=np.float32), tmp_path)
    with pytest.raises(IndexFolderError, match="3 vectors for 4 chunks"):
        dense.open_dense(tmp_path, 4)
    (tmp_path / dense.FILE).write_bytes(b"rubbish")
    with pytest.raises(IndexFolderError, match="cannot be read"):
        dense.open_dense(tmp_path, 3)


def test_chunks_over_two_pages_count_on_both(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("one two three\ffour five six")
    recipe = Recipe.model_validate(
        {"documents": {"folder": str(tmp_path / "docs")}, "index": {"embedder": "hash", "chunker": "tokens"}}
    )
    build_index(recipe, tmp_path / "index")
    index = open_index(tmp_path / "index")
    assert [(c.page, c.last_page) for c in index.chunks("a")] == [(1, 2)]
    assert index.chunks_on_page("a", 1) == index.chunks_on_page("a", 2) == index.chunks("a")
    found = IndexSearcher(index, Retrieval())
    assert len(found.search("five", 5, "page = 2")) == len(found.search("five", 5, "page = 1")) == 1
    assert found.search("five", 5, "page = 3") == []


def test_threads_may_search_together(folder: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    found = searcher(folder)
    wanted = [hit.chunk.id for hit in found.search("net sales of Cork", 5)]
    with ThreadPoolExecutor(8) as pool:
        for hits in pool.map(lambda _: found.search("net sales of Cork", 5), range(64)):
            assert [hit.chunk.id for hit in hits] == wanted


@pytest.mark.parametrize("method", list(SEARCHERS))
@pytest.mark.parametrize("question", ["净销售额是多少？", "كم كانت المبيعات؟", "📈💶", "\u200b?", "ﬁ\x00x"])
def test_a_question_in_another_script(folder: Path, method: str, question: str) -> None:
    found = searcher(folder, method=method)
    hits = found.search(question, 5)
    assert len(hits) == len({hit.chunk.id for hit in hits}) <= 5
    assert all(np.isfinite(hit.score) for hit in hits)
    assert found.search(question + " capital Bolt", 5)[0].chunk.page == 2


@pytest.mark.parametrize("method", list(SEARCHERS))
def test_k_larger_than_the_index(folder: Path, method: str) -> None:
    found = searcher(folder, method=method)
    assert len(found.search("Acme Bolt Cork Dent company line net sales capital employees end", 10**6)) == 40
    assert len(found.search("net sales", 10**6, "document = 'ACME_2020_10K' and page = 1")) == 1
