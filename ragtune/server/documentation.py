"""The OpenAPI document as the server really answers, with an example of each answer, and the page that shows it offline."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse, Response

from ragtune.server.auth import open_gate
from ragtune.server.errors import Rejected, describe_errors, type_of
from ragtune.server.state import State

FOLDER = Path(__file__).parent
FILES = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
"""Swagger UI, which comes with the package fastapi-swagger: nothing is loaded from elsewhere."""
EVERYWHERE = (401, 429, 500, 503)
"""Errors that any route under /v1 may answer with, before it is asked itself."""
EVENT = {"type": "object", "required": ["data"], "properties": {
    "event": {"type": "string", "description": "What it is; events of OpenAI's have none."},
    "data": {"type": "string", "description": "JSON, or [DONE] at the end of a stream of OpenAI's."}}}
"""One server-sent event."""
SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, as clients of OpenAI's send it: "
               "`Authorization: Bearer rt-...`. Keys are made by `ragtune keys add NAME --recipe FILE`."},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key in a header of its own."}}
KEYS: list[dict[str, list[str]]] = [{"bearer": []}, {"key": []}]
OPEN = ("/health", "/ready")
"""Answered without a key, always."""


def document(app: FastAPI, state: State) -> None:
    """Let an application give out its OpenAPI document set right. It asks for a key as long as the server does."""
    make: Callable[[], dict[str, Any]] = app.openapi

    def openapi() -> dict[str, Any]:
        schema = app.openapi_schema or set_right(make(), state.recipe.server.metrics)
        return {**schema, "security": KEYS if open_gate(state).needs_key else [{}, *KEYS]}

    app.openapi = openapi  # type: ignore[method-assign]


def set_right(schema: dict[str, Any], metrics: str = "admin") -> dict[str, Any]:
    """Change a document in place and return it: what is wrong with a request is answered with 400, not 422, and every error
    is JSON, also of a route that otherwise answers with text or events. ``metrics`` is server.metrics."""
    examples = read_examples()
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            _set_responses_right(path, operation)
            _show_examples(operation, examples.get(f"{method.upper()} {path}", {}))
            if path in OPEN or (path == "/metrics" and metrics == "open"):
                operation["security"] = []
    parts = schema.setdefault("components", {})
    parts["securitySchemes"] = SCHEMES
    for name in ("HTTPValidationError", "ValidationError"):
        parts.get("schemas", {}).pop(name, None)
    return schema


def _set_responses_right(path: str, operation: dict[str, Any]) -> None:
    responses = operation.setdefault("responses", {})
    is_checked = responses.pop("422", None) is not None
    wanted = (*((400,) if is_checked else ()), *(EVERYWHERE if path.startswith(("/v1/", "/documents/")) else ()))
    for status, described in describe_errors(*wanted).items():
        responses.setdefault(str(status), {"description": described["description"]})
    for status, response in responses.items():
        content = response.setdefault("content", {})
        if response["description"] == "Successful Response":
            response["description"] = "Done." if status in ("201", "202") else "What was asked for."
        if status[0] in "45" and "application/json" not in content:
            response["content"] = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}
        if "text/event-stream" in content:  # OpenAPI describes each event, not the whole of them
            content["text/event-stream"].pop("schema", None)
            content["text/event-stream"]["itemSchema"] = EVENT
    operation["responses"] = dict(sorted(responses.items()))


def _show_examples(operation: dict[str, Any], examples: Mapping[str, Any]) -> None:
    """Put in what was asked and answered once, and an error of each status."""
    asked = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if asked is not None and "request" in examples:
        asked["example"] = examples["request"]
    for status, response in operation["responses"].items():
        for kind in ("application/json", "text/plain"):
            answered = response["content"].get(kind)
            if answered is None:
                continue
            if status in examples:
                answered["example"] = examples[status]
            elif answered.get("schema", {}).get("$ref", "").endswith("/ErrorBody"):
                answered["example"] = {"error": {
                    "message": response["description"], "type": type_of(int(status)), "param": None, "code": None,
                    "request_id": "req_5f0c3b6f1d1e4a90"}}


@cache
def read_examples() -> Mapping[str, Mapping[str, Any]]:
    """Return what the demo was asked and answered: 'METHOD /path' -> 'request' and statuses -> JSON."""
    found: Mapping[str, Mapping[str, Any]] = json.loads((FOLDER / "examples.json").read_text(encoding="utf-8"))
    return found


def routes(state: State) -> APIRouter:
    """Return the routes of the documentation's page, which loads nothing from elsewhere."""
    router = APIRouter(prefix="/docs", include_in_schema=False)

    @router.get("")
    def page() -> Response:
        return FileResponse(FOLDER / "pages" / "docs.html", media_type="text/html", headers={"Cache-Control": "no-cache"})

    @router.get("/{name}")
    def file(name: str) -> Response:
        if name not in FILES:
            raise Rejected(404, f"there is no /docs/{name[:80]} here.")
        return FileResponse(find_swagger() / name, media_type=FILES[name], headers={"Cache-Control": "max-age=86400"})

    return router


def find_swagger() -> Path:
    """Return the folder of Swagger UI's files. Raises Rejected (404) where the package is not installed."""
    found = importlib.util.find_spec("fastapi_swagger")
    if found is None or not found.submodule_search_locations:
        raise Rejected(404, "the page needs fastapi-swagger, not installed here. Do: pip install 'ragtune[server]'. What it "
                            "would show stands in /openapi.json.")
    return Path(found.submodule_search_locations[0]) / "resources"
