"""Filters on metadata: ``company = '3M' and fiscal_year in (2017, 2018)``, parsed, checked and evaluated before the search.

Grammar: comparisons joined by ``and``, ``or``, ``not`` and parentheses. A comparison is ``column = value``, ``!=``, ``<``,
``<=``, ``>``, ``>=``, ``column in (value, ...)`` or ``column not in (value, ...)``. A value is a number, a quoted string,
``true``, ``false`` or ``null``. Strings are equal when they differ only in case. A missing value equals only ``null`` and
is neither smaller nor larger than anything.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, Union

from ragtune.errors import QuestionError, nearest
from ragtune.records import Value

EXAMPLE = "for example company = '3M' and fiscal_year in (2017, 2018)"
_TOKEN = re.compile(
    r"""\s*(?:(?P<number>-?\d+(?:\.\d+)?(?![\w.]))|(?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
    r"""|(?P<name>[^\W\d]\w*)|(?P<sign><=|>=|!=|<>|==|=|<|>|\(|\)|,))""")
_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_SIGNS = {"==": "=", "<>": "!="}


@dataclass(frozen=True)
class Comparison:
    """``column sign values``; the signs '=' and '!=' hold for any of the values, an order takes one value."""

    column: str
    sign: str
    values: tuple[Value, ...]

    def matches(self, row: Mapping[str, Value]) -> bool:
        """Tell whether a row of columns passes."""
        found = row.get(self.column)
        if self.sign in ("=", "!="):
            return any(_equal(found, value) for value in self.values) == (self.sign == "=")
        return _comparable(found, self.values[0]) and _ORDERS[self.sign](_fold(found), _fold(self.values[0]))


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


def _equal(left: Value, right: Value) -> bool:
    """Compare values of one kind; a number equals no string and no truth value."""
    if isinstance(left, bool) != isinstance(right, bool):
        return False
    return _fold(left) == _fold(right)


def _comparable(left: Value, right: Value) -> bool:
    """Tell whether two values have an order: both numbers or both strings."""
    if left is None or right is None:
        return False
    return kind_of(left) == kind_of(right) != "truth value"


@dataclass(frozen=True)
class Filter:
    """A parsed filter: ``text`` as written, ``node`` its tree, ``columns`` -> where each stands in the text."""

    text: str
    node: Node
    columns: Mapping[str, int]

    def matches(self, row: Mapping[str, Value]) -> bool:
        """Tell whether a row of columns passes."""
        return self.node.matches(row)

    def check(self, kinds: Mapping[str, Collection[str]]) -> None:
        """Raise QuestionError where a column does not exist or holds other kinds of values than it is compared with.

        ``kinds`` maps each column to the kinds of its values: 'number', 'string', 'truth value'.
        """
        for column, position in self.columns.items():
            if column not in kinds:
                _fail(self.text, position, f"there is no column '{column}'.{nearest(column, kinds)} "
                                           f"Columns here: {', '.join(sorted(kinds))}")
        for comparison in _comparisons(self.node):
            allowed = kinds[comparison.column]
            for value in comparison.values:
                if value is not None and allowed and kind_of(value) not in allowed:
                    remedy = "Leave out the quotes" if isinstance(value, str) else "Quote it"
                    _fail(self.text, self.columns[comparison.column],
                          f"column '{comparison.column}' holds {' and '.join(sorted(allowed))} values, found the "
                          f"{kind_of(value)} {value!r}. {remedy}")


def kind_of(value: Value) -> str:
    """Return 'number', 'string' or 'truth value'."""
    if isinstance(value, bool):
        return "truth value"
    return "number" if isinstance(value, (int, float)) else "string"


def _comparisons(node: Node) -> list[Comparison]:
    if isinstance(node, Comparison):
        return [node]
    parts = (node.part,) if isinstance(node, Not) else node.parts
    return [comparison for part in parts for comparison in _comparisons(part)]


def _fail(text: str, position: int, reason: str) -> NoReturn:
    raise QuestionError(f"filter, character {position + 1}: {reason}.\n  {text}\n  {' ' * position}^")


@dataclass(frozen=True)
class Token:
    """One word of a filter: its kind ('number', 'string', 'name', 'sign' or 'end'), text and place."""

    kind: str
    text: str
    position: int


def _tokenise(text: str) -> list[Token]:
    tokens, position = [], 0
    while text[position:].strip():
        match = _TOKEN.match(text, position)
        if match is None:
            start = position + len(text[position:]) - len(text[position:].lstrip())
            is_quote = text[start] in "'\""
            _fail(text, start, "the quote is never closed" if is_quote else f"found '{text[start : start + 12]}'; {EXAMPLE}")
        kind = str(match.lastgroup)
        tokens.append(Token(kind, match[kind], match.start(kind)))
        position = match.end()
    return [*tokens, Token("end", "", len(text))]


def parse_filter(text: str) -> Filter:
    """Return the filter a text writes. Raises QuestionError that points at the place."""
    if not text.strip():
        raise QuestionError(f"the filter is empty. Leave it out, or write one, {EXAMPLE}.")
    if len(text) > 10000:
        raise QuestionError(f"the filter has {len(text)} characters, allowed are 10000. Shorten it.")
    parser = Parser(text)
    node = parser.parse_any(0)
    token = parser.token
    if token.kind != "end":
        _fail(text, token.position, f"found '{token.text}' after a whole filter; join comparisons with 'and' or 'or'")
    return Filter(text, node, parser.columns)


class Parser:
    """Recursive descent over the tokens of one filter."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = _tokenise(text)
        self.place = 0
        self.columns: dict[str, int] = {}

    @property
    def token(self) -> Token:
        """The token at hand."""
        return self.tokens[self.place]

    def take(self, *words: str) -> bool:
        """Step over the token if it is one of the words or signs."""
        if self.token.kind in ("name", "sign") and self.token.text.lower() in words:
            self.place += 1
            return True
        return False

    def want(self, sign: str) -> None:
        """Step over the sign or raise."""
        if not self.take(sign):
            _fail(self.text, self.token.position, f"wanted '{sign}', found '{self.token.text or 'the end'}'")

    def parse_any(self, depth: int) -> Node:
        """Parse comparisons joined by ``or``."""
        parts = [self.parse_all(depth)]
        while self.take("or"):
            parts.append(self.parse_all(depth))
        return parts[0] if len(parts) == 1 else Both(tuple(parts), is_any=True)

    def parse_all(self, depth: int) -> Node:
        """Parse comparisons joined by ``and``."""
        parts = [self.parse_one(depth)]
        while self.take("and"):
            parts.append(self.parse_one(depth))
        return parts[0] if len(parts) == 1 else Both(tuple(parts))

    def parse_one(self, depth: int) -> Node:
        """Parse ``not ...``, ``( ... )`` or a comparison."""
        if depth > 50:
            _fail(self.text, self.token.position, "more than 50 levels of 'not' and parentheses")
        if self.take("not"):
            return Not(self.parse_one(depth + 1))
        if self.take("("):
            node = self.parse_any(depth + 1)
            self.want(")")
            return node
        return self.parse_comparison()

    def parse_comparison(self) -> Comparison:
        """Parse ``column sign value`` or ``column [not] in (value, ...)``."""
        token = self.token
        if token.kind != "name" or token.text.lower() in ("and", "or", "in"):
            _fail(self.text, token.position, f"wanted a column, found '{token.text or 'the end'}'; {EXAMPLE}")
        self.place += 1
        self.columns.setdefault(token.text, token.position)
        is_not = self.take("not")
        if self.take("in"):
            self.want("(")
            values = [self.parse_value()]
            while self.take(","):
                values.append(self.parse_value())
            self.want(")")
            return Comparison(token.text, "!=" if is_not else "=", tuple(values))
        sign = self.token
        if is_not or sign.kind != "sign" or sign.text in "(),":
            _fail(self.text, sign.position, f"wanted one of = != < <= > >= in, found '{sign.text or 'the end'}'")
        self.place += 1
        at = self.token.position
        value = self.parse_value()
        operation = _SIGNS.get(sign.text, sign.text)
        if operation in _ORDERS and (value is None or isinstance(value, bool)):
            _fail(self.text, at, f"'{operation}' compares numbers or strings, found {value}")
        return Comparison(token.text, operation, (value,))

    def parse_value(self) -> Value:
        """Parse a number, a quoted string, true, false or null."""
        token = self.token
        words: dict[str, Value] = {"true": True, "false": False, "null": None}
        if token.kind == "number":
            value: Value = float(token.text) if "." in token.text else int(token.text)
        elif token.kind == "string":
            value = re.sub(r"\\(.)", r"\1", token.text[1:-1], flags=re.DOTALL)
        elif token.kind == "name" and token.text.lower() in words:
            value = words[token.text.lower()]
        else:
            hint = f"; quote it: '{token.text}'" if token.kind == "name" else ""
            _fail(self.text, token.position, f"wanted a value, found '{token.text or 'the end'}'{hint}")
        self.place += 1
        return value
