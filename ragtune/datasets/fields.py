"""The fields of a question file's entries, each checked; every fault names where it stands, what was found and wanted."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ragtune.errors import QuestionError
from ragtune.files import hash_text
from ragtune.records import Evidence, Metadata, Value

OWN = '{"id": ..., "text": ..., "answer": ..., "evidence": [{"document": ..., "page": 1, "text": ...}]}'
"""What an entry in ragtune's own shape looks like."""


def read_text(row: Mapping[str, Any], keys: Sequence[str], where: str, shape: str = OWN) -> str:
    """Return the question, which stands under the first of ``keys`` that is there. Raises QuestionError where none is."""
    found = next((row[key] for key in keys if key in row), None)
    if found is None:
        raise QuestionError(f"{where}: found the keys {', '.join(map(str, row)) or 'none'}, but no '{keys[0]}'. "
                            f"Rows are {shape}")
    if not isinstance(found, str) or not found.strip():
        raise QuestionError(f"{where}: the question is empty. Write a question, or delete the line.")
    return found.strip()


def read_answer(answer: Any, where: str) -> str:
    """Return the answer; a number is written out, none (null or NaN) is an unanswerable question's."""
    if isinstance(answer, (list, dict, bool)):
        raise QuestionError(f"{where}: the answer is {type(answer).__name__}, wanted text; empty for unanswerable.")
    if answer is None or (isinstance(answer, float) and math.isnan(answer)):
        return ""
    return str(answer).strip()


def check_told(row: Mapping[str, Any], key: str, where: str) -> None:
    """Raise QuestionError where an entry does not say an answer at all: it would count as unanswerable."""
    if row.get(key) is None:
        raise QuestionError(f"{where}: there is no '{key}', so nothing says what is right. Give the answer; for a question "
                            f"that cannot be answered write \"{key}\": \"\".")


def read_id(found: Any, text: str, where: str) -> str:
    """Return the id as text; one made from the question where there is none."""
    if found is None or found == "":
        return hash_text(text)
    if not isinstance(found, (str, int)) or isinstance(found, bool):
        raise QuestionError(f"{where}: the id is {type(found).__name__}, wanted text or a number.")
    return str(found)


def read_objects(row: Mapping[str, Any], key: str, where: str, shape: str = OWN) -> list[Mapping[str, Any]]:
    """Return a list of objects; an empty one where there is none."""
    entries = row.get(key) or []
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise QuestionError(f"{where}: {key} is {type(entries).__name__}, wanted a list of objects. Rows are {shape}")
    return entries


def read_texts(value: Any, key: str, where: str) -> list[str]:
    """Return a text, or a list of texts, as a list without the empty ones."""
    texts = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise QuestionError(f"{where}: {key} is {type(value).__name__}, wanted text or a list of texts.")
    return [text.strip() for text in texts if text.strip()]


def read_evidence(document: Any, page: Any, text: str, where: str) -> Evidence:
    """Return evidence of a document's page, counted from 1.

    The page may be left out (None or 0), and then the document too, where there is a text to find it by:
    ``locate_evidence`` finds it in an index. Raises QuestionError otherwise.
    """
    is_unknown = page is None or (page == 0 and not isinstance(page, bool))
    if is_unknown and text.strip() and (document is None or isinstance(document, str)):
        return Evidence(document or "", 0, text)
    if not isinstance(document, str) or not document:
        raise QuestionError(f"{where}: evidence names the document {document!r}, wanted a file name without suffix.")
    if not isinstance(page, int) or isinstance(page, bool) or page < 1:
        raise QuestionError(f"{where}: evidence names page {page!r}, wanted a number counted from 1; it may be left out "
                            "where the evidence has a 'text' to find it by.")
    return Evidence(document, page, text)


def read_page(cell: str, where: str) -> int | None:
    """Return a page written as text; None where there is none."""
    if not cell.strip():
        return None
    if not re.fullmatch(r"\d{1,9}", cell.strip()) or not int(cell):
        raise QuestionError(f"{where}: the page is '{cell}', wanted a number counted from 1.")
    return int(cell)


def keep_plain(metadata: Mapping[str, Any]) -> dict[str, Value]:
    """Return the metadata that are plain values."""
    plain = (str, int, float, bool, type(None))
    return {str(key): value for key, value in metadata.items() if isinstance(value, plain)}


def read_metadata(row: Mapping[str, Any], where: str) -> Metadata:
    """Return an entry's metadata that are plain values."""
    metadata = row.get("metadata") or {}
    if not isinstance(metadata, Mapping):
        raise QuestionError(f"{where}: metadata is {type(metadata).__name__}, wanted an object of columns and values.")
    return keep_plain(metadata)
