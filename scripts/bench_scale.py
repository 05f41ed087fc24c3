"""Measure an index of many chunks on synthetic vectors and texts: building, opening, memory, search under filters.

    python scripts/bench_scale.py --chunks 1000000 --texts 200000 --out work/bench/scale --kinds flat ivf
    python scripts/bench_scale.py --chunks 1000000 --out work/bench/scale --folder

Vectors are drawn around centres with a falling spectrum, as embeddings of text lie; questions are blurred vectors at a
cosine near .7. Every kind is built, opened and searched in a process of its own, whose memory is given twice: what it held
at most (mapped pages of files included, which the system may drop) and what it allocated itself. Times are of one thread.
'ratio' is the p50 of plain FAISS (IndexFlatIP in memory, with an IDSelectorBitmap under a filter) over ours, in the same
process; recall is the share of plain FAISS's first ten found.

``--folder`` measures a whole index folder instead: ``write_index`` makes it from documents that were never read from a
file, and another process opens it by ``open_searcher`` and searches it as the recipe 'filings' does (router, glossary,
ranker, filters). A document has 40 pages of five chunks, and a chunk 70 words drawn by Zipf's law or, on every eighth page,
three rows of a statement; every company has ten filings, a year and a form each. All is the project's own code but for the
embedder: a stand-in draws a vector for each text, and the question's vector is that of a chunk, blurred. Both processes run
under RLIMIT_DATA, a hard limit on the memory that no file backs; a file's mapped pages count in 'peak_mb'.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

SHARES = (None, 0.9, 0.5, 0.1, 0.01, 0.001)
QUESTIONS = 40
LIMIT_GB = 8
PAGES, CHUNKS_A_PAGE, LINES_A_CHUNK, WORDS_A_LINE = 40, 5, 5, 14
STATEMENTS = (
    ("CONSOLIDATED STATEMENTS OF INCOME", ("Net sales", "Cost of sales", "Net income")),
    ("CONSOLIDATED BALANCE SHEETS", ("Total current assets", "Inventories", "Total liabilities")),
    ("CONSOLIDATED STATEMENTS OF CASH FLOWS", ("Net cash provided by operating activities", "Depreciation and amortization",
                                               "Purchases of property, plant and equipment")),
)


def write_vectors(path: Path, chunks: int, dimension: int) -> None:
    """Write unit vectors around chunks / 50 centres, in blocks."""
    draws = np.random.default_rng(0)
    spectrum = (1 / (1 + np.arange(dimension) / 24)).astype(np.float32)
    centres = draws.normal(size=(max(1, chunks // 50), dimension)).astype(np.float32) * spectrum
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(chunks, dimension))
    for start in range(0, chunks, 50_000):
        many = min(50_000, chunks - start)
        noise = draws.normal(size=(many, dimension)).astype(np.float32) * spectrum * 0.7
        block = centres[draws.integers(0, len(centres), many)] + noise
        out[start : start + many] = block / np.linalg.norm(block, axis=1, keepdims=True)
    out.flush()


def memory_mb() -> dict[str, float]:
    """Return what this process held at most, and what it holds now that no file backs."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: round(int(status[key].split()[0]) / 1024) for name, key in (("peak_mb", "VmHWM"), ("own_mb", "RssAnon"))}


def timed(questions: Any, search: Any) -> tuple[list[Any], dict[str, float]]:
    """Return the results for each question and p50 and p95 in ms; p50 also of the processor's time, which others that run
    on the machine do not lengthen.
    """
    search(questions[0])
    results, took, worked = [], [], []
    for question in questions:
        started, begun = time.perf_counter(), time.process_time()
        results.append(search(question))
        took.append(1000 * (time.perf_counter() - started))
        worked.append(1000 * (time.process_time() - begun))
    return results, {"p50_ms": round(float(np.percentile(took, 50)), 2), "p95_ms": round(float(np.percentile(took, 95)), 2),
                     "p50_cpu_ms": round(float(np.percentile(worked, 50)), 2)}


