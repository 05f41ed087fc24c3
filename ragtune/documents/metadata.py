"""What a document is about, e.g. company, fiscal year, form. From a sidecar file, the file name, then the first pages.

How these say it is known by the domain pack; a ``pack`` not given is the one in force.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ragtune.documents.names import find_company, read_aliases
from ragtune.documents.pack import Pack, current_pack
from ragtune.errors import DocumentError
from ragtune.records import Metadata, Value


def read_sidecar(path: Path, pack: Pack | None = None) -> dict[str, Metadata]:
    """Return document name -> its row, from a JSON, JSONL or CSV file with a column 'document' or as the pack calls it.

    Raises DocumentError for a missing or broken file and rows that name no document.
    """
    if not path.is_file():
        raise DocumentError(f"the metadata file {path} does not exist. Mend documents.metadata, or set it to null.")
    try:
        rows = _read_rows(path)
    except (json.JSONDecodeError, UnicodeDecodeError, csv.Error) as error:
        raise DocumentError(f"the metadata file {path} is broken ({error}). Write it as JSON, JSONL or CSV.") from None
    table: dict[str, Metadata] = {}
    names = (pack or current_pack()).metadata.sidecar
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise DocumentError(f"{path}: entry {number} is {type(row).__name__}. Each must hold columns and values.")
        values = {names.get(str(key).strip().lower(), str(key).strip()): _plain(value) for key, value in row.items() if key}
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


def read_metadata(
    path: Path, pages: Sequence[str], sidecar: Metadata | None = None, pack: Pack | None = None
) -> dict[str, Value]:
    """Return the document's columns as far as the pack finds them, its owner's further names and its sidecar row's.

    The sidecar wins over the file name (``3M_2018_10K``), which wins over the first pages. A company in the file name
    takes its spelling from the first pages (``AMERICANWATERWORKS``: American Water Works).
    """
    pack = pack or current_pack()
    cover = "\n".join(pages[:3])[:20000]
    found: dict[str, Value] = {**_from_cover(cover, pack), **_from_file_name(path.stem, cover, pack)}
    kind, owner = pack.metadata.kind, pack.metadata.owner.column
    if owner and owner not in found and (name := find_company(cover, kind in found, pack.names)):
        found[owner] = _recase(name)
    for key, value in (sidecar or {}).items():
        if value is not None:
            found[key] = value
    if isinstance(found.get(kind), str):
        found[kind] = parse_form(str(found[kind]), pack)
    if isinstance(found.get(owner), (int, float)):
        found[owner] = str(found[owner])
    if owner:
        registrants = find_registrants(cover, pack)
        found.setdefault("aliases", read_aliases(cover, registrants, str(found.get(owner) or ""), pack.names))
    return {key: value for key, value in found.items() if value is not None}


def parse_form(text: str, pack: Pack | None = None) -> str:
    """Return the usual spelling of a document's kind: '10k' and '10-K' are '10-K'; an unknown one stays as it is."""
    return (pack or current_pack()).metadata.kinds.get(re.sub(r"[^a-z0-9]", "", text.lower()), text)


def _from_file_name(stem: str, cover: str, pack: Pack) -> dict[str, Value]:
    """Return what a name such as ``JPMORGAN_2021Q1_10Q`` says: the named groups of the first pattern that fits."""
    rules = pack.metadata
    match = next(filter(None, (re.match(pattern, stem, re.IGNORECASE) for pattern in rules.file_names)), None)
    values: dict[str, Value] = {}
    for column, said in match.groupdict().items() if match else ():
        if said is None:
            values[column] = None
        elif column in rules.numbers:
            values[column] = int(said) if said.isdecimal() else said
        elif column == rules.owner.column:
            values[column] = spell_company(said, cover, pack)
        else:
            values[column] = parse_form(said, pack) if column == rules.kind else said
    return values


def _from_cover(cover: str, pack: Pack) -> dict[str, Value]:
    """Return what the first pages say."""
    rules = pack.metadata
    values: dict[str, Value] = {}
    for rule in rules.cover:
        kind = str(values.get(rules.kind, ""))
        if rule.column in values or (rule.kinds and not kind.startswith(rule.kinds)):
            continue
        match = re.search(rule.pattern, cover)
        if match is None or (rule.unless and re.search(rule.unless, cover)):
            continue
        said = "".join(part for group, part in match.groupdict().items() if group.startswith("value") and part)
        value: Value = parse_form(said, pack) if rule.column == rules.kind else said
        if rule.column in rules.numbers and said.isdecimal():
            value = int(said) - bool(rule.year_before and re.search(rule.year_before, match[0]))
        values[rule.column] = value
    if rules.needs and rules.needs not in values:
        return {}
    registrants = find_registrants(cover, pack)
    if registrants:
        bare = re.sub(rules.owner.legal, "", registrants[0]) if rules.owner.legal else registrants[0]
        values[rules.owner.column] = _recase(bare.strip(" ,") or registrants[0])
    return values


def find_registrants(cover: str, pack: Pack | None = None) -> list[str]:
    """Return the names above the line that says whose document it is, such as '(Exact name of registrant ...)'."""
    rule = (pack or current_pack()).metadata.owner
    lines = [line.strip(" _\t") for line in cover.split("\n")]
    lines = [line for line in lines if line]
    found = []
    for position, line in enumerate(lines) if rule.line_below else ():
        if re.match(rule.line_below or "", line) and position:
            name = re.sub(r"^[_\s]+|[_\s]+$", "", lines[position - 1])
            is_other = rule.unless and re.search(rule.unless, name)
            if re.search(r"[A-Za-z]", name) and len(name) <= 80 and not is_other:
                found.append(name)
    return found


def spell_company(key: str, cover: str, pack: Pack | None = None) -> str:
    """Return a file name's company (``COCACOLA``) as the first pages spell it (``Coca-Cola``), else in title case.

    The words must have the key's letters and digits exactly, so that nothing is guessed.
    """
    letters = re.sub(r"[^a-z0-9]", "", key.lower())
    spelled = _find_spelling(letters, find_registrants(cover, pack) + cover.split("\n")) if letters else None
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
