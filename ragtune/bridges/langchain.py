"""ragtune's search and embedder in LangChain: a retriever, a tool for agents, embeddings. The chat model: langchain_chat.

Imported on demand only, so LangChain is imported at the top.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import run_in_executor
from langchain_core.tools import StructuredTool, ToolException
from pydantic import BaseModel, Field

from ragtune.answering.answerer import check_question
from ragtune.documents.pack import use_pack
from ragtune.errors import RagtuneError
from ragtune.models.embed import open_embedder
from ragtune.recipe.load import load_recipe
from ragtune.recipe.places import index_folder
from ragtune.recipe.schema import Recipe, Retrieval
from ragtune.records import Hit
from ragtune.retrieval.conditions import join, render_filter
from ragtune.retrieval.filters import parse_filter
from ragtune.retrieval.index import open_index
from ragtune.retrieval.search import IndexSearcher, open_searcher
from ragtune.seams import Embedder


def read_recipe(recipe: Recipe | str | Path, settings: Iterable[str] = ()) -> Recipe:
    """Return the recipe itself, or the one of this name or file with ``a.b=c`` settings on top. Raises RecipeError."""
    return recipe if isinstance(recipe, Recipe) else load_recipe(str(recipe), settings)


def show_hit(hit: Hit) -> Document:
    """Return a hit as LangChain's document: its text, its chunk id, and in the metadata where it stands.

    ``document``, ``page`` and ``last_page`` (from 1), ``start`` and ``end`` (characters of the document's text),
    ``chunk_id``, ``heading``, ``score`` (higher is better) and ``rank`` (from 1); beside them the document's columns
    (company, ...), and ``source`` for what looks for that name.
    """
    chunk = hit.chunk
    return Document(page_content=chunk.text, id=chunk.id, metadata={
        **chunk.metadata, "source": f"{chunk.document}, page {chunk.page}", "document": chunk.document, "page": chunk.page,
        "last_page": chunk.last_page, "start": chunk.start, "end": chunk.end, "chunk_id": chunk.id, "heading": chunk.heading,
        "score": float(hit.score), "rank": hit.rank})


def join_where(*filters: str | None) -> str | None:
    """Return the filter that all of these together make, each read by itself: none can close another's parenthesis.

    Raises QuestionError for one that cannot be read.
    """
    nodes = [parse_filter(each).node for each in filters if each and each.strip()]
    return render_filter(join(nodes, is_any=False)) if nodes else None


class RagtuneRetriever(BaseRetriever):
    """ragtune's whole search (router, expansion, both searchers, ranker) as a LangChain retriever, in this process.

    Make one with ``from_recipe`` or ``from_index``. ``k`` is the number of documents, ``where`` a filter that always holds;
    ``invoke(question, k=5, where="fiscal_year = 2022")`` sets another k and narrows further. Raises QuestionError for an
    empty question or a bad filter.
    """

    searcher: Any = Field(exclude=True, repr=False, description="A seams.Searcher; threads may share it.")
    pack: Any = Field("finance", exclude=True, repr=False, description="The domain pack: its name, folder or itself.")
    k: int = Field(3, ge=1, description="Documents a question gets, at most.")
    where: str | None = Field(None, description="A filter that always holds, e.g. company = '3M'.")

    @classmethod
    def from_recipe(
        cls, recipe: Recipe | str | Path, settings: Iterable[str] = (), *, k: int | None = None, where: str | None = None,
        **fields: Any,
    ) -> RagtuneRetriever:
        """Return the retriever that a recipe (itself, its name or file) describes; k is the recipe's where none is given.

        Raises RecipeError, IndexFolderError where there is no index.
        """
        recipe = read_recipe(recipe, settings)
        with use_pack(recipe.pack):
            searcher = open_searcher(index_folder(recipe), recipe.retrieval)
        return cls(searcher=searcher, pack=recipe.pack, k=k or recipe.retrieval.k, where=where, **fields)

    @classmethod
    def from_index(
        cls, folder: str | Path, retrieval: Retrieval | None = None, *, k: int | None = None, where: str | None = None,
        embedder: Embedder | None = None, **fields: Any,
    ) -> RagtuneRetriever:
        """Return the retriever over an index folder, with the pack it was built with.

        Raises IndexFolderError for a missing or damaged folder.
        """
        retrieval = retrieval or Retrieval()
        index = open_index(Path(folder), embedder)
        with use_pack(index.pack):
            searcher = IndexSearcher(index, retrieval)
        return cls(searcher=searcher, pack=index.pack, k=k or retrieval.k, where=where, **fields)

    def find(self, question: str, k: int | None = None, where: str | None = None) -> list[Hit]:
        """Return ragtune's own hits, best first. Raises QuestionError."""
        with use_pack(self.pack):
            hits: list[Hit] = self.searcher.search(check_question(question), k or self.k, join_where(self.where, where))
        return hits

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun | None = None, k: int | None = None,
        where: str | None = None,
    ) -> list[Document]:
        return [show_hit(hit) for hit in self.find(query, k, where)]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun | None = None, k: int | None = None,
        where: str | None = None,
    ) -> list[Document]:
        return await run_in_executor(None, lambda: [show_hit(hit) for hit in self.find(query, k, where)])


