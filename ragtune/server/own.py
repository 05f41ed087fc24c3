"""ragtune's own routes: ask and search with all that is known of an answer; what the work folder holds."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Annotated, Any, Union

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from ragtune.records import Hit, Trace
from ragtune.seams import GREEDY, Sampling
from ragtune.server.answers import Checked, mark_answer, show_answer, show_passages
from ragtune.server.auth import Caller, identify, identify_admin
from ragtune.server.errors import Rejected, describe_errors, error_body, explain
from ragtune.server.events import ALIVE, EventStream, frame
from ragtune.server.listening import Listener
from ragtune.server.openai_bodies import Share, Whole
from ragtune.server.service import Asking, Done, Found, Served
from ragtune.server.shelf import find_folder, list_folders
from ragtune.server.state import State

Asker = Annotated[Caller, Depends(identify)]
Admin = Annotated[Caller, Depends(identify_admin)]
Where = Union[str, dict[str, Any], None]
WHERE = Field(None, examples=["company = 'Norvane Industries' and fiscal_year = 2022"],
              description="A filter on the documents, as a text or a mapping; it is joined with the API key's own.")
QUESTION = Field(examples=["What were Norvane's net sales in fiscal 2022?"], max_length=100_000,
                 json_schema_extra={"minLength": 1, "pattern": r"\S"})
STREAM = """event: found
data: {"passages": [{"number": 1, "document": "NORVANE_2022_10K", "page": 7, ...}], "filter": "fiscal_year = 2022", ...}

event: draft
data: {"text": "$4,2"}

event: done
data: {"answer": "$4,210 million", "text": "$4,210 million [1]", "citations": [...], "timings_s": {...}, ...}

"""
REPORT_POLICY = ("default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
                 "sandbox allow-scripts")


class AskBody(BaseModel):
    """A question."""

    model_config = ConfigDict(extra="forbid")
    question: str = QUESTION
    model: Union[str, None] = Field(None, examples=["demo-tuned"], description="Of GET /v1/models; none: the first.")
    k: Union[Whole, None] = Field(None, ge=1, le=100, description="Passages in the prompt; without it the recipe's.")
    where: Where = WHERE
    max_tokens: Union[Whole, None] = Field(None, ge=1, le=1 << 20, description="Most tokens of the answer.")
    temperature: Share = Field(0.0, ge=0, le=2, description="0 always writes the same answer.")
    top_p: Share = Field(1.0, gt=0, le=1, description="Draw from the words that hold this share; with temperature.")
    seed: Whole = Field(0, ge=0, le=2**63 - 1, description="With temperature: the same seed draws the same answer where the "
                                                            "engine can.")
    stream: StrictBool = Field(False, description="Answer by server-sent events: found, draft (unchecked) and done.")


class AskAnswer(Checked):
    """The answer with its sources; ``text`` has the marks [n] of its citations."""

    text: str = Field(examples=["$4,210 million [1]"], description="The answer with the marks of its citations.")
    prompt_tokens: int
    completion_tokens: int


class SearchBody(BaseModel):
    """What is looked for."""

    model_config = ConfigDict(extra="forbid")
    question: str = QUESTION
    k: Union[Whole, None] = Field(None, ge=1, le=1000, description="Most hits; the recipe's where it is left out.")
    where: Where = WHERE


class HitAnswer(BaseModel):
    """A chunk that was found. ``start`` and ``end`` are characters of the document's text; ``text`` is theirs, less what the
    recipe's guardrails take out of passages."""

    rank: int
    score: float
    document: str
    page: int
    last_page: int
    start: int
    end: int
    text: str
    heading: str
    chunk_id: str
    searcher: str
    metadata: dict[str, Any]


class SearchAnswer(BaseModel):
    """The hits, best first, and how they were found."""

    hits: list[HitAnswer]
    filter: str = Field(description="The whole filter they had to pass.")
    reasons: list[str]
    is_fallback: bool = Field(description="Whether what the question named was not there, and all was searched.")
    timings_s: dict[str, float]


class Figures(BaseModel):
    """A dataset, run or evaluation: its name and what its manifest says."""

    model_config = ConfigDict(extra="allow")
    name: str


class FiguresList(BaseModel):
    """What there is, the newest first."""

    object: str = "list"
    data: list[Figures]


