"""The OpenAPI document as the server really answers: FastAPI's own guesses about errors are set right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI

from ragtune.server.errors import describe_errors

BODY = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}
EVERYWHERE = (401, 429, 500)
"""Errors that any route under /v1 may answer with, before it is asked itself."""


def document(app: FastAPI) -> None:
    """Let an application give out its OpenAPI document set right."""
    make: Callable[[], dict[str, Any]] = app.openapi

    def openapi() -> dict[str, Any]:
        return app.openapi_schema or set_right(make())

    app.openapi = openapi  # type: ignore[method-assign]


def set_right(schema: dict[str, Any]) -> dict[str, Any]:
    """Change a document in place and return it: what is wrong with a request is answered with 400, not 422, and every error
    is JSON, also of a route that otherwise answers with text or events."""
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            responses = operation.setdefault("responses", {})
            is_checked = responses.pop("422", None) is not None
            wanted = (*((400,) if is_checked else ()), *(EVERYWHERE if path.startswith("/v1/") else ()))
            for status, described in describe_errors(*wanted).items():
                responses.setdefault(str(status), {"description": described["description"]})
            for status, response in responses.items():
                if status[0] in "45" and "application/json" not in response.get("content", {}):
                    response["content"] = BODY
            operation["responses"] = dict(sorted(responses.items()))
    schemas = schema.get("components", {}).get("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    return schema