class RagtuneEmbeddings(Embeddings):
    """An embedder of ragtune's as LangChain's: unit vectors; questions and passages each in their own way."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder

    @classmethod
    def from_recipe(cls, recipe: Recipe | str | Path, settings: Iterable[str] = ()) -> RagtuneEmbeddings:
        """Return the embedder that a recipe names. Raises RecipeError, ModelError."""
        section = read_recipe(recipe, settings).index
        return cls(open_embedder(section.embedder, section.embedder_engine))

    @classmethod
    def from_index(cls, folder: str | Path) -> RagtuneEmbeddings:
        """Return the embedder an index was built with, tuned or not. Raises IndexFolderError."""
        return cls(open_index(Path(folder)).embedder)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return the vectors of passages, in their order."""
        vectors: list[list[float]] = self.embedder.embed_passages(texts).tolist() if texts else []
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a question."""
        vector: list[float] = self.embedder.embed_questions([text])[0].tolist()
        return vector


class Words(BaseModel):
    """What an agent says to search."""

    query: str = Field(description="The question or the words to look for; name the company, the year and the line item.")


class FilteredWords(Words):
    """What an agent says to search in some of the documents."""

    where: str | None = Field(None, description="A filter on the documents, only where one is needed.")


def build_search_tool(
    retriever: RagtuneRetriever, name: str = "search_documents", description: str | None = None, *,
    is_filterable: bool = True,
) -> StructuredTool:
    """Return a tool with which an agent searches the documents.

    It answers with numbered passages, each with document and page, and hands on the LangChain documents as the message's
    ``artifact``. With ``is_filterable`` the agent may narrow the search by a filter whose columns the description names; the
    retriever's own ``where`` holds all the same. What is wrong with a call is said to the agent instead of ending it.
    """
    def search(query: str, where: str | None = None) -> tuple[str, list[Document]]:
        try:
            found = [show_hit(hit) for hit in retriever.find(query, where=where)]
        except RagtuneError as error:
            raise ToolException(str(error)) from error
        return show_numbered(found), found

    async def search_async(query: str, where: str | None = None) -> tuple[str, list[Document]]:
        return await run_in_executor(None, search, query, where)

    said = description or "Search the documents. Returns numbered passages, each with its document and page."
    return StructuredTool.from_function(
        func=search, coroutine=search_async, name=name, response_format="content_and_artifact", handle_tool_error=True,
        description=said + (_describe_filter(retriever) if is_filterable else ""),
        args_schema=FilteredWords if is_filterable else Words)


def show_numbered(documents: Sequence[Document]) -> str:
    """Return passages as text for a model: ``[1] DOCUMENT, page 7``, then the text."""
    said = [f"[{number}] {document.metadata['source']}\n{document.page_content}"
            for number, document in enumerate(documents, start=1)]
    return "\n\n".join(said) or "Nothing was found. Ask in other words, or without a filter."


def _describe_filter(retriever: RagtuneRetriever) -> str:
    """Return which columns a filter may name, '' where the searcher does not tell."""
    index = getattr(retriever.searcher, "index", None)
    columns = {} if index is None else index.columns()
    if not columns:
        return ""
    named = ", ".join(f"{column} ({' or '.join(sorted(kinds))})" for column, kinds in sorted(columns.items()))
    return f" The filter 'where' compares columns, e.g. fiscal_year = 2022 and company = 'Acme'. Columns: {named}."
