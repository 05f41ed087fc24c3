"""The routes of documents: upload, list, delete. What changes them queues a job that brings the index in line."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Union

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from ragtune.errors import DocumentError
from ragtune.recipe import schema
from ragtune.records import Value
from ragtune.server.auth import Caller, identify, identify_admin
from ragtune.server.errors import Rejected, describe_errors
from ragtune.server.holdings import Holding, HoldingState, list_bytes, list_holdings
from ragtune.server.jobs.routes import JobAnswer, answer_of, open_jobs
from ragtune.server.library import Incoming, Library, Upload
from ragtune.server.state import State
from ragtune.server.uploads import Oversized, check_upload, safe_name

MAX_FILES = 100
EVERYBODY = Caller("server")
"""Sees all documents: names must differ from those of any."""
MAX_COLUMNS = 30
OPTIONS = ("files", "file", "metadata", "replace", "index")
"""Parts of the form that are no columns."""
Asker = Annotated[Caller, Depends(identify)]
Admin = Annotated[Caller, Depends(identify_admin)]
FORM = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": {
    "type": "object", "required": ["files"],
    "properties": {
        "files": {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"},
                  "description": "One file or several."},
        "metadata": {"type": "string", "contentMediaType": "application/json", "description":
                     "JSON: columns and values for all files, or for each file by its name.",
                     "example": '{"company": "Norvane", "fiscal_year": 2022}'},
        "replace": {"type": "boolean", "description": "Whether a document of the same name may be replaced."},
        "index": {"type": "boolean", "description": "false: do not index now; POST /v1/jobs with kind 'index' does."}},
    "propertyNames": {"pattern": "^[A-Za-z][A-Za-z0-9_]{0,39}$"},
    "additionalProperties": {"type": "string", "maxLength": 500, "description":
                             "Any other part is a column for all files: tenant=acme."}}}}}}


class DocumentAnswer(BaseModel):
    """A document and where it stands on its way into the index."""

    name: str = Field(examples=["NORVANE_2022_10K"], description="As citations and filters name it.")
    file: str = Field(examples=["NORVANE_2022_10K.pdf"])
    source: str = Field(description="'upload', or 'folder': the recipe's own documents.")
    state: HoldingState = Field(description="waiting: not in the index yet, or not as it is; leaving: deleted, yet found "
                                            "until the job is done.")
    pages: int
    chunks: int
    bytes: int
    reason: str = Field(description="Why it, or some of its pages, could not be read.")
    metadata: dict[str, Any]


class DocumentList(BaseModel):
    """Documents by their names; ``total`` counts all that were asked for."""

    object: str = "list"
    data: list[DocumentAnswer]
    total: int


class DocumentsChanged(BaseModel):
    """What was taken in or is leaving, and the job that brings the index in line."""

    data: list[DocumentAnswer]
    job: Union[JobAnswer, None]


def routes(state: State) -> APIRouter:
    """Return the routes of documents."""
    jobs, library = open_jobs(state), Library(state.folder)
    router = APIRouter(prefix="/v1/documents", tags=["documents"])

    def holdings(caller: Caller) -> list[Holding]:
        return list_holdings(state.recipe, state.service.index, library, caller.tenant_filter)

    @router.get("", summary="List the documents", response_model=DocumentList, responses=describe_errors(400, 401))
    def list_documents(
        caller: Asker, state: Annotated[Union[HoldingState, None], Query(description="Only those in this state.")] = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 1000, offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
    ) -> DocumentList:
        """Those of the index, those on their way into it or out of it, and those that could not be read, with the reason."""
        found = [each for each in holdings(caller) if state in (None, each.state)]
        return DocumentList(data=[_show(each) for each in found[offset : offset + limit]], total=len(found))

    @router.post("", summary="Upload documents", status_code=201, response_model=DocumentsChanged, openapi_extra=FORM,
                 responses=describe_errors(400, 401, 403, 409, 413, 415))
    async def upload_documents(request: Request, caller: Admin) -> DocumentsChanged:
        """Take files in. With the answer they are on disk and not lost any more; they are found when the job is done.

        A file whose bytes are those of another document is refused (409, `duplicate_document`): it would not be indexed.
        """
        form = await read_form(request)
        try:
            return await asyncio.to_thread(_take, form, caller)
        finally:
            await form.close()

    def _take(form: FormData, caller: Caller) -> DocumentsChanged:
        incoming = receive(form, library, state.recipe.server)
        try:
            may_replace, is_indexed = _flag(form, "replace", False), _flag(form, "index", True)
            with library.changing():
                there = holdings(EVERYBODY)
                check_names(incoming, there, may_replace, state.recipe.server.max_documents)
                check_twins(incoming, list_bytes(state.recipe, state.service.index, library, there, incoming),
                            {holding.name for holding in holdings(caller)})
                kept = library.keep(incoming, caller.name)
        except BaseException:
            library.discard(incoming)
            raise
        job = jobs.submit_index(caller.name) if is_indexed else None
        return DocumentsChanged(data=[_show(_waiting(upload)) for upload in kept], job=answer_of(job) if job else None)

    @router.delete("/{name:path}", summary="Delete a document", status_code=202, response_model=DocumentsChanged,
                   responses=describe_errors(400, 401, 403, 404, 409))
    def delete_document(name: str, caller: Admin) -> DocumentsChanged:
        """An uploaded one is deleted; one of the recipe's own folder is left out of the index (its file stays)."""
        with library.changing():
            found = [each for each in holdings(caller) if each.name == name]
            if not found:
                raise Rejected(404, f"there is no document '{name[:200]}'. See /v1/documents.", code="document_not_found")
            if all(each.state == "leaving" for each in found):
                raise Rejected(409, "the document was deleted already; it is found until the job is done.",
                               code="document_leaving")
            inputs = {str(facts["document"]): path for path, facts in state.service.index.manifest["inputs"].items()}
            uploads = [upload for upload in library.entries() if upload.document == name]
            others = [each for each in holdings(EVERYBODY) if each.name != name and each.state in ("indexed", "waiting")]
            if not others:
                raise Rejected(409, "it is the last document, and an index needs one. Upload another before.",
                               code="last_document")
            for upload in uploads:
                library.remove(upload)
            if not uploads:
                library.leave_out(inputs.get(name) or found[0].file)
        job = jobs.submit_index(caller.name)
        shown = [_show(each).model_copy(update={"state": "leaving"}) for each in found]
        return DocumentsChanged(data=shown, job=answer_of(job))

    return router