def keep_some(rows: int, share: float | None, draws: np.random.Generator) -> np.ndarray | None:
    """Return a filter that keeps a share of the rows, in runs of 500 as documents lie in an index."""
    return None if share is None else np.repeat(draws.random(rows // 500 + 1) < share, 500)[:rows]


def build(folder: Path, kind: str, vectors: Path) -> dict[str, Any]:
    """Build one kind from the vectors on disk."""
    from ragtune.retrieval.dense import ABOUT, EXACT, build_dense

    folder.mkdir(parents=True, exist_ok=True)
    target = folder / EXACT
    target.unlink(missing_ok=True)
    os.link(vectors, target)
    started = time.perf_counter()
    build_dense(np.load(target, mmap_mode="r"), folder, kind)
    about = json.loads((folder / ABOUT).read_text())
    size = sum(path.stat().st_size for path in folder.iterdir() if path.suffix == ".faiss")
    return {"build_s": round(time.perf_counter() - started, 1), "build_cpu_s": round(time.process_time(), 1), **memory_mb(),
            "codes_mb": size >> 20, "probes": about["probes"], "recall_when_built": about["recall_at_50"]}


def search(folder: Path, kind: str, chunks: int) -> dict[str, Any]:
    """Open one kind and search it under filters of several selectivities."""
    import faiss

    from ragtune.retrieval.dense import open_dense, search_dense

    faiss.omp_set_num_threads(1)
    started = time.perf_counter()
    index = open_dense(folder, chunks)
    result: dict[str, Any] = {"open_ms": round(1000 * (time.perf_counter() - started), 1)}
    draws = np.random.default_rng(7)
    questions = index.reconstruct_batch(np.sort(draws.integers(0, chunks, QUESTIONS)))
    questions = questions + draws.normal(size=questions.shape).astype(np.float32) / index.d**0.5
    questions /= np.linalg.norm(questions, axis=1, keepdims=True)
    keeps = {share: keep_some(chunks, share, draws) for share in SHARES}
    ours = {share: timed(questions, lambda q, keep=keep: search_dense(index, q[None], 10, keep)[0])
            for share, keep in keeps.items()}
    result |= memory_mb()
    plain = faiss.IndexFlatIP(index.d)
    for start in range(0, chunks, 50_000):
        plain.add(np.array(index.vectors[start : start + 50_000]))
    for share, (found, times) in ours.items():
        keep = keeps[share]
        bitmap = None if keep is None else np.packbits(keep, bitorder="little")
        parameters = None if bitmap is None else faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bitmap))
        wanted, plain_times = timed(questions, lambda q, p=parameters: plain.search(q[None], 10, params=p)[1][0])
        recall = np.mean([len({row for row, _ in rows} & set(best.tolist())) / 10 for rows, best in zip(found, wanted)])
        ratio = round(plain_times["p50_ms"] / times["p50_ms"], 2)
        result[f"kept {share or 'all'}"] = {**times, "recall@10": round(float(recall), 4),
                                            "faiss_p50_ms": plain_times["p50_ms"], "ratio": ratio}
    return result


class DrawnReading:
    """Documents drawn while they are taken, in place of files that are read."""

    unreadable, sidecar, seconds = (), {}, 1.0

    def __init__(self, count: int) -> None:
        from ragtune.documents.read import SourceFile

        self.documents = list(draw_documents(count))
        self.files = tuple(SourceFile(document.path, document.name, document.id * 4) for document in self.documents)
        self.without_text = {file.path: () for file in self.files}

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        """Yield each file with its document."""
        return iter(zip(self.files, self.documents))


