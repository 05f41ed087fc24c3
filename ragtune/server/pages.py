"""The web page of a server: its files, what it needs to know of the assistant, and the pages that answers cite."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel, Field

from ragtune.documents.pack import current_pack, use_pack
from ragtune.documents.spot import find_quote
from ragtune.documents.view import Box, Places, draw_page, find_places
from ragtune.errors import DocumentError, QuestionError, nearest
from ragtune.files import hash_file
from ragtune.recipe.schema import Recipe
from ragtune.records import Document
from ragtune.retrieval.index import Index
from ragtune.server.auth import Caller, identify
from ragtune.server.errors import Rejected, describe_errors
from ragtune.server.facets import Assistant, FilterKeeps, describe_assistant, visible_documents
from ragtune.server.service import Service
from ragtune.server.state import State

FOLDER = Path(__file__).parent / "pages"
FILES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; "
                               "form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache",
}
"""Nothing from elsewhere is loaded, nothing inline is run, no other page may frame this one."""
Asker = Annotated[Caller, Depends(identify)]


class ShownBox(BaseModel):
    """A rectangle on the page, as shares of its width and height from the upper left."""

    left: float
    top: float
    width: float
    height: float


class ShownPage(BaseModel):
    """A page of a document, and where a quote stands on it: ``span`` in its text, ``lines`` on its picture."""

    document: str = Field(examples=["NORVANE_2022_10K"])
    title: str = Field(examples=["Norvane 10-K 2022"])
    number: int
    pages: int
    text: str
    span: tuple[int, int] | None = Field(None, description="Characters of the text; null where the quote was not found.")
    has_picture: bool = Field(description="Whether the page can be drawn: a PDF that is still the file that was indexed.")
    lines: list[ShownBox] = []
    amount: list[ShownBox] = Field([], description="The figure within the line, where the quote is a row of a statement.")


def routes(state: State) -> APIRouter:
    """Return the routes of the page; its files are open to all, what they ask for is not."""
    router = APIRouter(tags=["page"])
    errors = describe_errors(400, 401, 404, 500)

    @router.get("/", include_in_schema=False)
    def page() -> Response:
        return FileResponse(FOLDER / "index.html", media_type="text/html", headers=HEADERS)

    @router.get("/static/{name}", include_in_schema=False)
    def static(name: str) -> Response:
        if name not in {path.name for path in FOLDER.iterdir()} or (kind := FILES.get(name.rpartition(".")[2])) is None:
            raise Rejected(404, f"there is no /static/{name} here.")
        return FileResponse(FOLDER / name, media_type=kind, headers=HEADERS)

    @router.get("/v1/assistant", summary="Describe the assistant", response_model=Assistant, responses=errors)
    def assistant(caller: Asker) -> Assistant:
        """Its models, how many documents the key may see, and which values a filter may name."""
        return describe_assistant(state.service, caller)

    @router.get("/v1/filter", summary="Check a filter", response_model=FilterKeeps, responses=errors)
    def kept(caller: Asker, where: Annotated[str, Query(max_length=50_000, examples=["fiscal_year = 2022"])]) -> FilterKeeps:
        """How many documents a filter keeps, or what is wrong with it."""
        try:
            return FilterKeeps(documents=len(visible_documents(state.service.index_for(caller.tenant_filter), where)))
        except QuestionError as error:
            return FilterKeeps(problem=str(error))

    @router.get("/documents/{name:path}/pages/{number}", summary="Show a page", response_model=ShownPage, responses=errors)
    def document_page(name: str, number: int, caller: Asker,
                      quote: Annotated[str, Query(max_length=4000, examples=["Net sales 2022: 4,210"])] = "") -> ShownPage:
        """The text of a page, and where a quote stands in it and on its picture."""
        return show_page(state.service.index_for(caller.tenant_filter), state.service, name, number, quote)

    @router.get("/documents/{name:path}/pages/{number}/picture", summary="Draw a page", response_class=Response,
                responses={**errors, 200: {"content": {"image/png": {}}}})
    def picture(name: str, number: int, caller: Asker, width: Annotated[int, Query(ge=100, le=2000)] = 1000) -> Response:
        """The page of a PDF as PNG, `width` pixels wide or less."""
        document = find_document(state.service.index_for(caller.tenant_filter), name, number)
        path = picture_of(state.service, document)
        if path is None:
            raise Rejected(404, f"'{name[:200]}' cannot be drawn: it is no PDF, its file has changed since it was indexed, "
                                "or the recipe masks what a picture would show.")
        try:
            png = draw_page(path, number, width)
        except DocumentError as error:
            raise Rejected(404, str(error)) from error
        return Response(png, media_type="image/png",
                        headers={"Cache-Control": "private, max-age=3600", "X-Content-Type-Options": "nosniff"})

    return router


def find_document(index: Index, name: str, number: int) -> Document:
    """Return a document that has this page. Raises Rejected (404); ``index`` is the caller's own."""
    seen = {document.name for document in index.documents()}
    if name not in seen:
        raise Rejected(404, f"there is no document '{name[:200]}'.{nearest(name, seen)}")
    document = index.document(name)
    numbers = [page.number for page in document.pages]
    if number not in numbers:
        raise Rejected(404, f"'{name}' has no page {number}. It has {len(numbers)}.")
    return document


def show_page(index: Index, service: Service, name: str, number: int, quote: str) -> ShownPage:
    """Return a page of the caller's index with the place of a quote, masked as passages are. Raises Rejected."""
    document, recipe = find_document(index, name, number), service.recipe
    text = service.guardrails.mask_shown(next(page.text for page in document.pages if page.number == number))
    spot = find_quote(text, quote) if quote.strip() else None
    path = picture_of(service, document)
    places = Places(0, 0)
    if path is not None and quote.strip():
        try:
            places = find_places(path, number, quote)
        except DocumentError:
            path = None
    with use_pack(recipe.pack):
        title = current_pack().describe(document.metadata) or name
    return ShownPage(document=name, title=title, number=number, pages=len(document.pages), text=text,
                     span=(spot.start, spot.end) if spot else None, has_picture=path is not None,
                     lines=_show(places.lines), amount=_show(places.amount))


def picture_of(service: Service, document: Document) -> Path | None:
    """Return the file of a PDF that may be drawn: of none where personal data is masked, which a picture would show."""
    return None if service.guardrails.masks_passages else pdf_of(service.recipe, document)


def _show(boxes: tuple[Box, ...]) -> list[ShownBox]:
    return [ShownBox(**box.to_dict()) for box in boxes]


_HASHES: dict[tuple[str, int, int], str] = {}


def pdf_of(recipe: Recipe, document: Document) -> Path | None:
    """Return the file of a PDF as long as it is the one that was indexed, else None."""
    path = Path(recipe.documents.folder) / document.path
    if path.suffix.lower() != ".pdf":
        return None
    try:
        facts = path.stat()
        key: Any = (str(path), facts.st_mtime_ns, facts.st_size)
        found = _HASHES.get(key) or hash_file(path)
    except OSError:
        return None
    if len(_HASHES) > 10_000:
        _HASHES.clear()
    _HASHES[key] = found
    return path if found.startswith(document.id) else None