async def read_form(request: Request) -> FormData:
    """Return the parts of a form, of which the shield (server.limits) lets no more through than may be uploaded.

    Raises Rejected: 415 for another kind of body, 400 for one that cannot be read.
    """
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "multipart/form-data":
        raise Rejected(415, "wanted a form (multipart/form-data) with files, for example: curl -F files=@report.pdf")
    try:
        parser = MultiPartParser(request.headers, request.stream(),
                                 max_files=MAX_FILES, max_fields=MAX_COLUMNS, max_part_size=1 << 18)
        return await parser.parse()
    except (MultiPartException, KeyError, UnicodeDecodeError) as error:
        message = getattr(error, "message", "") or "the form cannot be read"
        raise Rejected(400, f"{message}. Send multipart/form-data with its boundary.") from None


def receive(form: FormData, library: Library, settings: schema.Server) -> list[Incoming]:
    """Lay the form's files down beside the library, all of them or none. Raises Rejected for what is not taken."""
    files = [part for key in ("files", "file") for part in form.getlist(key) if isinstance(part, UploadFile)]
    strays = [key for key, part in form.multi_items() if isinstance(part, UploadFile) and key not in ("files", "file")]
    if strays:
        raise Rejected(400, f"the part '{strays[0][:60]}' is a file; files go into parts named 'files', all else is text: "
                            "curl -F files=@report.pdf -F company=Acme", param=strays[0][:60])
    if not files:
        raise Rejected(400, "the form holds no file. Name its part 'files': curl -F files=@report.pdf", param="files")
    incoming: list[Incoming] = []
    try:
        for part in files:
            name, data = part.filename or "", part.file.read()
            file = safe_name(name)
            check_upload(file, data, settings)
            incoming.append(library.receive(name, data, read_columns(form, {name, file})))
    except BaseException as error:
        library.discard(incoming)
        if isinstance(error, Oversized):
            raise Rejected(413, str(error), param="files", code="upload_too_large") from None
        if isinstance(error, DocumentError):
            raise Rejected(415, str(error), param="files", code="not_a_document") from None
        raise
    return incoming


