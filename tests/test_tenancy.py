"""Tenants of one index: whatever is asked, what is another's is not there."""

from __future__ import annotations

import dataclasses
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from tenants import ATTACKS, client_of, make_shared_index, owned_names, random_filter, tenant_of

from ragtune.errors import IndexFolderError, QuestionError
from ragtune.recipe.schema import Recipe, Retrieval
from ragtune.retrieval.index import Index
from ragtune.retrieval.search import IndexSearcher, open_searcher
from ragtune.retrieval.store import Store
from ragtune.retrieval.tenancy import OwnSearcher, check_tenant
from ragtune.server.auth import Gate

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))
TENANTS = 24


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return make_shared_index(tmp_path_factory.mktemp("shared"), TENANTS)


def whole(recipe: Recipe, **retrieval: object) -> IndexSearcher:
    return open_searcher(Path(recipe.work) / "shared" / "index", Retrieval.model_validate(retrieval))


def own(recipe: Recipe, number: int, **retrieval: object) -> OwnSearcher:
    return OwnSearcher(whole(recipe, **retrieval), check_tenant(tenant_of(number)))


def told_columns(error: Exception) -> str:
    return str(error).partition("Columns here:")[2].partition("\n")[0]


def test_a_tenant_sees_its_documents_and_no_others(recipe: Recipe) -> None:
    shared = whole(recipe)
    for number in range(TENANTS):
        index = OwnSearcher(shared, check_tenant(tenant_of(number))).index
        assert {document.name for document in index.documents()} == owned_names(index, number)
        assert len(index.documents()) == 2, client_of(number)
        assert index.own_rows.sum() * TENANTS == len(index.own_rows)


def test_no_filter_widens_what_a_tenant_sees(recipe: Recipe) -> None:
    shared, drawn = whole(recipe), random.Random(7)
    read, told = 0, []
    for number in range(12):
        searcher = OwnSearcher(shared, check_tenant(tenant_of(number)))
        owned = owned_names(searcher.index, number)
        for where in (*ATTACKS, *(random_filter(drawn) for _ in range(20))):
            try:
                hits, trace = searcher.trace_many(["What were net sales of Common11 Corp as word11 says?"], 30, where)[0]
            except QuestionError as error:
                told.append((number, told_columns(error)))
                continue
            read += 1
            assert {hit.chunk.document for hit in hits} <= owned
            others = [f"T{other:03d}_" for other in range(TENANTS) if other != number]
            assert not any(name in f"{trace.reasons}" for name in others)
    assert read > 100
    assert len(told) > 100
    assert not [columns for number, columns in told if number % 2 == 0 and "secret" in columns], "others' are not told"


@pytest.mark.parametrize(
    "retrieval",
    [
        {"route": False},
        {"returns": "page"},
        {"rerank": "none"},
        {"rerank": "none", "method": "dense"},
        {"rerank": "none", "method": "lexical"},
        {"expand": ("glossary", "feedback", "decompose")},
        {"expand": ("learned", "feedback"), "rerank": "none"},
        {"where": "fiscal_year > 2000"},
        {"where": "page = 1"},
    ],
    ids=str,
)
def test_no_way_of_retrieval_leaves_a_tenants_documents(recipe: Recipe, retrieval: dict[str, object]) -> None:
    searcher = own(recipe, 3, **retrieval)
    owned = owned_names(searcher.index, 3)
    for question in (
        "word11",
        "Net sales of Common11 Corp in 2020?",
        "What is ZP11?",
        "T011_2020_10K page 2",
        "supply and word3",
    ):
        for where in (None, "not client = 'nobody'", "page > 0"):
            hits, trace = searcher.trace_many([question], 50, where)[0]
            assert hits or question != "supply and word3"
            assert {hit.chunk.document for hit in hits} <= owned
            assert "11" not in f"{trace.reasons} {trace.added}".replace("Common11", "").replace(question, "")


def test_another_tenants_document_is_like_one_that_is_not_there(recipe: Recipe) -> None:
    searcher = own(recipe, 2)
    foreign, missing = "T003_2020_10K", "T999_2020_10K"
    told = []
    for name in (foreign, missing):
        with pytest.raises(IndexFolderError) as error:
            searcher.index.document(name)
        told.append(str(error.value).replace(name, "NAME"))
        assert searcher.index.chunks(name) == searcher.index.chunks_on_page(name, 1) == []
        assert searcher.chunks_on_page(name, 1) == []
        assert searcher.index.page_text(name, 1) == ""
    assert told[0] == told[1]
    assert "T003" not in told[0]
    for chunk_id in [chunk.id for chunk in searcher.whole.index.chunks(foreign)]:
        with pytest.raises(IndexFolderError):
            searcher.index.chunk(chunk_id)
    page_id = f"{searcher.whole.index.document(foreign).id}#page=1"
    assert searcher.whole.index.chunk(page_id).document == foreign
    with pytest.raises(IndexFolderError):
        searcher.index.chunk(page_id)
    assert all(foreign not in str(value) for value in searcher.index.manifest.values())


