"""What a document is about: company, fiscal year, form. From a sidecar file, the file name, then the first pages."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ragtune.documents.names import find_company, read_aliases
from ragtune.errors import DocumentError
from ragtune.records import Metadata, Value

_NAMES = {"document": "document", "doc_name": "document", "file": "document", "file_name": "document",
          "doc_type": "form", "form_type": "form", "doc_period": "fiscal_year", "year": "fiscal_year",
          "gics_sector": "sector"}
_FORMS = {"10k": "10-K", "10ka": "10-K/A", "10q": "10-Q", "10qa": "10-Q/A", "8k": "8-K", "8ka": "8-K/A", "20f": "20-F",
          "40f": "40-F", "6k": "6-K", "earnings": "EARNINGS", "annual": "10-K", "annualreport": "ANNUAL REPORT"}
_FILE_NAME = re.compile(
    r"^(?P<company>.+?)[_\s-]+(?P<year>(?:19|20)\d\d)(?:[_-]?Q(?P<quarter>[1-4]))?[_\s-]+"
    r"(?P<form>10-?KA?|10-?QA?|8-?KA?|20-?F|40-?F|6-?K|EARNINGS|ANNUAL(?:[_-]?REPORT)?)(?![A-Za-z])", re.IGNORECASE)
_FORM = re.compile(r"^\W*(?:SEC )?FORM\s+(10-?K|10-?Q|8-?K|20-?F|40-?F|6-?K)(/A)?\b"
                   r"|\bFORM (10-K|10-Q|8-K|20-F|40-F|6-K)(/A)?\s*$", re.IGNORECASE | re.MULTILINE)
_YEAR_ENDED = re.compile(r"(?:fiscal\s+)?year\s+ended:?\s+(?:([A-Za-z]+)\.?\s+(\d{1,2}),?\s+)?((?:19|20)\d\d)",
                         re.IGNORECASE)
_QUARTER_ENDED = re.compile(r"quarter(?:ly)?\s+(?:period\s+)?ended:?.{0,60}?[A-Za-z]{3,9}\.?\s+\d{1,2},?\s+"
                            r"((?:19|20)\d\d)", re.IGNORECASE | re.DOTALL)
_EVENT_DATE = re.compile(r"date of (?:report|earliest event).{0,80}?[A-Za-z]{3,9}\.?\s+\d{1,2},?\s+((?:19|20)\d\d)",
                         re.IGNORECASE | re.DOTALL)
_REGISTRANT = re.compile(r"^\s*\(?\s*exact\s+name\s+of\s+(?:the\s+)?(?:registrant|company|issuer)", re.IGNORECASE)
_LEGAL = re.compile(r"(?:,?\s+(?:inc|incorporated|corp|corporation|company|companies|co|ltd|limited|plc|llc|l\.p|lp|n\.v|nv"
                    r"|s\.a|ag|group|holdings?)\b(?:\s?\.)?|\s*&\s*co\b\.?|\s*/\w{2,4}/?)+\s*$", re.IGNORECASE)


def read_sidecar(path: Path) -> dict[str, Metadata]:
    """Return document name -> its row, from a JSON, JSONL or CSV file with a column 'document' (or 'doc_name', 'file').

    Raises DocumentError for a missing or broken file and rows that name no document.
    """
    if not path.is_file():
        raise DocumentError(f"the metadata file {path} does not exist. Mend documents.metadata, or set it to null.")
    try:
        rows = _read_rows(path)
    except (json.JSONDecodeError, UnicodeDecodeError, csv.Error) as error:
        raise DocumentError(f"the metadata file {path} is broken ({error}). Write it as JSON, JSONL or CSV.") from None
    table: dict[str, Metadata] = {}
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise DocumentError(f"{path}: entry {number} is {type(row).__name__}. Each must hold columns and values.")
        values = {_NAMES.get(str(key).strip().lower(), str(key).strip()): _plain(value) for key, value in row.items() if key}
        name = values.pop("document", None)
        if not name:
            raise DocumentError(f"{path}: entry {number} has no 'document'. Found: {', '.join(map(str, row))}. Add the "
                                "document's file name to each entry.")
        is_file_name = Path(str(name)).suffix.lower() in (".pdf", ".html", ".htm", ".md", ".txt", ".docx", ".csv", ".jsonl")
        table[Path(str(name)).with_suffix("").as_posix() if is_file_name else str(name)] = values
    return table


def _read_rows(path: Path) -> list[Any]:
    """Return the entries of a sidecar file; a JSON object maps document names to entries."""
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix.lower() == ".csv":
        return list(csv.DictReader(text.splitlines()))
    if path.suffix.lower() == ".jsonl":
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    value = json.loads(text)
    if isinstance(value, dict):
        return [{"document": name, **row} for name, row in value.items() if isinstance(row, dict)]
    return list(value) if isinstance(value, list) else [value]


def _plain(value: Any) -> Value:
    """Return a plain value: numbers in strings become numbers, empty strings None, structures JSON text."""
    if isinstance(value, str):
        value = value.strip()
        if re.fullmatch(r"-?(0|[1-9]\d{0,14})", value):
            return int(value)
        if re.fullmatch(r"-?\d{1,15}\.\d{1,15}", value):
            return float(value)
        return value or None
    return value if isinstance(value, (int, float, bool)) or value is None else json.dumps(value, ensure_ascii=False)


def read_metadata(path: Path, pages: Sequence[str], sidecar: Metadata | None = None) -> dict[str, Value]:
    """Return the document's columns: company, aliases, fiscal_year, quarter, form as far as known, and its sidecar row's.

    The sidecar wins over the file name (``3M_2018_10K``), which wins over the first pages. A company in the file name
    takes its spelling from the first pages (``AMERICANWATERWORKS``: American Water Works).
    """
    cover = "\n".join(pages[:3])[:20000]
    found: dict[str, Value] = {**_from_cover(cover), **_from_file_name(path.stem, cover)}
    if "company" not in found and (name := find_company(cover, "form" in found)):
        found["company"] = _recase(name)
    for key, value in (sidecar or {}).items():
        if value is not None:
            found[key] = value
    if isinstance(found.get("form"), str):
        found["form"] = parse_form(str(found["form"]))
    if isinstance(found.get("company"), (int, float)):
        found["company"] = str(found["company"])
    found.setdefault("aliases", read_aliases(cover, find_registrants(cover), str(found.get("company") or "")))
    return {key: value for key, value in found.items() if value is not None}


def parse_form(text: str) -> str:
    """Return a form's usual spelling: '10k' and '10-K' are '10-K'; an unknown one stays as it is."""
    return _FORMS.get(re.sub(r"[^a-z0-9]", "", text.lower()), text)


