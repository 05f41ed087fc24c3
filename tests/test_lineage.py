"""Rows traced from question to file hash, and every reason why an index makes them outdated."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from dataset_fakes import ACME, CASH, PROSE, STATEMENT, ZENITH, MemorySearcher, count_words, make_document
from test_instruct import CAPEX, NOTHING, RATIO, SALES, A

from ragtune.datasets.instruct import build_examples
from ragtune.datasets.lineage import (
    DOCUMENT_GONE,
    EVIDENCE_MOVED,
    FILE_CHANGED,
    PASSAGE_CHANGED,
    PASSAGE_GONE,
    Lineage,
    Tracer,
    shown_passages,
    trace_row,
)
from ragtune.errors import IndexFolderError
from ragtune.recipe.schema import Dataset, Generator, Retrieval
from ragtune.records import Chunk, Document, Example


class MemoryIndex(MemorySearcher):
    """An index in memory; its chunk ids hold the document's id, so that another file has other ids."""

    def __init__(self, *documents: Document, lines_each: int = 6) -> None:
        super().__init__(*documents, lines_each=lines_each)
        self.all = documents
        self.chunks = [dataclasses.replace(c, id=f"{c.document_id}:{c.id}:{lines_each}") for c in self.chunks]

    def documents(self) -> list[Document]:
        return list(self.all)

    def chunk(self, chunk_id: str) -> Chunk:
        found = next((chunk for chunk in self.chunks if chunk.id == chunk_id), None)
        if found is None:
            raise IndexFolderError(f"no chunk {chunk_id}")
        return found


def make_row(*questions: Any, **fields: Any) -> Example:
    section = {"gold_share": 1.0, "closed_book_share": 0.0, "distractors": 2, "rows_per_question": 1, "seed": 3}
    budget = fields.pop("max_prompt_tokens", 1100)
    return build_examples(questions, MemoryIndex(ACME, ZENITH), count_words, Dataset.model_validate(section | fields),
                          Retrieval(k=3), Generator(max_prompt_tokens=budget)).examples[0]


def changed(*pages: str) -> Document:
    """Return Acme's filing as another file of the same name."""
    return dataclasses.replace(make_document(A, *pages, company="Acme", fiscal_year=2021, form="10-K"), id="another-file")


def test_a_row_leads_from_its_question_to_the_file() -> None:
    row = make_row(RATIO)
    traced = trace_row(row, MemoryIndex(ACME, ZENITH), RATIO)
    assert traced.reasons == ()
    assert traced.holds_evidence is True
    assert [(e.document, e.page, e.text, e.file, e.file_now) for e in traced.evidence] == [
        (e.document, e.page, e.text, f"id-{A}", f"id-{A}") for e in RATIO.evidence]
    assert [p.chunk_id for p in traced.passages] == row.provenance["passages"]
    gold = [p for p in traced.passages if p.is_gold]
    assert [p.chunk_id for p in gold] == sorted(row.provenance["gold"], key=row.provenance["passages"].index)
    assert {(p.document, p.page, p.file) for p in gold} == {(A, 2, f"id-{A}"), (A, 3, f"id-{A}")}
    for passage in traced.passages:
        chunk = MemoryIndex(ACME, ZENITH).chunk(passage.chunk_id)
        assert (passage.start, passage.end, passage.page) == (chunk.start, chunk.end, chunk.page)
    assert Lineage.from_dict(traced.to_dict()) == traced


def test_passages_are_read_from_the_prompt_as_they_were_shown() -> None:
    whole, short = make_row(SALES, distractors=4), make_row(SALES, distractors=4, max_prompt_tokens=330)
    for row in (whole, short):
        passages = shown_passages(row)
        assert [p.chunk_id for p in passages] == row.provenance["passages"]
        body = "\n\n".join(f"[{p.number}] {p.title}\n{p.text}" for p in passages)
        assert row.prompt[-1]["content"].startswith(f"{body}\n\nQuestion: ")
        assert trace_row(row, MemoryIndex(ACME, ZENITH), SALES).reasons == ()
    assert sum(len(p.text) for p in shown_passages(short)) < sum(len(p.text) for p in shown_passages(whole))
    assert shown_passages(Example((), "")) == ()


def test_a_footnote_that_looks_like_a_head_begins_no_passage() -> None:
    content = ("[1] Acme 10-K 2021, page 2\nNet sales 2021: 5\n\n[1] See page 7\nmore\n\n[2] Acme 10-K 2021, page 3\nx\n\n"
               "Question: ?")
    row = Example(({"role": "user", "content": content},), "y", {"passages": ["a", "b"]})
    assert [(p.number, p.text) for p in shown_passages(row)] == [(1, "Net sales 2021: 5\n\n[1] See page 7\nmore"), (2, "x")]