def test_columns_and_routes_are_told_from_the_tenants_own(recipe: Recipe) -> None:
    even = own(recipe, 2)
    with pytest.raises(QuestionError, match="there is no column 'secret'") as error:
        even.search("word2", 3, "secret = 1")
    assert "client" in told_columns(error.value)
    assert "secret" not in told_columns(error.value)
    assert own(recipe, 3).search("word3", 3, "secret = 3")
    _, trace = even.trace_many(["Net sales of Common11 Corp in 2020?"], 5)[0]
    assert "11" not in "".join(trace.reasons)
    assert "Common2 Corp" in "".join(trace.reasons)


def test_two_tenants_with_one_filter_text_get_their_own_rows(recipe: Recipe) -> None:
    shared = whole(recipe)
    for number in (5, 6, 5):
        searcher = OwnSearcher(shared, check_tenant(tenant_of(number)))
        assert {hit.chunk.document[:4] for hit in searcher.search("sales", 9, "page > 0")} == {f"T{number:03d}"}


def test_a_tenant_whose_filter_does_not_fit_the_index_has_nothing(recipe: Recipe) -> None:
    for text in ("owner = 'x'", "owner != 'x'", "client = 3", "not owner = 'x'"):
        searcher = OwnSearcher(whole(recipe), check_tenant(text))
        assert searcher.index.documents() == []
        hits, trace = searcher.trace_many(["word1"], 5)[0]
        assert (hits, trace.is_fallback) == ([], True)


@pytest.mark.parametrize(
    "text",
    [
        "page = 1",
        "client = 'x' and not page > 3",
        "page_number < 2",
        '{"page": 1}',
        "client = ",
        "",
        "client = 'x') or (client = 'y'",
    ],
)
def test_filters_that_cannot_be_a_tenants(text: str) -> None:
    with pytest.raises(QuestionError):
        check_tenant(text)


def check_all(recipe: Recipe, home: Path) -> Any:
    """Return what scripts/check_tenants.py finds of a few tenants and filters."""
    pytest.importorskip("uvicorn")
    import check_tenants

    server = recipe.server.model_copy(update={"folder": str(home / "server")})
    return check_tenants.check(recipe.model_copy(update={"server": server}), 3, 60, 2, stops=True)


def test_the_check_of_all_routes_finds_nothing(recipe: Recipe, tmp_path: Path) -> None:
    tally = check_all(recipe, tmp_path)
    assert tally.found == []
    assert tally.counts["with hits"] > 40
    assert tally.counts["requests"] > 100


identify = Gate.identify


async def _let_pass(caller):
    return caller


SABOTAGE = {
    "searches go to the whole index": ("ragtune.server.service.Service.searcher_for", lambda self, tenant: self.searcher),
    "routes see the whole index": ("ragtune.server.service.Service.index_for", lambda self, tenant: self.index),
    "filters keep rows of others": (
        "ragtune.retrieval.tenancy.OwnIndex._find_kept",
        lambda self, where: Index._find_kept(self.whole, where),
    ),
    "the columns of others are told": ("ragtune.retrieval.tenancy.OwnIndex.columns", lambda self: self.whole.columns()),
    "chunks are found by their ids": ("ragtune.retrieval.tenancy.OwnStore.chunk", lambda self, id: Store.chunk(self, id)),
    "all documents are a tenant's": (
        "ragtune.retrieval.tenancy.find_owned",
        lambda index, owned: (True,) * len(index.documents()),
    ),
    "what is on its way is listed": ("ragtune.server.holdings._is_said", lambda *_: True),
    "the key's filter is forgotten": (
        "ragtune.server.auth.Gate.identify",
        lambda *given: dataclasses.replace(identify(*given), tenant_filter=None),
    ),
    "a tenant is an administrator": ("ragtune.server.auth.identify_admin.__code__", _let_pass.__code__),
}


@pytest.mark.parametrize("name", SABOTAGE)
def test_the_check_of_all_routes_finds_a_tenancy_that_was_broken(
    name: str, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, broken = SABOTAGE[name]
    monkeypatch.setattr(place, broken, raising=False)
    assert check_all(recipe, tmp_path).found, name