class DrawnEmbedder:
    """Draws a vector for each text, near one of the centres; a question has the vector that it was given."""

    name, dimension, fingerprint = "minilm", 384, "drawn:384"

    def __init__(self) -> None:
        draws = np.random.default_rng(0)
        self.spectrum = (1 / (1 + np.arange(self.dimension) / 24)).astype(np.float32)
        self.centres = draws.normal(size=(20_000, self.dimension)).astype(np.float32) * self.spectrum
        self.given: dict[str, np.ndarray] = {}

    def embed_passages(self, texts: Sequence[str], progress: Any = None) -> np.ndarray:
        """Return unit vectors, shape (len(texts), 384), the same for the same texts."""
        hashes = [zlib.crc32(text.encode()) for text in texts]
        noise = np.random.default_rng(hashes).standard_normal((len(texts), self.dimension), dtype=np.float32)
        vectors = self.centres[np.array(hashes) % len(self.centres)] + noise * self.spectrum * 0.7
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def embed_questions(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors, shape (len(texts), 384)."""
        return np.stack([self.given[text] for text in texts])

    def count_tokens(self, text: str) -> int:
        """Count as many tokens to a line that five lines fill a chunk."""
        return 180 // LINES_A_CHUNK * (1 + text.count("\n"))


def draw_documents(count: int) -> Iterator[Any]:
    """Yield documents of ten filings a company, their words drawn by Zipf's law."""
    from ragtune.records import Document, Page

    draws = np.random.default_rng(5)
    odds = np.cumsum(1 / (np.arange(400_000) + 30) ** 1.05)
    made = [f"w{rank}x" for rank in range(len(odds))]
    syllables = [one + vowel + last for one in "bdfgklmnprtvz" for vowel in "aeiou" for last in ("", "l", "n", "r", "x")]
    drawn = draws.integers(0, len(syllables), (-(-count // 10), 2, 3)).tolist()
    names = [" ".join("".join(syllables[part] for part in word).title() for word in name) for name in drawn]
    for number in range(count):
        company, year, form = names[number // 10], 2015 + number % 5, ("10-K", "10-Q")[number % 10 // 5]
        ranks = np.searchsorted(odds, draws.random((PAGES * CHUNKS_A_PAGE, LINES_A_CHUNK, WORDS_A_LINE)) * odds[-1]).tolist()
        pieces = ["\n".join(" ".join([made[rank] for rank in line]) for line in lines).capitalize() + "." for lines in ranks]
        for place in range(8 * CHUNKS_A_PAGE - 1, len(pieces), 8 * CHUNKS_A_PAGE):  # the last piece of every eighth page
            title, labels = STATEMENTS[place // (8 * CHUNKS_A_PAGE) % len(STATEMENTS)]
            amounts = draws.integers(100, 10_000, (len(labels), 2)).tolist()
            rows = [f"{label} {one:,} {other:,}" for label, (one, other) in zip(labels, amounts)]
            pieces[place] = "\n".join([title, f"Years ended December 31, (in millions) {year} {year - 1}", *rows])
        pages = tuple(Page(page + 1, "\n".join(pieces[page * CHUNKS_A_PAGE : (page + 1) * CHUNKS_A_PAGE]))
                      for page in range(PAGES))
        name = f"{company.replace(' ', '').upper()}_{year}_{form.replace('-', '')}"
        yield Document(f"{number:016x}", name, f"{name}.pdf", pages, {"company": company, "fiscal_year": year, "form": form})


def build_folder(folder: Path, chunks: int) -> dict[str, Any]:
    """Make an index folder of so many chunks by ``write_index``."""
    from ragtune.recipe.load import load_recipe
    from ragtune.retrieval import build as building

    embedder = DrawnEmbedder()
    building.open_embedder = lambda name, engine: embedder
    started = time.perf_counter()
    reading: Any = DrawnReading(chunks // (PAGES * CHUNKS_A_PAGE))
    result: dict[str, Any] = {"draw_s": round(time.perf_counter() - started, 1), "drawn_own_mb": memory_mb()["own_mb"]}
    tasks: dict[str, Any] = result.setdefault("tasks", {})

    def follow(task: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*values: Any, **named: Any) -> Any:
            begun = time.perf_counter(), time.process_time()
            done = function(*values, **named)
            took = {"s": round(time.perf_counter() - begun[0], 1), "cpu_s": round(time.process_time() - begun[1], 1)}
            tasks[task] = {**took, **memory_mb()}
            print(json.dumps({task: tasks[task]}), file=sys.stderr, flush=True)
            return done

        return run

    for part, task in ((building.Intake, "take_all"), (building.VectorWriter, "finish")):
        setattr(part, task, follow(task, getattr(part, task)))
    for task in ("build_dense", "build_lexical", "write_store", "write_signals", "write_manifest"):
        setattr(building, task, follow(task, getattr(building, task)))
    summary = building.write_index(load_recipe("filings"), folder, None, reading, building.Edits(), time.perf_counter())
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {**result, "documents": summary.documents, "pages": summary.pages, "chunks": summary.chunks,
            "build_s": summary.seconds, "build_cpu_s": round(time.process_time(), 1), **memory_mb(), "folder_mb": size >> 20}


def search_folder(folder: Path) -> dict[str, Any]:
    """Open an index folder, first from the disk and then from the system's cache, and ask it questions of several kinds."""
    import faiss

    from ragtune.recipe.load import load_recipe
    from ragtune.retrieval.search import open_searcher

    faiss.omp_set_num_threads(1)
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    embedder, retrieval = DrawnEmbedder(), load_recipe("filings").retrieval
    result: dict[str, Any] = {"own_before_mb": memory_mb()["own_mb"]}

    def clock(name: str, action: Callable[[], Any]) -> Any:
        started, begun = time.perf_counter(), time.process_time()
        done = action()
        result[name] = {"s": round(time.perf_counter() - started, 2), "cpu_s": round(time.process_time() - begun, 2)}
        return done

    clock("open_first", lambda: open_searcher(folder, retrieval, embedder))
    searcher = clock("open_again", lambda: open_searcher(folder, retrieval, embedder))
    result["opened"] = memory_mb()
    draws = np.random.default_rng(7)
    rows = draws.integers(0, int(searcher.index.manifest["chunks"]), QUESTIONS)
    targets = searcher.index.store.chunks_at(rows)
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")[rows]
    vectors = vectors + draws.normal(size=vectors.shape).astype(np.float32) / vectors.shape[1] ** 0.5
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    kinds = ask_about(targets, draws)
    for asks in kinds.values():
        embedder.given.update(zip([question for question, _ in asks], vectors))
    clock("first_question", lambda: searcher.search(kinds["named"][0][0], retrieval.k))
    for kind, asks in kinds.items():
        hits, times = timed(asks, lambda ask: searcher.search(ask[0], retrieval.k, ask[1]))
        found = [any(hit.chunk.id == target.id for hit in those) for those, target in zip(hits, targets)]
        same = [all(hit.chunk.metadata["company"] == target.metadata["company"] for hit in those)
                for those, target in zip(hits, targets)]
        result[kind] = {**times, "found": round(float(np.mean(found)), 3), "same_company": round(float(np.mean(same)), 3),
                        "own_mb": memory_mb()["own_mb"]}
    return {**result, **memory_mb()}


def ask_about(targets: Sequence[Any], draws: np.random.Generator) -> dict[str, list[tuple[str, str | None]]]:
    """Return for each kind of question one about each chunk, with its filter."""
    asks: dict[str, list[tuple[str, str | None]]] = {}
    for number, chunk in enumerate(targets):
        company, year, form = (chunk.metadata[name] for name in ("company", "fiscal_year", "form"))
        one, two, three = draws.permutation(sorted(set(chunk.text.lower().split()), key=len)[-12:])[:3]
        one_filing = f"company = '{company}' and fiscal_year = {year} and form = '{form}'"
        for kind, question, where in (
            ("named", f"What did {company} say about {one} and {two} in its {form} of fiscal {year}?", None),
            ("line item", f"What was the capital expenditure of {company} in fiscal {year}, {one}?", None),
            ("company", f"What does {company} tell about {one} and {three}?", None),
            ("open", f"What is said about {one}, {two} and {three}?", None),
            ("open line item", f"What were net sales and capital expenditure of {one} and {two}?", None),
            ("filter of one filing", f"What is it about {one} and {two}?", one_filing),
            ("filter of a tenth", f"What is there about {one} and {two}?", f"fiscal_year = {year} and form = '{form}'"),
            ("filter of most", f"What is written about {one} and {two}?", f"fiscal_year != {2015 + (year + 1) % 5}"),
            ("filter of a page", f"What stands at {one} and {two}?", f"page = {chunk.page} and page < {99 + number}"),
        ):
            asks.setdefault(kind, []).append((question, where))
    return asks


def words(folder: Path, texts: int) -> dict[str, Any]:
    """Build and search BM25 over texts of 70 words and questions of 6, drawn as words are once stop words are left out.

    The commonest word stands in about a quarter of the texts, as 'company' does in filings.
    """
    from ragtune.retrieval.lexical import build_lexical, open_lexical, search_lexical

    draws = np.random.default_rng(3)
    odds = np.cumsum(1 / (np.arange(400_000) + 30) ** 1.05)
    odds /= odds[-1]
    ranks = np.searchsorted(odds, draws.random((texts, 70)))
    made = [" ".join(f"w{rank}x" for rank in row) for row in ranks.tolist()]
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    build_lexical(made, folder)
    result: dict[str, Any] = {"texts": texts, "build_s": round(time.perf_counter() - started, 1), **memory_mb()}
    started = time.perf_counter()
    index = open_lexical(folder)
    result["open_ms"] = round(1000 * (time.perf_counter() - started), 1)
    result["files_mb"] = sum(path.stat().st_size for path in (folder / "lexical").iterdir()) >> 20
    questions = [" ".join(f"w{rank}x" for rank in np.searchsorted(odds, draws.random(6))) for _ in range(QUESTIONS)]
    for share in SHARES:
        keep = keep_some(texts, share, draws)
        result[f"kept {share or 'all'}"] = timed(questions, lambda q, keep=keep: search_lexical(index, [q], 50, keep)[0])[1]
    return result


def main() -> None:
    """Run every phase in its own process and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--texts", type=int, default=200_000)
    parser.add_argument("--kinds", nargs="*", default=["flat", "ivf"])
    parser.add_argument("--out", type=Path, default=Path("work/bench/scale"))
    parser.add_argument("--folder", action="store_true", help="a whole index folder instead")
    parser.add_argument("--phase", help=argparse.SUPPRESS)
    options = parser.parse_args()
    vectors = options.out / "vectors.npy"
    if options.phase:
        phase, _, kind = options.phase.partition(":")
        folder = options.out / (kind or "words")
        if kind == "index":
            resource.setrlimit(resource.RLIMIT_DATA, (LIMIT_GB << 30, LIMIT_GB << 30))
            result = build_folder(folder, options.chunks) if phase == "build" else search_folder(folder)
        else:
            result = (build(folder, kind, vectors) if phase == "build" else
                      search(folder, kind, options.chunks) if phase == "search" else words(folder, options.texts))
        return print(json.dumps(result))
    options.out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {"chunks": options.chunks, "dimension": options.dimension}
    if options.folder:
        kinds, others = ["index"], []
    else:
        write_vectors(vectors, options.chunks, options.dimension)
        kinds, others = options.kinds, ["words"] if options.texts else []
    for phase in [f"{phase}:{kind}" for kind in kinds for phase in ("build", "search")] + others:
        done = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--phase", phase], stdout=subprocess.PIPE, text=True,
                              check=True)
        report[phase] = json.loads(done.stdout.splitlines()[-1])
        print(json.dumps({phase: report[phase]}), file=sys.stderr, flush=True)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
