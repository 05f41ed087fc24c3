"""The report's HTML pages: every question with its passages, citations and answers side by side, ready for the template.

A page needs no other file and no network. What documents and models say is escaped, and the policy in the page's head lets
no script run but its own, by its hash.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ragtune.evaluation.ladder.graded import Graded
from ragtune.evaluation.ladder.trail import Asked, Trail
from ragtune.evaluation.losses.attribute import STAGES, attribute_left_out, label_of
from ragtune.records import SETTINGS, Passage, Setting

SETTING_NAMES = {"closed_book": "closed book", "retrieval": "retrieval", "oracle": "oracle page"}
MAX_CHARACTERS = 2000
"""So much of a passage is printed."""
Answers = Mapping[str, Mapping[Setting, Mapping[str, Graded]]]
"""Question id -> rung -> column (a model, or a model of one of several evaluations) -> answer."""


def render_page(template: str, **values: Any) -> str:
    """Return one HTML page from a template beside this module."""
    import jinja2
    from markupsafe import Markup

    here = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(here), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    script = (here / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(template).render(
        script=Markup(script), script_hash=f"sha256-{digest}", settings=SETTING_NAMES, **values
    )


def collect_answers(graded: Sequence[Graded]) -> dict[str, dict[Setting, dict[str, Graded]]]:
    """Return the answers by question, rung and model, in the order of the log."""
    found: dict[str, dict[Setting, dict[str, Graded]]] = {}
    for row in graded:
        found.setdefault(row.question_id, {}).setdefault(row.setting, {})[row.model] = row
    return found


def describe_questions(
    answers: Answers, columns: Sequence[str], asked: Mapping[str, Asked], passages: Mapping[str, Passage], k: int = 0
) -> dict[str, Any]:
    """Return what ``questions.html.jinja`` needs: the questions, the columns, and what can be filtered by."""
    items = [_item(number, question_id, rungs, columns, asked.get(question_id), passages)
             for number, (question_id, rungs) in enumerate(answers.items(), start=1)]
    facts = [item["facts"] for item in items]
    stages = {stage for fact in facts for stage in fact["lost"].values()}
    return {
        "items": items,
        "models": list(columns),
        "rungs": [setting for setting in SETTINGS if any(setting in rungs for rungs in answers.values())],
        "stage_names": {stage: label_of(stage, k) for stage in STAGES},
        "filters": {
            "stages": {stage: label_of(stage, k) for stage in STAGES if stage in stages},
            "kinds": sorted({fact["kind"] for fact in facts}),
            "companies": sorted({company for fact in facts for company in fact["companies"]}),
            "documents": sorted({document for fact in facts for document in fact["documents"]}),
        },
    }


def anchor_of(number: int) -> str:
    """Return the id of the n-th question's place on the page."""
    return f"question-{number}"


def _item(
    number: int, question_id: str, rungs: Mapping[Setting, Mapping[str, Graded]], columns: Sequence[str],
    entry: Asked | None, passages: Mapping[str, Passage],
) -> dict[str, Any]:
    first = next(row for rows in rungs.values() for row in rows.values())
    trails = entry.trails if entry else ()
    documents = list(dict.fromkeys(trail.document for trail in trails))
    ordered = [(setting, [(rungs[setting][name], name) for name in columns if name in rungs[setting]])
               for setting in SETTINGS if setting in rungs]
    shown: dict[str, int] = {}
    return {
        "anchor": anchor_of(number),
        "question": first.question,
        "gold": first.gold,
        "evidence": "; ".join(f"{trail.document}, page {trail.page}" for trail in trails),
        "search": _describe_search(entry) if entry else [],
        "tags": [{"setting": setting, "outcome": row.outcome, "label": f"{name}: {row.outcome}"}
                 for setting, rows in ordered for row, name in rows],
        "rungs": [{"setting": setting, "rows": rows,
                   "passages": _passages([row for row, _ in rows], trails, passages, shown)} for setting, rows in ordered],
        "facts": {
            "id": question_id, "kind": first.kind or "other", "documents": documents,
            "companies": list(entry.companies) if entry else [],
            "outcomes": {setting: {name: row.outcome for row, name in rows} for setting, rows in ordered},
            "lost": {name: row.lost_at for _, rows in ordered for row, name in rows if row.lost_at},
        },
    }  # fmt: skip


def _describe_search(entry: Asked) -> list[str]:
    """Return what the search made of the evidence, and its filter, as short lines."""
    lines = [f"Not asked with retrieval: {attribute_left_out(entry)[1]}"] if entry.is_left_out else []
    for trail in entry.trails:
        if trail.is_indexed and trail.depth:
            place = f"hit {trail.rank}" if trail.rank else f"not among the first {trail.depth} hits"
            lines.append(f"Found: {trail.document}, page {trail.page} is {place}")
    if entry.trace.where:
        lines.append(f"Searched where {entry.trace.where}")
    return lines


def _passages(
    rows: Sequence[Graded], trails: Sequence[Trail], passages: Mapping[str, Passage], shown: dict[str, int]
) -> list[dict[str, Any]]:
    """Return the passages of a rung, as the model with most of them saw them; one printed before is named, not repeated.

    ``shown`` maps the chunk ids printed so far to their numbers, and is added to.
    """
    widest = max(rows, key=lambda row: len(row.passages))
    cited = {citation.chunk_id for row in rows for citation in row.citations}
    found = []
    for place in widest.passages if passages else ():
        passage = passages.get(place.chunk_id)
        text = passage.text[: place.characters or None] if passage else ""
        same_as = shown.get(place.chunk_id, 0)
        found.append({
            "number": place.number, "title": passage.title if passage else "", "rank": place.rank,
            "document": f"{place.document} p. {place.page}", "is_cited": place.chunk_id in cited, "same_as": same_as,
            "is_evidence": any(t.document == place.document and t.page == place.page for t in trails),
            "text": "" if same_as else text[:MAX_CHARACTERS] + ("…" if len(text) > MAX_CHARACTERS else ""),
        })  # fmt: skip
        shown.setdefault(place.chunk_id, place.number)
    return found
