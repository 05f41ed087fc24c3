"""Small to big: pages in place of the chunks found, their spans and ids, and the same pages where evidence is looked up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.answering.prompt import number_passages
from ragtune.datasets.gold import find_needs
from ragtune.errors import IndexFolderError
from ragtune.recipe.schema import Recipe, Retrieval
from ragtune.records import Evidence, Question
from ragtune.retrieval.index import build_index
from ragtune.retrieval.search import IndexSearcher, open_searcher
from ragtune.retrieval.wide import widen

PAGES = [
    "\n".join(f"Sentence {number} of page {page} is about {word}." for number, word in enumerate(words, start=1))
    for page, words in enumerate((("pumps", "valves"), ("boilers", "filters", "covers"), ("rotors", "belts")), start=1)
]


@pytest.fixture(scope="module", params=["rows", "tokens"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    docs = tmp_path_factory.mktemp("wide") / "docs"
    docs.mkdir()
    (docs / "manual.txt").write_text("\f".join(PAGES))
    (docs / "other.txt").write_text("Nothing about machines.")
    recipe = Recipe.model_validate({"pack": "plain", "documents": {"folder": str(docs), "workers": 1},
                                    "index": {"embedder": "hash", "chunk_tokens": 16, "chunker": request.param}})
    build_index(recipe, docs.parent / "index")
    return docs.parent / "index"


def searcher(folder: Path, **retrieval: object) -> IndexSearcher:
    return open_searcher(folder, Retrieval.model_validate({"returns": "page", **retrieval}))


@pytest.mark.parametrize("rerank", ["ranker", "none"])
def test_pages_are_returned_once_each_best_first(folder: Path, rerank: str) -> None:
    hits = searcher(folder, rerank=rerank).search("Which sentence is about filters and boilers?", 3)
    assert hits[0].chunk.text == PAGES[1]
    assert (hits[0].chunk.page, hits[0].chunk.last_page, hits[0].rank) == (2, 2, 1)
    assert len({(hit.chunk.document, hit.chunk.page) for hit in hits}) == len(hits) == 3
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_a_page_is_a_span_of_its_document_and_found_again_by_its_id(folder: Path) -> None:
    found = searcher(folder)
    for hit in found.search("machines", 4):
        text = found.index.document(hit.chunk.document).text
        assert text[hit.chunk.start : hit.chunk.end] == hit.chunk.text
        assert found.index.chunk(hit.chunk.id) == hit.chunk
    assert found.chunks_on_page("manual", 2)[0].text == PAGES[1]
    assert found.chunks_on_page("manual", 9) == []
    rows = range(len(found.index.places))
    assert {found.shown_of(row).page for row in rows if found.shown_of(row).document == "manual"} >= {1, 2}
    document = found.index.document("manual")
    for wrong in (f"{document.id}#page=9", "no-such#page=1", "#page=1"):
        with pytest.raises(IndexFolderError, match="has no chunk"):
            found.index.chunk(wrong)


def test_evidence_is_met_by_the_page_that_shows_it(folder: Path) -> None:
    found = searcher(folder)
    line = PAGES[1].split("\n")[2]
    question = Question("q", "What are covers?", "covers", (Evidence("manual", 2, line),))
    needs = find_needs(question, found)
    assert needs is not None
    shown = number_passages(found.search("covers", 3))
    assert [need.is_met_by(passage) for need in needs for passage in shown].count(True) == 1


ROWS_FOUND = st.lists(st.tuples(st.integers(0, 5), st.floats(0, 1)), unique_by=lambda pair: pair[0])


@given(ROWS_FOUND, st.integers(1, 9))
def test_widening_keeps_order_and_repeats_no_page(found: list[tuple[int, float]], k: int) -> None:
    places = np.array([[0, 1, 1], [0, 1, 2], [0, 3, 3], [1, 1, 1], [1, 1, 1], [1, 2, 4]], dtype=np.int32)
    pages = widen(places, found, k)
    assert len(pages) <= k
    assert len({page[:2] for page in pages}) == len(pages)
    first = {place: place_found for place_found, (row, _) in reversed(list(enumerate(found)))
             for place in [(int(places[row][0]), page) for page in range(places[row][1], places[row][2] + 1)]}
    assert [first[page[:2]] for page in pages] == sorted(first[page[:2]] for page in pages)
