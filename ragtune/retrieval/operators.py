"""Filters as mappings or JSON, with the operators of MongoDB as LangChain's stores take them, read to the filters' tree.

``{"company": "3M", "year": {"$in": [2017, 2018]}, "$or": [{"form": "10-K"}, {"page": {"$lt": 9}}]}``: all keys of a mapping
must hold. A list instead of a value stands for ``$in``, as in LangChain's FAISS store.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from ragtune.errors import QuestionError, nearest
from ragtune.records import Value
from ragtune.retrieval.conditions import MAX_CHARACTERS, MAX_DIGITS, MAX_LEVELS, Comparison, Node, Not, fail, join

SIGNS = {"$eq": "=", "$ne": "!=", "$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<=", "$in": "=", "$nin": "!="}
JOINS = ("$and", "$or", "$nor", "$not")
COLUMN_OPERATORS = (*SIGNS, "$between", "$exists", "$not")
_NESTING = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)


def read_json(text: str) -> Node:
    """Return the tree a JSON text writes. Raises QuestionError with the line and column, or the path, that is wrong."""
    level = 0
    for match in _NESTING.finditer(text):  # before json.loads, which recurses
        level += (match[0] in "[{") - (match[0] in "]}") if len(match[0]) == 1 else 0
        if level > 2 * MAX_LEVELS:
            fail(text, match.start(), f"more than {2 * MAX_LEVELS} levels of brackets")
    try:
        value = json.loads(text, object_pairs_hook=_read_pairs, parse_constant=_refuse_constant, parse_int=_read_integer)
    except json.JSONDecodeError as error:
        hint = "; JSON quotes names and strings with \"" if "'" in text else ""
        fail(text, min(error.pos, len(text)), f"this is not JSON: {error.msg[0].lower()}{error.msg[1:]}{hint}")
    return read_mapping(value)


def _read_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object; a key given twice would lose half of the filter."""
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise QuestionError(f"filter: the key '{twice[:50]}' stands twice in one object. Join both by \"$and\": [...].")
    return values


def _refuse_constant(word: str) -> NoReturn:
    raise QuestionError(f"filter: found {word}, allowed are numbers, strings, true, false and null.")


def _read_integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise QuestionError(f"filter: found a number of {len(text)} digits, allowed are {MAX_DIGITS}.")
    return int(text)


def read_mapping(filter: Any) -> Node:
    """Return the tree a mapping writes. Raises QuestionError with the path that is wrong, for example ``$or[1].year``."""
    return Reader().read_all(filter, "", 0)


class Reader:
    """Walks one mapping; counts what it has read, so that a huge one is refused at once."""

    def __init__(self) -> None:
        self.characters = 0

    def read_all(self, filter: Any, path: str, level: int) -> Node:
        """Read a mapping of columns and ``$and``, ``$or``, ``$nor``, ``$not``: all of it must hold."""
        parts: list[Node] = []
        for name, value in self.items(filter, path, level):
            place = f"{path}.{name}" if path else name
            if name in ("$and", "$or", "$nor"):
                if not isinstance(value, (list, tuple)) or not value:
                    fail("", place, f"wanted a list of at least one mapping, found {_show(value)}")
                inner = [self.read_all(part, f"{place}[{number}]", level + 1) for number, part in enumerate(value)]
                joined = join(inner, is_any=name != "$and")
                parts.append(Not(joined) if name == "$nor" else joined)
            elif name == "$not":
                parts.append(Not(self.read_all(value, place, level + 1)))
            elif name.startswith("$"):
                fail("", place, f"'{name}' stands where a column or one of {', '.join(JOINS)} is wanted."
                                f"{nearest(name, JOINS)}")
            else:
                parts.append(self.read_column(name, value, place, level + 1))
        return join(parts, is_any=False)

    def read_column(self, column: str, condition: Any, place: str, level: int) -> Node:
        """Read what a column must be: a value, a list of values or a mapping of operators that must all hold."""
        if isinstance(condition, (list, tuple)):
            return self.compare(column, "$in", condition, place)
        if not isinstance(condition, Mapping):
            return self.compare(column, "$eq", condition, place)
        parts: list[Node] = []
        for name, value in self.items(condition, place, level):
            inner = f"{place}.{name}"
            if name == "$not":
                parts.append(Not(self.read_column(column, value, inner, level + 1)))
            elif name == "$exists":
                if not isinstance(value, bool):
                    fail("", inner, f"wanted true or false, found {_show(value)}")
                parts.append(Comparison(column, "!=" if value else "=", (None,), place))
            elif name == "$between":
                if not isinstance(value, (list, tuple)) or len(value) != 2:
                    fail("", inner, f"wanted a list of two values, found {_show(value)}")
                parts += [self.compare(column, sign, end, inner) for sign, end in zip(("$gte", "$lte"), value)]
            elif name in SIGNS:
                parts.append(self.compare(column, name, value, inner))
            else:
                fail("", inner, f"found '{name}', allowed are {', '.join(COLUMN_OPERATORS)}."
                                f"{nearest(name, COLUMN_OPERATORS)}")
        return join(parts, is_any=False)

    def compare(self, column: str, name: str, value: Any, place: str) -> Comparison:
        """Return one comparison, its values checked."""
        if name in ("$in", "$nin"):
            if not isinstance(value, (list, tuple, set, frozenset)) or not value:
                fail("", place, f"wanted a list of at least one value, found {_show(value)}")
            return Comparison(column, SIGNS[name], tuple(self.value(each, place) for each in value), place)
        found = self.value(value, place)
        if name not in ("$eq", "$ne") and (found is None or isinstance(found, bool)):
            fail("", place, f"'{name}' compares numbers or strings, found {found}")
        return Comparison(column, SIGNS[name], (found,), place)

    def items(self, filter: Any, path: str, level: int) -> list[tuple[str, Any]]:
        """Return the items of a mapping that is one, is not empty, has texts as keys and is not nested too deeply."""
        if level > MAX_LEVELS:
            fail("", path, f"more than {MAX_LEVELS} levels of mappings")
        if not isinstance(filter, Mapping):
            fail("", path, f"wanted a mapping, found {_show(filter)}")
        if not filter:
            fail("", path, "an empty mapping filters nothing; leave it out")
        for name in filter:
            if not isinstance(name, str) or not name.strip():
                fail("", path, f"wanted a column's name as key, found {_show(name)}")
            self.spend(len(name))
        return list(filter.items())

    def value(self, value: Any, place: str) -> Value:
        """Return a plain value or raise."""
        self.spend(len(value) if isinstance(value, str) else 1)
        if value is None or isinstance(value, (bool, str)):
            return value
        if isinstance(value, int) and abs(value) < 10 ** (MAX_DIGITS - 1):
            return int(value)
        if isinstance(value, float) and math.isfinite(value):
            return float(value)
        fail("", place, f"wanted a number, a string, true, false or null, found {_show(value)}")

    def spend(self, characters: int) -> None:
        """Count what was read and raise where it is too much."""
        self.characters += characters
        if self.characters > MAX_CHARACTERS:
            raise QuestionError(f"the filter has more than {MAX_CHARACTERS} characters. Shorten it.")


def _show(value: Any) -> str:
    """Return a short sight of a wrong value, whatever it is."""
    if isinstance(value, (str, float, bool)) or value is None:
        return repr(value[:40] if isinstance(value, str) else value)
    if isinstance(value, int):
        return repr(value) if abs(value) < 10**MAX_DIGITS else f"a number of more than {MAX_DIGITS} digits"
    size = f" of {len(value)}" if isinstance(value, (list, tuple, dict)) else ""
    return f"a {type(value).__name__}{size}"
