"""Evaluation reports: those an assistant has, and addresses under which a browser can open them for a while."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel, Field

from ragtune.server.auth import Caller, identify
from ragtune.server.errors import Rejected, describe_errors
from ragtune.server.state import State

VALID_S = 3600
HEADERS = {
    "Content-Security-Policy": "sandbox allow-scripts allow-popups; default-src 'none'; style-src 'unsafe-inline'; "
                               "script-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
}
"""A report is a page of its own, cut off from this server's: whatever stood in a document, it asks nothing of the API."""
LABELS = {"extractive": "Extractive, no model"}
"""What people call those that are measured, where it is not their name."""
_SECRET = secrets.token_bytes(32)


class Score(BaseModel):
    """How many test questions a model answered rightly, with retrieval."""

    label: str = Field(examples=["Tuned"])
    correct: int
    questions: int


class ReportLink(BaseModel):
    """A report and where it can be opened; the address holds for an hour, without a key."""

    name: str = Field(examples=["evaluation"])
    kind: str = Field(examples=["evaluation"])
    title: str = Field(examples=["Evaluation of demo"])
    headline: str = ""
    created: str = ""
    scores: list[Score] = Field([], description="Each model's, where the report is an evaluation's.")
    url: str


class Reports(BaseModel):
    """All of them, the newest first."""

    reports: list[ReportLink]


def routes(state: State) -> APIRouter:
    """Return the routes of reports. They tell of all documents: a key that sees only some of them gets none."""
    router = APIRouter(tags=["page"])

    @router.get("/v1/reports", summary="List the evaluation reports", response_model=Reports,
                responses=describe_errors(401, 500))
    def reports(caller: Annotated[Caller, Depends(identify)]) -> Reports:
        """Evaluations and comparisons in the assistant's folder."""
        return Reports(reports=[] if caller.tenant_filter else find_reports(home_of(state)))

    @router.get("/reports/{ticket}/{name}", include_in_schema=False)
    def report(ticket: str, name: str) -> Response:
        if not is_valid(ticket, name):
            raise Rejected(404, "this address of a report is over. Open it from the list of reports.")
        path = home_of(state) / name / "report.html"
        if not path.is_file():
            raise Rejected(404, f"there is no report '{name}' any more.")
        return FileResponse(path, media_type="text/html", headers=HEADERS)

    return router


def home_of(state: State) -> Path:
    """Return the assistant's work folder."""
    return Path(state.recipe.work) / state.recipe.name


def find_reports(home: Path) -> list[ReportLink]:
    """Return the folders of ``home`` that hold a report."""
    found = []
    for path in home.glob("*/report.html"):
        folder = path.parent
        if not (folder / "manifest.json").is_file() or folder.suffix in (".partial", ".old"):
            continue
        manifest = _read(folder / "manifest.json")
        title, headline = _head(folder / "report.md")
        found.append(ReportLink(name=folder.name, kind=str(manifest.get("kind", "")), title=title or folder.name,
                                headline=headline, created=str(manifest.get("created", "")),
                                scores=find_scores(manifest),
                                url=f"reports/{make_ticket(folder.name)}/{folder.name}"))
    return sorted(found, key=lambda report: report.created, reverse=True)


def find_scores(manifest: Mapping[str, Any]) -> list[Score]:
    """Return what the models reached with retrieval; nothing where a manifest holds no such figures."""
    rungs = manifest.get("ladder")
    return [Score(label=LABELS.get(str(rung.get("model"))) or str(rung.get("model", "")).capitalize(),
                  correct=rung["correct"], questions=rung["n"])
            for rung in (rungs if isinstance(rungs, list) else [])
            if isinstance(rung, dict) and rung.get("setting") == "retrieval"
            and isinstance(rung.get("correct"), int) and isinstance(rung.get("n"), int) and rung["n"] > 0]


def make_ticket(name: str) -> str:
    """Return what opens one report for VALID_S seconds, as long as this server runs."""
    until = int(time.time()) + VALID_S
    return f"{until}-{_sign(until, name)}"


def is_valid(ticket: str, name: str) -> bool:
    """Tell whether a ticket was made here for this report and is not over."""
    until, _, sign = ticket.partition("-")
    if not re.fullmatch(r"\d{1,12}", until) or not sign.isascii():
        return False
    return hmac.compare_digest(sign, _sign(int(until), name)) and int(until) >= time.time()


def _sign(until: int, name: str) -> str:
    return hmac.new(_SECRET, f"{until} {name}".encode(), hashlib.sha256).hexdigest()[:32]


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _head(path: Path) -> tuple[str, str]:
    """Return title and first paragraph of a report's Markdown."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError):
        return "", ""
    title = next((line[2:] for line in lines if line.startswith("# ")), "")
    headline = next((line for line in lines if line.strip() and not line.startswith(("#", "|", "<", "-"))), "")
    return title.replace("\\", ""), headline.replace("\\", "").replace("**", "")
