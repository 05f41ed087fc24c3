"""The records that flow through ragtune: frozen, made of plain values, each with to_dict and from_dict."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict, TypeVar, Union

Value = Union[str, int, float, bool, None]
Metadata = Mapping[str, Value]
Outcome = Literal["correct", "wrong", "refused"]
Setting = Literal["closed_book", "retrieval", "oracle"]
OUTCOMES: tuple[Outcome, ...] = ("correct", "wrong", "refused")
SETTINGS: tuple[Setting, ...] = ("closed_book", "retrieval", "oracle")
PAGE_BREAK = "\f"
REFUSAL = "Not found in the documents."
"""The whole completion where the passages do not hold the answer."""
ANSWER = "Answer:"
"""What a completion's last line begins with."""


class Message(TypedDict):
    """One chat message, as every chat template and provider takes it."""

    role: Literal["system", "user", "assistant"]
    content: str


R = TypeVar("R", bound="Record")


def _convert(kind: Any, value: Any) -> Any:
    """Build the nested records inside ``value`` that the annotation ``kind`` names."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_convert(arguments[0], item) for item in value)
    if origin in (Union, types.UnionType):
        inner = next((a for a in arguments if isinstance(a, type) and issubclass(a, Record)), None)
        return inner.from_dict(value) if inner is not None and isinstance(value, Mapping) else value
    if isinstance(kind, type) and issubclass(kind, Record):
        return kind.from_dict(value)
    return value


class Record:
    """Gives a frozen dataclass to_dict and from_dict; unknown keys are ignored, missing ones take their default."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain, JSON-ready values, nested records included."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_dict(cls: type[R], values: Mapping[str, Any]) -> R:
        """Build the record from what to_dict returned. Raises TypeError where a required field is missing."""
        kinds = typing.get_type_hints(cls)
        names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
        return cls(**{name: _convert(kinds[name], values[name]) for name in names if name in values})


@dataclass(frozen=True)
class Page(Record):
    """One page of text. ``number`` counts from 1, as a PDF viewer shows it."""

    number: int
    text: str


@dataclass(frozen=True)
class Document(Record):
    """One source file. ``id`` is a hash of its bytes, ``name`` its file name without the suffix."""

    id: str
    name: str
    path: str
    pages: tuple[Page, ...]
    metadata: Metadata = field(default_factory=dict)

    @property
    def text(self) -> str:
        """All pages joined by a form feed; the character spans of chunks count in this text."""
        return PAGE_BREAK.join(page.text for page in self.pages)


@dataclass(frozen=True)
class Chunk(Record):
    """The stored unit of text: ``text`` equals ``document.text[start:end]``.

    ``metadata`` holds the document's columns (company, fiscal_year, form, ...) and, for a piece of a
    statement, ``columns`` (the years over its numbers, joined by '|') and ``unit``.
    """

    id: str
    document_id: str
    document: str
    text: str
    page: int
    last_page: int
    start: int
    end: int
    metadata: Metadata = field(default_factory=dict)
    heading: str = ""


@dataclass(frozen=True)
class Hit(Record):
    """A chunk as a searcher found it. ``rank`` counts from 1; a higher ``score`` is better."""

    chunk: Chunk
    score: float
    rank: int
    searcher: str


@dataclass(frozen=True)
class Trace(Record):
    """How the hits of a question were found: the whole filter, why, whether what was asked for was not there, and the
    wordings that were added to the search.
    """

    where: str = ""
    reasons: tuple[str, ...] = ()
    is_fallback: bool = False
    added: tuple[str, ...] = ()


@dataclass(frozen=True)
class Passage(Record):
    """A hit as it stands in a prompt, cited as [number]. ``text`` may be shortened to fit the budget."""

    number: int
    text: str
    chunk_id: str
    document: str
    page: int
    start: int
    end: int
    title: str = ""
    rank: int = 0
    score: float = 0.0


@dataclass(frozen=True)
class Evidence(Record):
    """Where an answer stands: document name, page (from 1) and, where known, the text itself.

    Page 0 stands for one that a question file does not say: datasets.locate finds it by the text.
    """

    document: str
    page: int
    text: str = ""


@dataclass(frozen=True)
class Question(Record):
    """A question with its reference answer. An unanswerable one has an empty ``answer``.

    ``justification`` is what leads to the answer: the statement rows that were read
    (``Net sales 2021: 4,210``) and the calculation, one per line.
    """

    id: str
    text: str
    answer: str = ""
    evidence: tuple[Evidence, ...] = ()
    kind: str = ""
    justification: str = ""
    metadata: Metadata = field(default_factory=dict)

    @property
    def is_answerable(self) -> bool:
        """Whether the documents hold the answer."""
        return bool(self.answer)


@dataclass(frozen=True)
class Citation(Record):
    """The source of a statement: passage number, document, page and the quoted span of the document's text.

    ``is_inferred`` says that the model named no passage, or one without the line it cited, and that the line or number
    was found in this one afterwards.
    """

    passage: int
    document: str
    page: int
    chunk_id: str
    start: int
    end: int
    quote: str
    is_inferred: bool = False


@dataclass(frozen=True)
class Answer(Record):
    """What ragtune says to a question. ``text`` is the final answer, ``reasoning`` what stood before it."""

    question: str
    text: str
    citations: tuple[Citation, ...] = ()
    passages: tuple[Passage, ...] = ()
    is_refusal: bool = False
    reasoning: str = ""
    completion: str = ""
    problems: tuple[str, ...] = ()
    timings_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Example(Record):
    """One training item: chat messages, the completion to learn, and where it came from."""

    prompt: tuple[Message, ...]
    completion: str
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Pair(Record):
    """One preference item: the same prompt with a better and a worse completion."""

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Score(Record):
    """One metric of one answer, with a reason a person can read; ``confidence`` is how sure the outcome is, 0 to 1."""

    metric: str
    value: float
    reason: str
    question_id: str
    outcome: Outcome | None = None
    confidence: float | None = None
