"""What a filter is once it is read: a tree of comparisons, evaluated on rows of columns, rendered as one canonical text."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NoReturn, Union

from ragtune.errors import QuestionError
from ragtune.records import Value

ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
WORDS: dict[str, Value] = {"true": True, "false": False, "null": None}
RESERVED = ("and", "or", "not", "in")
MAX_LEVELS = 50
MAX_CHARACTERS = 50_000
MAX_DIGITS = 50
Place = Union[int, str]
"""Where something stands: a character of the text, or the path inside a mapping (``$or[1].year``)."""


@dataclass(frozen=True)
class Comparison:
    """``column sign values``; the signs '=' and '!=' hold for any of the values, an order takes one value."""

    column: str
    sign: str
    values: tuple[Value, ...]
    place: Place = field(default=0, compare=False, repr=False)

    @cached_property
    def wanted(self) -> frozenset[tuple[bool, Value]]:
        """The values as they are compared: a truth value equals no number, case does not matter."""
        return frozenset(_key(value) for value in self.values)

    def matches(self, row: Mapping[str, Value]) -> bool:
        """Tell whether a row of columns passes."""
        found = row.get(self.column)
        if self.sign in ("=", "!="):
            return (_key(found) in self.wanted) == (self.sign == "=")
        return _comparable(found, self.values[0]) and ORDERS[self.sign](_fold(found), _fold(self.values[0]))


@dataclass(frozen=True)
class Not:
    """Passes what ``part`` does not."""

    part: Node

    def matches(self, row: Mapping[str, Value]) -> bool:
        """Tell whether a row of columns passes."""
        return not self.part.matches(row)


@dataclass(frozen=True)
class Both:
    """Passes what all parts pass (``is_any`` false) or what any part passes."""

    parts: tuple[Node, ...]
    is_any: bool = False

    def matches(self, row: Mapping[str, Value]) -> bool:
        """Tell whether a row of columns passes."""
        return (any if self.is_any else all)(part.matches(row) for part in self.parts)


Node = Union[Comparison, Not, Both]


def _fold(value: Value) -> Value:
    return value.casefold() if isinstance(value, str) else value


def _key(value: Value) -> tuple[bool, Value]:
    return isinstance(value, bool), _fold(value)


def _comparable(left: Value, right: Value) -> bool:
    """Tell whether two values have an order: both numbers or both strings."""
    if left is None or right is None:
        return False
    return kind_of(left) == kind_of(right) != "truth value"


def kind_of(value: Value) -> str:
    """Return 'number', 'string' or 'truth value'."""
    if isinstance(value, bool):
        return "truth value"
    return "number" if isinstance(value, (int, float)) else "string"


def join(parts: list[Node], is_any: bool) -> Node:
    """Join at least one part by ``and`` or ``or``; one part stays what it is."""
    return parts[0] if len(parts) == 1 else Both(tuple(parts), is_any)


def comparisons(node: Node) -> Iterator[Comparison]:
    """Yield the comparisons of a tree from left to right."""
    if isinstance(node, Comparison):
        yield node
        return
    for part in (node.part,) if isinstance(node, Not) else node.parts:
        yield from comparisons(part)


def rename(node: Node, names: Mapping[str, str]) -> Node:
    """Return the tree with its columns renamed."""
    if isinstance(node, Comparison):
        return replace(node, column=names.get(node.column, node.column))
    if isinstance(node, Not):
        return Not(rename(node.part, names))
    return Both(tuple(rename(part, names) for part in node.parts), node.is_any)


def render_filter(node: Node) -> str:
    """Return the tree as text, no more parentheses than needed; ``parse_filter`` reads the same tree from it."""
    if isinstance(node, Comparison):
        column = render_column(node.column)
        if len(node.values) == 1:
            return f"{column} {node.sign} {render_value(node.values[0])}"
        return f"{column} {'in' if node.sign == '=' else 'not in'} ({', '.join(map(render_value, node.values))})"
    if isinstance(node, Not):
        return "not " + _render_part(node.part, isinstance(node.part, Both))
    return (" or " if node.is_any else " and ").join(_render_part(part, _is_wrapped(part, node)) for part in node.parts)


def _render_part(node: Node, is_wrapped: bool) -> str:
    return f"({render_filter(node)})" if is_wrapped else render_filter(node)


def _is_wrapped(part: Node, whole: Both) -> bool:
    """Tell whether a part needs parentheses: all but the ``and`` inside an ``or``, which binds tighter."""
    return isinstance(part, Both) and (part.is_any or not whole.is_any)


def count_levels(node: Node) -> int:
    """Return how many levels of ``not`` and parentheses the rendered tree has."""
    if isinstance(node, Comparison):
        return 0
    if isinstance(node, Not):
        return 1 + isinstance(node.part, Both) + count_levels(node.part)
    return max(_is_wrapped(part, node) + count_levels(part) for part in node.parts)


def render_column(name: str) -> str:
    """Return a column as the language writes it: in backticks where it is no plain word."""
    if re.fullmatch(r"[^\W\d]\w*", name) and name.lower() not in RESERVED:
        return name
    return "`" + re.sub(r"([\\`])", r"\\\1", name) + "`"


def render_value(value: Value) -> str:
    """Return a value as the language writes it."""
    if value is None or isinstance(value, bool):
        return next(word for word, meaning in WORDS.items() if meaning is value)
    return repr(value) if isinstance(value, (int, float)) else "'" + re.sub(r"([\\'])", r"\\\1", value) + "'"


def fail(text: str, place: Place, reason: str) -> NoReturn:
    """Raise QuestionError with the line and column of the text, or the path in a mapping, that is wrong."""
    reason = reason if reason.endswith((".", "?")) else f"{reason}."
    if isinstance(place, str):
        raise QuestionError(f"filter, at {place[:200] or 'its top'}: {reason}")
    start = text.rfind("\n", 0, place) + 1
    end = text.find("\n", place)
    line = text[start : end if end >= 0 else len(text)].replace("\t", " ")
    column = place - start
    first = max(0, column - 60)  # a long line is shown around the place
    shown = ("…" if first else "") + line[first : column + 60] + ("…" if column + 60 < len(line) else "")
    raise QuestionError(f"filter, line {text.count(chr(10), 0, place) + 1}, column {column + 1}: {reason}\n"
                        f"  {shown}\n  {' ' * (column - first + bool(first))}^")
