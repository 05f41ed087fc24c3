"""Measure an index of many chunks on synthetic vectors and texts: building, opening, memory, search under filters.

    python scripts/bench_scale.py --chunks 1000000 --texts 200000 --out work/bench/scale --kinds flat ivf

Vectors are drawn around centres with a falling spectrum, as embeddings of text lie; questions are blurred vectors at a
cosine near .7. Every kind is built, opened and searched in a process of its own, whose memory is given twice: what it held
at most (mapped pages of files included, which the system may drop) and what it allocated itself. Times are of one thread.
'ratio' is the p50 of plain FAISS (IndexFlatIP in memory, with an IDSelectorBitmap under a filter) over ours, in the same
process; recall is the share of plain FAISS's first ten found.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

SHARES = (None, 0.9, 0.5, 0.1, 0.01, 0.001)
QUESTIONS = 40


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
    """Return the results for each question and p50 and p95 in ms."""
    search(questions[0])
    results, took = [], []
    for question in questions:
        started = time.perf_counter()
        results.append(search(question))
        took.append(1000 * (time.perf_counter() - started))
    return results, {"p50_ms": round(float(np.percentile(took, 50)), 2), "p95_ms": round(float(np.percentile(took, 95)), 2)}


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
    parser.add_argument("--phase", help=argparse.SUPPRESS)
    options = parser.parse_args()
    vectors = options.out / "vectors.npy"
    if options.phase:
        phase, _, kind = options.phase.partition(":")
        folder = options.out / (kind or "words")
        result = (build(folder, kind, vectors) if phase == "build" else
                  search(folder, kind, options.chunks) if phase == "search" else words(folder, options.texts))
        return print(json.dumps(result))
    options.out.mkdir(parents=True, exist_ok=True)
    write_vectors(vectors, options.chunks, options.dimension)
    report: dict[str, Any] = {"chunks": options.chunks, "dimension": options.dimension}
    phases = [f"{phase}:{kind}" for kind in options.kinds for phase in ("build", "search")]
    for phase in phases + (["words"] if options.texts else []):
        done = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--phase", phase], stdout=subprocess.PIPE, text=True,
                              check=True)
        report[phase] = json.loads(done.stdout.splitlines()[-1])
        print(json.dumps({phase: report[phase]}), file=sys.stderr, flush=True)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
