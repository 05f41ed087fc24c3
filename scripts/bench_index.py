"""Index a folder of filings and measure it: pages and chunks a second, CPU seconds, memory, page recall of each searcher.

    python scripts/bench_index.py --pdfs FOLDER/pdfs --questions FOLDER/questions.jsonl --out work/bench/index

Page recall@k is the share of questions with an evidence page among the pages of the first k hits, over all documents
('shared'), with the filter the question's company and year make ('filtered'), and inside the right document ('document').
Questions are read in FinanceBench's shape, whose page numbers count from zero.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ragtune.files import read_jsonl
from ragtune.models.embed import open_embedder
from ragtune.recipe.schema import Recipe, Retrieval
from ragtune.retrieval.index import Index, open_index
from ragtune.retrieval.search import SEARCHERS, IndexSearcher
from ragtune.stages.index import run_index

KS = (1, 5, 10, 20)


def show(task: str, done: int, total: int) -> None:
    """Show progress on stderr."""
    print(f"\r{task} {done}/{total}   ", end="", file=sys.stderr, flush=True)


def cpu_seconds() -> float:
    """Return the processor time of this process and of the reading processes that ended."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def gold_pages(question: Mapping[str, Any]) -> set[tuple[str, int]]:
    """Return (document, page from 1) of each piece of evidence."""
    return {(e.get("evidence_doc_name") or e.get("doc_name") or question["doc_name"], e["evidence_page_num"] + 1)
            for e in question["evidence"]}


def filter_of(index: Index, name: str, setting: str) -> str | None:
    """Return the filter a setting puts on a question about this document."""
    quoted = name.replace("'", r"\'")
    if setting == "shared":
        return None
    if setting == "document":
        return f"document = '{quoted}'"
    metadata = next(document.metadata for document in index.documents() if document.name == name)
    company = str(metadata["company"]).replace("'", r"\'")
    return f"company = '{company}' and fiscal_year = {metadata['fiscal_year']}"


def page_recall(index: Index, questions: Sequence[Mapping[str, Any]], method: str, setting: str) -> dict[str, float]:
    """Return recall by k and the milliseconds one search took."""
    searcher, found, started = IndexSearcher(index, Retrieval(method=method)), dict.fromkeys(KS, 0), time.perf_counter()
    for question in questions:
        hits = searcher.search(question["question"], max(KS), filter_of(index, question["doc_name"], setting))
        gold = gold_pages(question)
        for k in KS:
            found[k] += any((hit.chunk.document, hit.chunk.page) in gold for hit in hits[:k])
    took_ms = 1000 * (time.perf_counter() - started) / max(1, len(questions))
    return {**{f"recall@{k}": round(found[k] / max(1, len(questions)), 3) for k in KS}, "search_ms": round(took_ms, 1)}


def main() -> None:
    """Build the index (or take over what did not change), measure, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pdfs", type=Path, required=True)
    parser.add_argument("--questions", type=Path)
    parser.add_argument("--metadata", type=Path, help="sidecar file; none: file names and covers alone")
    parser.add_argument("--include", nargs="*", default=["**/*.pdf"])
    parser.add_argument("--embedder", default="minilm")
    parser.add_argument("--engine", default="auto", help="index.embedder_engine")
    parser.add_argument("--chunker", default="rows")
    parser.add_argument("--out", type=Path, default=Path("work/bench/index"))
    options = parser.parse_args()
    recipe = Recipe.model_validate({
        "name": "bench",
        "index": {"embedder": options.embedder, "embedder_engine": options.engine, "chunker": options.chunker},
        "documents": {"folder": str(options.pdfs), "include": options.include,
                      "metadata": str(options.metadata) if options.metadata else None}})
    open_embedder(options.embedder, options.engine).embed_questions(["warm"])  # converting is done once, not for each index
    started_s = cpu_seconds()
    summary = run_index(recipe, options.out, show)
    cpu_s = cpu_seconds() - started_s
    result: dict[str, Any] = {"index": summary.to_dict(), "cpu_s": round(cpu_s, 1),
                              "cpu_s_per_1000_pages": round(1000 * cpu_s / max(1, summary.pages), 1)}
    if options.questions:
        started = time.perf_counter()
        index = open_index(options.out)
        result["open_s"] = round(time.perf_counter() - started, 3)
        names = {document.name for document in index.documents()}
        questions = [row for _, row in read_jsonl(options.questions) if row["doc_name"] in names]
        result["questions"] = len(questions)
        result["page_recall"] = {f"{method}, {setting}": page_recall(index, questions, method, setting)
                                 for method in SEARCHERS for setting in ("shared", "filtered", "document")}
    print(json.dumps(result, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
