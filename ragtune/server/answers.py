"""An answer as JSON: what the field `ragtune` of a chat completion and ragtune's own API hold alike."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, Field

from ragtune import records
from ragtune.server.service import Done, Served


class Citation(BaseModel):
    """The source of a statement. ``start`` and ``end`` are characters of the document's text."""

    number: int = Field(examples=[1], description="The passage it cites, as [n] in the text.")
    document: str = Field(examples=["NORVANE_2022_10K"])
    page: int = Field(examples=[7], description="From 1, as a PDF viewer counts; a passage over two pages has its first.")
    start: int = Field(examples=[18232])
    end: int = Field(examples=[18990])
    quote: str = Field(examples=["Net sales 2022: 4,210"], description="The line of the passage that says it.")
    chunk_id: str = Field(examples=["1d0cbb1f:42"])
    is_inferred: bool = Field(False, description="Found by the numbers or the line, where the model named another or none.")


class Passage(BaseModel):
    """What stood in the prompt, cited as [number]."""

    number: int = Field(examples=[1])
    title: str = Field(examples=["Norvane 10-K 2022, page 7 (in millions)"])
    text: str = Field(examples=["Net sales 2022: 4,210"])
    document: str = Field(examples=["NORVANE_2022_10K"])
    page: int = Field(examples=[7])
    start: int = Field(examples=[18232])
    end: int = Field(examples=[18990])
    chunk_id: str = Field(examples=["1d0cbb1f:42"])
    rank: int = Field(examples=[1])
    score: float = Field(examples=[0.83])


class Checked(BaseModel):
    """The checked answer with all that ragtune knows of it."""

    answer: str = Field(examples=["$4,210 million"], description="The checked answer without marks.")
    reasoning: str = Field("", description="The lines before the answer: what was read, and the calculation.")
    citations: list[Citation] = []
    passages: list[Passage] = []
    is_refusal: bool = Field(False, description="Whether the documents do not hold the answer, or what was written of it "
                                                "did not pass the check.")
    problems: list[str] = Field([], description="What the check found and set right, a sentence each.")
    filter: str = Field("", examples=["fiscal_year = 2022"], description="The whole filter the passages had to pass.")
    reasons: list[str] = Field([], description="How the filter came about: what in the question named a document.")
    notes: list[str] = Field([], description="What of the request was not used.")
    timings_s: dict[str, float] = Field({}, examples=[{"search": 0.021, "prompt": 0.004, "generate": 0.8, "check": 0.001,
                                                       "total": 0.826}])
    model: str = Field(examples=["demo-tuned"])


def show_passages(passages: Sequence[records.Passage]) -> list[Passage]:
    """Return passages as JSON shows them."""
    return [Passage(number=p.number, title=p.title, text=p.text, document=p.document, page=p.page, start=p.start, end=p.end,
                    chunk_id=p.chunk_id, rank=p.rank, score=round(float(p.score), 6)) for p in passages]


def show_citations(citations: Sequence[records.Citation]) -> list[Citation]:
    """Return citations as JSON shows them."""
    return [Citation(number=c.passage, document=c.document, page=c.page, start=c.start, end=c.end, quote=c.quote,
                     chunk_id=c.chunk_id, is_inferred=c.is_inferred) for c in citations]


def show_answer(done: Done, model: Served, notes: Sequence[str] = ()) -> Checked:
    """Return a finished answer as JSON shows it."""
    answer = done.answer
    return Checked(answer=answer.text, reasoning=answer.reasoning, citations=show_citations(answer.citations),
                   passages=show_passages(answer.passages), is_refusal=answer.is_refusal, problems=list(answer.problems),
                   filter=done.trace.where, reasons=list(done.trace.reasons), notes=list(notes),
                   timings_s=dict(done.timings_s), model=model.id)


def mark_answer(answer: records.Answer) -> str:
    """Return the checked answer followed by the marks of its citations, as plain clients see it: ``$4,210 million [1]``."""
    marks = "".join(f"[{citation.passage}]" for citation in answer.citations)
    return f"{answer.text} {marks}".strip()