def read_columns(form: FormData, names: set[str]) -> dict[str, Value]:
    """Return what the form says of a file of these names. Raises Rejected for a column that cannot be one."""
    said: dict[str, Any] = {key: value for key, value in form.multi_items()
                            if key not in OPTIONS and isinstance(value, str)}
    given = form.get("metadata")
    if isinstance(given, str) and given.strip():
        try:
            table = json.loads(given)
        except (ValueError, RecursionError):
            raise Rejected(400, "metadata is not JSON. For example: {\"company\": \"Norvane\"}", param="metadata") from None
        if not isinstance(table, dict):
            raise Rejected(400, "metadata must be a JSON object of columns and values.", param="metadata")
        for key, value in table.items():
            if not isinstance(value, dict):
                said[key] = value
            elif key in names:
                said |= value
    if len(said) > MAX_COLUMNS:
        raise Rejected(400, f"a document has at most {MAX_COLUMNS} columns.", param="metadata")
    return {_column(key): _value(key, value) for key, value in said.items()}


def _column(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,39}", name) or name in ("document", "page", "aliases"):
        raise Rejected(400, f"'{name[:60]}' cannot be a column. Allowed: letters, digits, _, not document, page, aliases.",
                       param="metadata")
    return name


def _value(column: str, value: Any) -> Value:
    if isinstance(value, str) and len(value) <= 500 and not re.search("[\0\ud800-\udfff]", value):
        return value
    if value is None or (isinstance(value, (bool, int, float)) and abs(value or 0) < 1e15):
        return value
    raise Rejected(400, f"'{column}' must be a text of at most 500 characters, a number, true, false or null.",
                   param="metadata")


def check_names(incoming: Sequence[Incoming], there: Sequence[Holding], may_replace: bool, most: int) -> None:
    """Raise Rejected (409) where a document of one of these names is there, or there are too many."""
    known: Mapping[str, Holding] = {holding.name.casefold(): holding for holding in there if holding.state != "leaving"}
    seen: set[str] = set()
    for each in incoming:
        name = each.document.casefold()
        old = known.get(name)
        if name in seen:
            raise Rejected(409, f"two of the files are named '{each.document}'. Rename one.", param="files")
        if old is not None and old.source == "folder":
            raise Rejected(409, f"the recipe's own documents have a '{each.document}'. Rename the file, or delete that one "
                                "first.", param="files", code="document_exists")
        if old is not None and not may_replace:
            raise Rejected(409, f"there is a document '{each.document}' already. Send replace=true to replace it, or rename "
                                "the file.", param="files", code="document_exists")
        seen.add(name)
    if len(seen | set(known)) > most:
        raise Rejected(409, f"this server holds at most {most} documents (server.max_documents). Delete some first.",
                       code="too_many_documents")


def check_twins(incoming: Sequence[Incoming], there: Mapping[str, str], seen: Collection[str]) -> None:
    """Raise Rejected (409) for a file whose bytes another document has: an index holds the same bytes once.

    ``there`` is sha256 -> document; only those in ``seen``, which who uploads may know of, are named.
    """
    known = dict(there)
    for each in incoming:
        twin = known.setdefault(each.sha256, each.document)
        if twin.casefold() != each.document.casefold():
            shown = f"'{twin}'" if twin in seen or twin in [other.document for other in incoming] else "another document"
            raise Rejected(409, f"'{each.file}' holds the same bytes as {shown}, and the same is indexed once. Leave it "
                                "out, or delete the other first.", param="files", code="duplicate_document")


def _flag(form: FormData, name: str, default: bool) -> bool:
    value = form.get(name)
    if value is None:
        return default
    if not isinstance(value, str) or value.lower() not in ("true", "false"):
        raise Rejected(400, f"{name} must be true or false.", param=name)
    return value.lower() == "true"

def _waiting(upload: Upload) -> Holding:
    return Holding(upload.document, upload.file, "upload", "waiting", bytes=upload.bytes, metadata=upload.metadata)


def _show(holding: Holding) -> DocumentAnswer:
    return DocumentAnswer(**holding.to_dict())