def routes(state: State) -> APIRouter:
    """Return ragtune's own routes."""
    router = APIRouter(prefix="/v1", tags=["ragtune"])
    service, recipe = state.service, state.recipe

    @router.post("/ask", summary="Ask the documents", response_model=AskAnswer, responses={
        200: {"description": "The answer, whole or, with `stream`, as server-sent events.",
              "content": {"text/event-stream": {"schema": {"type": "string"}, "example": STREAM}}},
        **describe_errors(400, 401, 404, 413, 429, 500, 504)})
    async def ask(body: AskBody, request: Request, caller: Asker) -> Any:
        """The answer, checked, with its citations, the passages it was read from, the filter they had to pass and the time
        each part took. A stream brings the event `found` with the passages, `draft` with each piece of the unchecked text,
        and `done` with all that an answer in one piece has; `error` where it fails.
        """
        model = service.find_model(body.model)
        listener = Listener(service, _asking(body, model, caller))
        if not body.stream:
            return show_done(await listener.done(request), model)
        await listener.ask()
        return EventStream(_events(listener, model, request.scope), listener.cancel)

    @router.post("/search", summary="Find chunks without answering", response_model=SearchAnswer,
                 responses=describe_errors(400, 401, 413, 500))
    async def search(body: SearchBody, caller: Asker) -> SearchAnswer:
        """What a prompt would be made of: the best chunks with their places, scores and columns. What the question names (a
        company, a year) narrows the search as it does for answers; `reasons` says how.
        """
        begun = time.perf_counter()

        def find() -> tuple[list[HitAnswer], Trace]:
            hits, trace = service.search(
                body.question, body.k or recipe.retrieval.k, _where(body.where), caller.tenant_filter)
            return [_show_hit(hit, service.guardrails.clean_text) for hit in hits], trace

        hits, trace = await service.turns.run(find)
        return SearchAnswer(hits=hits, filter=trace.where, reasons=list(trace.reasons),
                            is_fallback=trace.is_fallback, timings_s={"search": round(time.perf_counter() - begun, 5)})

    @router.get("/datasets", summary="List the datasets", response_model=FiguresList, responses=describe_errors(401, 403))
    def list_datasets(caller: Admin) -> FiguresList:
        """Rows that models are tuned on, with their counts. The newest first."""
        return _figures(state, "dataset")

    @router.get("/runs", summary="List the tuned runs", response_model=FiguresList, responses=describe_errors(401, 403))
    def list_runs(caller: Admin) -> FiguresList:
        """Tuned adapters with their losses and what they were tuned with. The newest first."""
        return _figures(state, "run")

    @router.get("/evaluations", summary="List the evaluations", response_model=FiguresList,
                responses=describe_errors(401, 403))
    def list_evaluations(caller: Admin) -> FiguresList:
        """How each model did in each setting: right, wrong, refused. The newest first."""
        return _figures(state, "evaluation")

    @router.get("/evaluations/{name}/report", summary="Open the report of an evaluation", response_class=HTMLResponse,
                responses=describe_errors(400, 401, 403, 404))
    def show_report(name: str, caller: Admin) -> HTMLResponse:
        """One self-contained page, which reaches nothing outside itself."""
        path = find_folder(recipe, "evaluation", name) / "report.html"
        if not path.is_file():
            raise Rejected(404, f"the evaluation '{name[:80]}' has no report page. Evaluate again.", code="report_not_found")
        return HTMLResponse(path.read_text(encoding="utf-8"), headers={
            "Content-Security-Policy": REPORT_POLICY, "X-Content-Type-Options": "nosniff"})

    return router


def _figures(state: State, kind: str) -> FiguresList:
    return FiguresList(data=[Figures(**each) for each in list_folders(state.recipe, kind)])


def _where(where: Where) -> str | None:
    return json.dumps(where) if isinstance(where, dict) else where


def _asking(body: AskBody, model: Served, caller: Caller) -> Asking:
    sampling = Sampling(1, body.temperature, body.top_p, body.seed) if body.temperature else GREEDY
    return Asking(body.question, model.id, body.k, _where(body.where), caller.tenant_filter, body.max_tokens, sampling,
                  "seed" in body.model_fields_set)


def show_done(done: Done, model: Served) -> AskAnswer:
    """Return the finished answer of a model as /v1/ask tells it."""
    checked = show_answer(done, model)
    return AskAnswer(**checked.model_dump(), text=mark_answer(done.answer), prompt_tokens=done.written.prompt_tokens,
                     completion_tokens=done.written.tokens)


async def _events(listener: Listener, model: Served, scope: Mapping[str, Any]) -> AsyncIterator[str]:
    """Yield what is said of a question that was queued, as events; an error is one too."""
    try:
        async for event in listener.events():
            if event is None:
                yield ALIVE
            elif isinstance(event, Found):
                passages = [passage.model_dump() for passage in show_passages(event.passages)]
                yield frame({"passages": passages, "filter": event.trace.where, "reasons": list(event.trace.reasons),
                             "is_fallback": event.trace.is_fallback, "seconds": round(event.seconds, 5)}, "found")
            elif isinstance(event, Done):
                yield frame(show_done(event, model).model_dump(), "done")
            else:
                yield frame({"text": event.text}, "draft")
    except Exception as error:
        status, message, param, code, _ = explain(error)
        yield frame(error_body(scope, status, message, param, code), "error")


def _show_hit(hit: Hit, clean: Callable[[str], str]) -> HitAnswer:
    chunk = hit.chunk
    return HitAnswer(rank=hit.rank, score=round(float(hit.score), 6), document=chunk.document, page=chunk.page,
                     last_page=chunk.last_page, start=chunk.start, end=chunk.end, text=clean(chunk.text),
                     heading=clean(chunk.heading), chunk_id=chunk.id, searcher=hit.searcher, metadata=dict(chunk.metadata))