def test_a_document_that_is_gone() -> None:
    traced = trace_row(make_row(SALES), MemoryIndex(ZENITH), SALES)
    assert DOCUMENT_GONE in traced.reasons
    assert traced.holds_evidence is False
    assert traced.outdated_documents == (A,)


@pytest.mark.parametrize(("pages", "is_held"), [
    ((PROSE, STATEMENT, CASH), True), ((PROSE, STATEMENT.replace("4,210", "4,211"), CASH), False),
    ((PROSE, "A new page.", STATEMENT, CASH), False),
])
def test_a_changed_file_and_whether_its_page_still_holds_the_evidence(pages: tuple[str, ...], is_held: bool) -> None:
    traced = trace_row(make_row(SALES), MemoryIndex(changed(*pages), ZENITH), SALES)
    assert FILE_CHANGED in traced.reasons
    assert PASSAGE_GONE not in traced.reasons
    assert traced.holds_evidence is is_held
    assert [(e.file, e.file_now) for e in traced.evidence] == [(f"id-{A}", "another-file")]


def test_chunks_cut_otherwise_are_gone_though_the_file_is_the_same() -> None:
    traced = trace_row(make_row(SALES), MemoryIndex(ACME, ZENITH, lines_each=3), SALES)
    assert traced.reasons == (PASSAGE_GONE,)
    assert traced.holds_evidence is True
    assert {p.reason for p in traced.passages} == {PASSAGE_GONE}
    assert all(p.page > 0 for p in traced.passages)  # as the prompt says it


@pytest.mark.parametrize("change", [{"metadata": {"columns": "2022|2021"}}, {"metadata": {"unit": "thousands"}},
                                    {"metadata": {"company": "Acme Holdings"}}, {"text": "other text"}])
def test_a_passage_that_would_be_shown_otherwise(change: dict[str, Any]) -> None:
    index, row = MemoryIndex(ACME, ZENITH), make_row(CAPEX)
    gold = row.provenance["gold"][0]
    place = next(n for n, chunk in enumerate(index.chunks) if chunk.id == gold)
    fields = {**change, "metadata": {**index.chunks[place].metadata, **change.get("metadata", {})}}
    index.chunks[place] = dataclasses.replace(index.chunks[place], **fields)
    traced = trace_row(row, index, CAPEX)
    assert traced.reasons[0] == PASSAGE_CHANGED
    assert [p.chunk_id for p in traced.passages if p.reason] == [gold]
    assert (EVIDENCE_MOVED in traced.reasons) == ("text" in change)


def test_evidence_that_its_page_holds_no_more() -> None:
    moved = dataclasses.replace(SALES, evidence=(dataclasses.replace(SALES.evidence[0], text="Net sales $ 1 $ 2"),))
    traced = trace_row(make_row(SALES), MemoryIndex(ACME, ZENITH), moved)
    assert traced.reasons == (EVIDENCE_MOVED,)


def test_without_the_question_evidence_counts_where_gold_is_there() -> None:
    index = MemoryIndex(ACME, ZENITH)
    assert trace_row(make_row(SALES), index).holds_evidence is True
    assert trace_row(make_row(SALES, gold_share=0.0), index).holds_evidence is None
    assert trace_row(make_row(NOTHING), index).holds_evidence is None


def test_rows_without_file_hashes_show_a_changed_file_as_passages_gone() -> None:
    row = make_row(SALES)
    old = {key: value for key, value in row.provenance.items() if key != "files"}
    old["evidence"] = [{"document": e["document"], "page": e["page"]} for e in old["evidence"]]
    traced = trace_row(Example(row.prompt, row.completion, old), MemoryIndex(changed(PROSE, STATEMENT, CASH), ZENITH), SALES)
    assert traced.reasons == (PASSAGE_GONE,)
    bare = trace_row(Example(row.prompt, row.completion), MemoryIndex(ACME), SALES)
    assert (bare.reasons, bare.passages, bare.evidence) == ((), (), ())


def test_one_tracer_serves_many_rows_and_asks_for_each_chunk_once() -> None:
    index, asked = MemoryIndex(ACME, ZENITH), []
    find = index.chunk
    index.chunk = lambda chunk_id: asked.append(chunk_id) or find(chunk_id)  # type: ignore[method-assign,func-returns-value]
    tracer, row = Tracer(index), make_row(SALES)
    assert tracer.trace(row, SALES) == tracer.trace(row, SALES)
    assert sorted(asked) == sorted(row.provenance["passages"])
