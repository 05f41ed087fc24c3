"""The entries of a question file and where each stands: JSONL by lines, JSON by entries, CSV and TSV by rows."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragtune.errors import QuestionError, RunError
from ragtune.files import read_jsonl

LISTS = ("data", "examples")
"""Keys under which a JSON object may hold its entries: SQuAD says 'data'."""
_DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}


@dataclass(frozen=True)
class Entry:
    """An object of a question file. ``place`` says where in the file it stands ('line 3'), ``where`` names the file too."""

    row: Mapping[str, Any]
    place: str
    where: str


def is_table(path: Path) -> bool:
    """Tell by the suffix whether a file has named columns: .csv, .tsv or .tab."""
    return path.suffix.lower() in _DELIMITERS


def read_entries(path: Path) -> Iterator[Entry]:
    """Yield the entries of a file, told by its suffix and first character.

    Raises QuestionError where a line, an entry or a row is not an object, or the file is not JSON, CSV or UTF-8 text.
    """
    try:
        yield from _read_table(path) if is_table(path) else _read_json(path) if _is_json(path) else _read_lines(path)
    except RunError as error:  # read_jsonl names file and line
        raise QuestionError(str(error)) from error
    except UnicodeDecodeError as error:
        raise QuestionError(f"{path} is not UTF-8 text ({error.reason}). Save it as UTF-8.") from error
    except RecursionError:
        raise QuestionError(f"{path} nests lists or objects too deeply. Entries are objects of plain fields.") from None
    except ValueError as error:  # a number of thousands of digits
        raise QuestionError(f"{path} holds a value that cannot be read ({error}).") from error


def _is_json(path: Path) -> bool:
    """Tell whether the whole file is one JSON value: a list, or an object that goes on over several lines."""
    with path.open(encoding="utf-8-sig") as file:
        first = next((line for line in file if line.strip()), "").strip()
    if path.suffix.lower() != ".json":
        return first.startswith("[")
    try:  # some write JSONL with the suffix .json
        return not isinstance(json.loads(first), dict) or len(_all_lines(path, at_most=2)) < 2
    except ValueError:
        return True


def _all_lines(path: Path, at_most: int) -> list[str]:
    """Return the first lines that are not empty."""
    lines: list[str] = []
    with path.open(encoding="utf-8-sig") as file:
        for line in file:
            lines += [line] if line.strip() else []
            if len(lines) == at_most:
                break
    return lines


def _read_lines(path: Path) -> Iterator[Entry]:
    for number, row in read_jsonl(path):
        yield Entry(row, f"line {number}", f"{path}:{number}")


def _read_json(path: Path) -> Iterator[Entry]:
    """Yield the entries of a JSON list, of an object's list under one of LISTS, or the object itself."""
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise QuestionError(f"{path}:{error.lineno}: not JSON ({error.msg}, column {error.colno}). The file must be a JSON "
                            "list of objects, or hold one object a line (JSONL).") from error
    if isinstance(value, dict):
        value = next((value[key] for key in LISTS if isinstance(value.get(key), list)), [value])
    if not isinstance(value, list):
        raise QuestionError(f"{path}: found {type(value).__name__}. The file must be a JSON list of objects.")
    for number, row in enumerate(value, start=1):
        where = f"{path}, entry {number}"
        if not isinstance(row, dict):
            raise QuestionError(f"{where}: found {type(row).__name__}. Each entry must be an object.")
        yield Entry(row, f"entry {number}", where)


def _read_table(path: Path) -> Iterator[Entry]:
    """Yield the rows of a table by its column names, in lower case; empty rows are left out.

    A .csv without a comma in its head, but with a semicolon, is read by semicolons, as some spreadsheets write it.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        head = file.readline()
        file.seek(0)
        delimiter = _DELIMITERS[path.suffix.lower()]
        if delimiter == "," and "," not in head and ";" in head:
            delimiter = ";"
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            columns = [name.strip().lower() for name in next(reader, [])]
            last = reader.line_num
            for cells in reader:
                number, last = last + 1, reader.line_num  # a quoted cell may go over several lines
                if any(cell.strip() for cell in cells):
                    yield _read_row(path, number, columns, cells)
        except csv.Error as error:
            raise QuestionError(f"{path}:{reader.line_num}: not a table ({error}). Quote cells that hold the delimiter "
                                "or line breaks.") from error


def _read_row(path: Path, number: int, columns: list[str], cells: list[str]) -> Entry:
    if len(set(columns)) != len(columns):
        twice = sorted({name for name in columns if columns.count(name) > 1})
        raise QuestionError(f"{path}:1: the column '{twice[0]}' stands there twice. Give each column its own name.")
    if len(cells) > len(columns):
        raise QuestionError(f"{path}:{number}: found {len(cells)} cells under {len(columns)} columns. Quote cells that hold "
                            "the delimiter.")
    row = dict(zip(columns, cells + [""] * (len(columns) - len(cells))))
    return Entry(row, f"line {number}", f"{path}:{number}")
