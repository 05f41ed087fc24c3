"""LangChain's and LlamaIndex's default recipes on a folder of documents: one system a process, in their own environment.

    PEERS_PYTHON scripts/bench_peers.py JOB.json

scripts/bench_retrieval.py writes the job and calls this; its docstring says how to make the environment. The job names the
``system``, the ``files``, the sentence-transformers folder ``embedder``, ``questions`` (id, text, and the name of the
right document, used for the setting 'document' alone), the ``store`` folder, ``k`` and the file ``out`` for the result. What
was ingested is kept in the store folder with what it cost, so a second run only searches.

Ingest is measured in CPU-seconds of this process and its children, from the first file opened to the store written, with
libraries and embedder loaded before. A search is timed with the question's vector at hand.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WINDOW = 254  # tokens all-MiniLM-L6-v2 reads of a text, the two that frame it aside
Found = list[list[Any]]  # [document, page from 1, score] best first
Search = Callable[[list[float], int, "str | None"], Found]


def cpu_s() -> float:
    """Return the CPU-seconds of this process and its finished children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def say(text: str) -> None:
    """Show progress on stderr."""
    print(text, file=sys.stderr, flush=True)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(value))
    os.replace(temporary, path)


def count_tokens(embedder: Path, texts: list[str]) -> dict[str, int]:
    """Return how many tokens the stored texts have, and how many of them the embedder reads."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(embedder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    lengths = [len(encoding.ids) for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
    return {"chunks": len(texts), "stored": sum(lengths), "embedded": sum(min(length, WINDOW) for length in lengths)}


class Clock:
    """CPU-seconds by step of an ingest."""

    def __init__(self) -> None:
        self.steps: dict[str, float] = {}
        self.last, self.started = cpu_s(), time.perf_counter()

    def step(self, name: str) -> None:
        """End a step."""
        now = cpu_s()
        self.steps[name] = round(now - self.last, 3)
        self.last = now
        say(f"{name}: {self.steps[name]:.1f} CPU-s")

    def facts(self, pages: int) -> dict[str, Any]:
        """Return what the whole ingest cost."""
        total = sum(self.steps.values())
        return {"cpu_s": round(total, 3), "wall_s": round(time.perf_counter() - self.started, 3), "pages": pages,
                "steps_cpu_s": self.steps}


def open_langchain(job: dict[str, Any], store: Path) -> tuple[Search, Callable[[str], list[float]]]:
    """PyPDFLoader, RecursiveCharacterTextSplitter(1000, 200), HuggingFaceEmbeddings, FAISS.

    HTML is read by BSHTMLLoader and text by TextLoader; both make one page of a file. With a document given, all chunks are
    fetched before FAISS's filter, which by default would see twenty.
    """
    from langchain_community.document_loaders import BSHTMLLoader, PyPDFLoader, TextLoader
    from langchain_community.vectorstores import FAISS
    from langchain_huggingface import HuggingFaceEmbeddings
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    embeddings = HuggingFaceEmbeddings(model_name=job["embedder"], model_kwargs={"device": "cpu"})
    embeddings.embed_query("warm")
    if not (store / "ingest.json").is_file():
        clock, pages = Clock(), []
        for number, file in enumerate(job["files"], start=1):
            loader: Any = PyPDFLoader(file)
            if file.endswith(".html"):
                loader = BSHTMLLoader(file, open_encoding="utf-8", bs_kwargs={"features": "html.parser"})
            elif file.endswith(".txt"):
                loader = TextLoader(file, encoding="utf-8")
            pages += loader.load()
            say(f"reading: {number} of {len(job['files'])}")
        clock.step("read")
        chunks = RecursiveCharacterTextSplitter(chunk_size=1000, chunk_overlap=200).split_documents(pages)
        clock.step("split")
        database = FAISS.from_documents(chunks, embeddings)
        clock.step("embed")
        database.save_local(str(store))
        clock.step("write")
        texts = [chunk.page_content.replace("\n", " ") for chunk in chunks]
        write_json(store / "ingest.json", clock.facts(len(pages)) | count_tokens(Path(job["embedder"]), texts))
    # The docstore is LangChain's own pickle, written above by this script.
    database = FAISS.load_local(str(store), embeddings, allow_dangerous_deserialization=True)
    paths = {Path(file).stem: file for file in job["files"]}

    def search(vector: list[float], k: int, document: str | None) -> Found:
        if document is None:
            found = database.similarity_search_with_score_by_vector(vector, k)
        else:
            found = database.similarity_search_with_score_by_vector(
                vector, k, filter={"source": paths[document]}, fetch_k=database.index.ntotal)
        return [[Path(d.metadata["source"]).stem, d.metadata.get("page", 0) + 1, float(score)] for d, score in found]

    return search, embeddings.embed_query


def open_llamaindex(job: dict[str, Any], store: Path) -> tuple[Search, Callable[[str], list[float]]]:
    """SimpleDirectoryReader, SentenceSplitter (1024 tokens, 200 overlap) by default, SimpleVectorStore.

    The reader puts page label and file path into the text that is embedded; it takes HTML as the text it is, tags and all.
    Documents come in the order of pages, which is how a chunk's page is known: the label is the PDF's own and may differ.
    """
    from llama_index.core import Settings, SimpleDirectoryReader, StorageContext, VectorStoreIndex, load_index_from_storage
    from llama_index.core.node_parser import SentenceSplitter
    from llama_index.core.schema import MetadataMode, QueryBundle
    from llama_index.core.vector_stores import ExactMatchFilter, MetadataFilters
    from llama_index.embeddings.huggingface import HuggingFaceEmbedding

    Settings.embed_model = HuggingFaceEmbedding(model_name=job["embedder"], device="cpu")
    Settings.embed_model.get_query_embedding("warm")
    Settings.node_parser = SentenceSplitter()
    if not (store / "ingest.json").is_file():
        clock = Clock()
        pages = SimpleDirectoryReader(input_files=job["files"]).load_data()
        clock.step("read")
        nodes = Settings.node_parser.get_nodes_from_documents(pages)
        clock.step("split")
        index = VectorStoreIndex(nodes)
        clock.step("embed")
        index.storage_context.persist(str(store))
        clock.step("write")
        numbers: dict[str, int] = {}
        page_of = {}
        for page in pages:
            numbers[page.metadata["file_name"]] = numbers.get(page.metadata["file_name"], 0) + 1
            page_of[page.doc_id] = numbers[page.metadata["file_name"]]
        write_json(store / "pages.json", page_of)
        texts = [node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]
        write_json(store / "ingest.json", clock.facts(len(pages)) | count_tokens(Path(job["embedder"]), texts))
    index = load_index_from_storage(StorageContext.from_defaults(persist_dir=str(store)))
    page_of = json.loads((store / "pages.json").read_text())
    names = {Path(file).stem: Path(file).name for file in job["files"]}
    retrievers: dict[str | None, Any] = {}

    def search(vector: list[float], k: int, document: str | None) -> Found:
        if document not in retrievers:
            filters = document and MetadataFilters(filters=[ExactMatchFilter(key="file_name", value=names[document])])
            retrievers[document] = index.as_retriever(similarity_top_k=k, filters=filters or None)
        found = retrievers[document].retrieve(QueryBundle("", embedding=vector))
        return [[Path(n.metadata["file_name"]).stem, page_of[n.node.ref_doc_id], float(n.score)] for n in found]

    return search, Settings.embed_model.get_query_embedding


SYSTEMS = {"langchain": open_langchain, "llamaindex": open_llamaindex}


def main() -> None:
    """Ingest or open, ask every question in both settings, write hits and timings."""
    job = json.loads(Path(sys.argv[1]).read_text())
    store = Path(job["store"])
    store.mkdir(parents=True, exist_ok=True)
    search, embed = SYSTEMS[job["system"]](job, store)
    vectors = {question["id"]: embed(question["text"]) for question in job["questions"]}
    hits: dict[str, dict[str, Found]] = {"shared": {}, "document": {}}
    times_ms: dict[str, list[float]] = {"shared": [], "document": []}
    for setting, found in hits.items():
        for number, question in enumerate(job["questions"]):
            document = question["document"] if setting == "document" else None
            if number == 0:
                search(vectors[question["id"]], job["k"], document)  # what is loaded by the first search is not timed
            started = time.perf_counter()
            found[question["id"]] = search(vectors[question["id"]], job["k"], document)
            times_ms[setting].append(1000 * (time.perf_counter() - started))
        say(f"searched: {setting}")
    ingest = json.loads((store / "ingest.json").read_text())
    write_json(Path(job["out"]), {"system": job["system"], "job": job["fingerprint"], "hits": hits, "ingest": ingest,
                                  "search_ms": times_ms})


if __name__ == "__main__":
    main()