def _from_file_name(stem: str, cover: str) -> dict[str, Value]:
    """Return what a name such as ``JPMORGAN_2021Q1_10Q`` says."""
    match = _FILE_NAME.match(stem)
    if not match:
        return {}
    values: dict[str, Value] = {"company": spell_company(match["company"], cover), "fiscal_year": int(match["year"]),
                                "form": parse_form(match["form"]), "quarter": None}
    if match["quarter"]:
        values["quarter"] = int(match["quarter"])
    return values


def _from_cover(cover: str) -> dict[str, Value]:
    """Return what the first pages of a filing say."""
    values: dict[str, Value] = {}
    form = _FORM.search(cover)
    if form is None:
        return values
    values["form"] = parse_form((form[1] or form[3]) + (form[2] or form[4] or ""))
    registrants = find_registrants(cover)
    if registrants:
        values["company"] = _recase(_LEGAL.sub("", registrants[0]).strip(" ,") or registrants[0])
    quarter = _QUARTER_ENDED.search(cover)
    year = _YEAR_ENDED.search(cover) or (None if quarter else _EVENT_DATE.search(cover))
    if str(values["form"]).startswith("10-Q") and quarter:
        values["fiscal_year"] = int(quarter[1])
    elif year and year.re is _YEAR_ENDED:
        is_new_year = (year[1] or "").lower().startswith("jan") and int(year[2]) <= 7  # a 52-week year that ran over
        values["fiscal_year"] = int(year[3]) - is_new_year
    elif year:
        values["fiscal_year"] = int(year[1])
    return values


def find_registrants(cover: str) -> list[str]:
    """Return the lines above '(Exact name of registrant ...)', the name on the same line where none stands above."""
    lines = [line.strip(" _\t") for line in cover.split("\n")]
    lines = [line for line in lines if line]
    found = []
    for position, line in enumerate(lines):
        if _REGISTRANT.match(line) and position:
            name = re.sub(r"^[_\s]+|[_\s]+$", "", lines[position - 1])
            is_other = re.search(r"\b(number|no\.|charter)", name, re.IGNORECASE)
            if re.search(r"[A-Za-z]", name) and len(name) <= 80 and not is_other:
                found.append(name)
    return found


def spell_company(key: str, cover: str) -> str:
    """Return a file name's company (``COCACOLA``) as the first pages spell it (``Coca-Cola``), else in title case.

    The words must have the key's letters and digits exactly, so that nothing is guessed.
    """
    letters = re.sub(r"[^a-z0-9]", "", key.lower())
    spelled = _find_spelling(letters, find_registrants(cover) + cover.split("\n")) if letters else None
    if spelled:
        return _recase(spelled)
    return _recase(" ".join(key.replace("_", " ").split()))


def _find_spelling(letters: str, lines: Sequence[str]) -> str | None:
    """Return the first run of words that has just these letters, '&' and punctuation aside."""
    between = r"[\s&.,'’\-–‑]{0,3}"
    pattern = re.compile(rf"(?<![A-Za-z0-9]){between.join(map(re.escape, letters))}(?![A-Za-z0-9])", re.IGNORECASE)
    spellings = [match[0] for line in lines for match in pattern.finditer(line[:200])]
    mixed = [spelling for spelling in spellings if not spelling.isupper() and not spelling.islower()]
    return next(iter(mixed or spellings), None)


def _recase(name: str) -> str:
    """Return an all-capitals name in title case, short words (``AMD``, ``3M``, ``PG&E``) left alone."""
    words = name.replace("’", "'").split(" ")
    if sum(letter.islower() for letter in name) > 1 or (len(words) > 1 and len(name) <= 4):
        return " ".join(words)
    is_short = [len(word) <= 4 and (len(words) == 1 or not re.search("[AEIOUY]", word)) for word in words]
    return " ".join(word if short else _title(word) for word, short in zip(words, is_short))


def _title(word: str) -> str:
    """Title case by part: COCA-COLA to Coca-Cola, McDONALD'S to McDonald's."""
    parts = re.split(r"([-–‑&]|^Mc(?=[A-Z]))", word)
    return "".join(part[:1].upper() + part[1:].lower() for part in parts)
