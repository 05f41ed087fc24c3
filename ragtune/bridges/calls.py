"""What the client asks a ragtune server, and how it reads the answers: all routes in one place, without any network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union
from urllib.parse import quote

from ragtune.bridges.wire import Call, Sent, ServerFault, stream_error
from ragtune.records import Answer, Chunk, Citation, Hit, Passage, Record, Value
from ragtune.server.jobs.record import Job

Where = Union[str, Mapping[str, Any], None]
"""A filter: a text, or a mapping as MongoDB has it."""
File = Union[str, Path, tuple[str, bytes]]
"""A file to upload: its path, or its name and bytes."""


@dataclass(frozen=True)
class ServedAnswer(Answer):
    """An answer with what the server tells beside it: the model, the whole filter and why, what of the request was not used.

    ``marked`` is the text with the marks [n] of its citations.
    """

    model: str = ""
    where: str = ""
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    marked: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True)
class Found(Record):
    """Of a stream: the passages that stand in the prompt, before anything is written."""

    passages: tuple[Passage, ...]
    where: str = ""


@dataclass(frozen=True)
class Draft(Record):
    """Of a stream: a piece of the draft. It is unchecked; the answer in the end may differ."""

    text: str


AskEvent = Union[Found, Draft, ServedAnswer]


@dataclass(frozen=True)
class StoredDocument(Record):
    """A document of the server. ``state`` is indexed, waiting (to be indexed), unreadable (``reason``) or leaving."""

    name: str
    file: str
    source: str
    state: str
    pages: int
    chunks: int
    bytes: int
    reason: str
    metadata: Mapping[str, Value]


@dataclass(frozen=True)
class Changed(Record):
    """Documents that came or go, and the job that brings the index in line; None where none was wanted."""

    documents: tuple[StoredDocument, ...]
    job: Job | None


@dataclass(frozen=True)
class Health(Record):
    """The server lives."""

    status: str
    version: str


def ask(question: str, model: str | None, k: int | None, where: Where, max_tokens: int | None, temperature: float,
        seed: int, is_streamed: bool) -> Call:
    """Return the call of a question."""
    body = {"question": question, "model": model, "k": k, "where": where, "max_tokens": max_tokens,
            "temperature": temperature or None, "seed": seed or None, "stream": is_streamed or None}
    return Call("POST", "/v1/ask", body)


def search(question: str, k: int | None, where: Where) -> Call:
    """Return the call of a search."""
    return Call("POST", "/v1/search", {"question": question, "k": k, "where": where})


def upload_documents(
    files: Sequence[File], metadata: Mapping[str, Any] | None, may_replace: bool, is_indexed: bool
) -> Call:
    """Return the call of an upload. Raises OSError for a file that cannot be read."""
    named = [(Path(each).name, Path(each).read_bytes()) if isinstance(each, (str, Path)) else each for each in files]
    form = {"replace": "true" if may_replace else "false", "index": "true" if is_indexed else "false"}
    if metadata:
        form["metadata"] = json.dumps(dict(metadata))
    return Call("POST", "/v1/documents", files=tuple(("files", each) for each in named), form=form,
                is_idempotent=may_replace)


def list_documents(state: str | None, limit: int, offset: int) -> Call:
    """Return the call that lists documents."""
    return Call("GET", "/v1/documents", params={"state": state, "limit": limit, "offset": offset})


def delete_document(name: str) -> Call:
    """Return the call that deletes a document."""
    return Call("DELETE", f"/v1/documents/{quote(name)}")


def submit_job(kind: str, settings: Mapping[str, Any] | None, name: str | None, dataset: str | None,
               run: str | None) -> Call:
    """Return the call that starts a job; made twice it would start two."""
    body = {"kind": kind, "settings": dict(settings or {}), "name": name, "dataset": dataset, "run": run}
    return Call("POST", "/v1/jobs", body, is_idempotent=False)


def list_jobs(state: str | None, kind: str | None, limit: int) -> Call:
    """Return the call that lists jobs."""
    return Call("GET", "/v1/jobs", params={"state": state, "kind": kind, "limit": limit})


def job(job_id: str, what: str = "", method: str = "GET") -> Call:
    """Return a call about one job."""
    return Call(method, f"/v1/jobs/{quote(job_id, safe='')}{what}")


HEALTH = Call("GET", "/health")
READY = Call("GET", "/ready", is_idempotent=False)
"""Not tried again: whoever asks wants to know how it is now."""
MODELS = Call("GET", "/v1/models")


def read_answer(question: str, told: Mapping[str, Any]) -> ServedAnswer:
    """Return an answer as /v1/ask tells it."""
    return ServedAnswer(
        question, told["answer"],
        tuple(Citation.from_dict({**each, "passage": each["number"]}) for each in told["citations"]),
        read_passages(told["passages"]), told["is_refusal"], told["reasoning"], problems=tuple(told["problems"]),
        timings_s=told["timings_s"], model=told["model"], where=told["filter"], reasons=tuple(told["reasons"]),
        notes=tuple(told["notes"]), marked=told["text"], prompt_tokens=told["prompt_tokens"],
        completion_tokens=told["completion_tokens"])


def read_passages(told: Sequence[Mapping[str, Any]]) -> tuple[Passage, ...]:
    """Return passages as the server tells them."""
    return tuple(Passage.from_dict(each) for each in told)


def read_ask_event(question: str, sent: Sent) -> AskEvent | None:
    """Return an event of a streamed answer; None for one of another name. Raises ApiError for an error in the stream."""
    if sent.name == "error":
        raise stream_error(sent.data)
    try:
        told = json.loads(sent.data)
        if sent.name == "found":
            return Found(read_passages(told["passages"]), told["filter"])
        if sent.name == "draft":
            return Draft(told["text"])
        return read_answer(question, told) if sent.name == "done" else None
    except (ValueError, TypeError, KeyError) as error:
        raise ServerFault(f"the stream holds what no ragtune server of this version says ({type(error).__name__}: {error})",
                          200, "unexpected_answer") from error


def read_hits(told: Mapping[str, Any]) -> list[Hit]:
    """Return the hits of a search; the server does not tell a document's id, so it is ''."""
    return [Hit(Chunk.from_dict({**each, "id": each["chunk_id"], "document_id": ""}), each["score"], each["rank"],
                each["searcher"]) for each in told["hits"]]


def read_documents(told: Mapping[str, Any]) -> list[StoredDocument]:
    """Return listed documents."""
    return [StoredDocument.from_dict(each) for each in told["data"]]


def read_changed(told: Mapping[str, Any]) -> Changed:
    """Return what an upload or a deletion did."""
    return Changed(tuple(read_documents(told)), Job.from_dict(told["job"]) if told["job"] else None)


def read_jobs(told: Mapping[str, Any]) -> list[Job]:
    """Return listed jobs."""
    return [Job.from_dict(each) for each in told["data"]]


def read_job_event(sent: Sent) -> Job:
    """Return the job as an event tells it. Raises ApiError for an error within the stream."""
    if sent.name == "error":
        raise stream_error(sent.data)
    return Job.from_dict(json.loads(sent.data))


def read_models(told: Mapping[str, Any]) -> list[str]:
    """Return the ids of what can be asked; the first is the default."""
    return [each["id"] for each in told["data"] if each.get("ragtune", {}).get("kind") != "embedding"]
