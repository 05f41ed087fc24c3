"""What the page is told of an assistant: its models, and the values of the documents' columns that can be filtered by."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from pydantic import BaseModel, Field

from ragtune.datasets.questions import read_questions
from ragtune.errors import RagtuneError
from ragtune.recipe.schema import Recipe
from ragtune.records import Document
from ragtune.retrieval.filters import parse_filter
from ragtune.retrieval.index import Index
from ragtune.server.auth import Caller
from ragtune.server.service import CLOSED_BOOK, Served, Service

MOST_VALUES = 500
FIRST = ("company", "fiscal_year")
EXAMPLES = 3


class FacetValue(BaseModel):
    """A value and how many documents have it."""

    value: str | int | float | bool
    documents: int


class Facet(BaseModel):
    """A column with its values."""

    column: str = Field(examples=["fiscal_year"])
    label: str = Field(examples=["Fiscal year"])
    values: list[FacetValue]


class AskedModel(BaseModel):
    """A model by its id, and what people call it."""

    id: str = Field(examples=["demo-tuned"])
    label: str = Field(examples=["Tuned"])


class Assistant(BaseModel):
    """What can be asked, about which documents."""

    name: str
    description: str = ""
    models: list[AskedModel] = Field(description="The first is the default.")
    compare: list[AskedModel] = Field(description="The two that are shown side by side.")
    documents: int
    facets: list[Facet]
    examples: list[str] = Field([], description="Questions of the recipe's, where the key sees all documents.")
    is_admin: bool = False


class FilterKeeps(BaseModel):
    """What a filter keeps, or what is wrong with it."""

    documents: int = 0
    problem: str = Field("", examples=["filter, line 1, column 1: there is no column 'compny'. Did you mean 'company'?"])


def describe_assistant(service: Service, caller: Caller) -> Assistant:
    """Return what the caller may know of the assistant."""
    seen = service.index_for(caller.tenant_filter).documents()
    served = service.models()
    models = [AskedModel(id=model.id, label=label_of(model, service.recipe.name)) for model in served]
    open_book = [label for label, model in zip(models, served) if model.has_retrieval]
    base = next(label for label, model in zip(models, served) if model.adapter is None and model.has_retrieval)
    other = base if len(open_book) > 1 else next(m for m in models if m.id == base.id + CLOSED_BOOK)
    return Assistant(name=service.recipe.name, description=service.recipe.description or "", models=models,
                     compare=[open_book[0], other], documents=len(seen), facets=find_facets(seen),
                     examples=[] if caller.tenant_filter else find_examples(service.recipe, seen), is_admin=caller.is_admin)


def label_of(model: Served, recipe: str) -> str:
    """Return what people call a model: Tuned, Base, or its adapter's name."""
    name = model.id.removeprefix(f"{recipe}-").removesuffix("" if model.has_retrieval else CLOSED_BOOK)
    return name.capitalize() + ("" if model.has_retrieval else ", without documents")


def find_facets(documents: list[Document]) -> list[Facet]:
    """Return the columns that tell documents apart, each with its values in order; those named first come first."""
    counted: dict[str, Counter[str | int | float | bool]] = {}
    for document in documents:
        for column, value in document.metadata.items():
            if value is not None and value != "" and column != "aliases":
                counted.setdefault(column, Counter())[value] += 1
    names = sorted((name for name, values in counted.items() if 1 < len(values) <= MOST_VALUES),
                   key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), len(counted[name]), name))
    return [Facet(column=name, label=name.replace("_", " ").capitalize(), values=[
        FacetValue(value=value, documents=counted[name][value])
        for value in sorted(counted[name], key=_order)]) for name in names[:6]]


def _order(value: str | int | float | bool) -> tuple[bool, float, str]:
    """Numbers by their size, then texts."""
    return (True, 0.0, value) if isinstance(value, str) else (False, float(value), "")


def find_examples(recipe: Recipe, documents: list[Document]) -> list[str]:
    """Return a few answerable questions of the recipe's own file, each about another document that there is."""
    path = Path(recipe.dataset.questions or "")
    if not recipe.dataset.questions or not path.is_file():
        return []
    try:
        questions = read_questions(path)
    except RagtuneError:
        return []
    known = {document.name for document in documents}
    found: dict[tuple[str, ...], str] = {}
    for question in questions:
        names = {evidence.document for evidence in question.evidence}
        kind = (question.kind, *sorted(names))
        if question.is_answerable and names and names <= known and len(question.text) < 110:
            if not any(other[0] == kind[0] or other[1:] == kind[1:] for other in found):
                found[kind] = question.text
            if len(found) == EXAMPLES:
                break
    return list(found.values())


def visible_documents(index: Index, where: str | None) -> list[Document]:
    """Return the documents of which a filter keeps something; all without one. Raises QuestionError for a bad filter."""
    if not where:
        return index.documents()
    import numpy as np

    rows = index.rows_kept(parse_filter(where))
    return [index.store.documents[place] for place in np.unique(index.places[rows, 0]).tolist()]
