"""Filters on metadata: ``company = '3M' and fiscal_year in (2017, 2018)``, parsed, checked and evaluated before the search.

Grammar: comparisons joined by ``and``, ``or``, ``not`` and parentheses. A comparison is ``column = value``, ``!=``, ``<``,
``<=``, ``>``, ``>=``, ``column in (value, ...)`` or ``column not in (value, ...)``. A value is a number, a quoted string,
``true``, ``false`` or ``null``; a column that is no plain word stands in backticks. Strings are equal when they differ only
in case. A missing value equals only ``null`` and is neither smaller nor larger than anything.

The same as a mapping or JSON, with MongoDB's operators: ``{"company": "3M", "fiscal_year": {"$in": [2017, 2018]}}``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ragtune.errors import QuestionError, nearest
from ragtune.records import Value
from ragtune.retrieval.conditions import (
    MAX_CHARACTERS,
    MAX_DIGITS,
    MAX_LEVELS,
    ORDERS,
    RESERVED,
    WORDS,
    Comparison,
    Node,
    Not,
    Place,
    comparisons,
    count_levels,
    fail,
    join,
    kind_of,
    rename,
    render_filter,
)
from ragtune.retrieval.operators import read_json, read_mapping

__all__ = ["Filter", "kind_of", "parse_filter", "render_filter"]

PAGE_NAMES = {"page_number": "page"}
"""Other names of the one column that no pack knows of: a page is where a chunk stands."""
EXAMPLE = "for example company = '3M' and fiscal_year in (2017, 2018)"
_TOKEN = re.compile(
    r"""\s*(?:(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.]))|(?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
    r"""|(?P<column>`(?:[^`\\]|\\.)+`)|(?P<name>[^\W\d]\w*)|(?P<sign><=|>=|!=|<>|==|=|<|>|\(|\)|,))""", re.DOTALL)
_SPACE = re.compile(r"\s*")
_SIGNS = {"==": "=", "<>": "!="}


@dataclass(frozen=True)
class Filter:
    """A parsed filter: ``text`` as written (of a mapping: its canonical text), ``node`` its tree."""

    text: str
    node: Node

    @cached_property
    def columns(self) -> dict[str, Place]:
        """Each column -> where it first stands."""
        places: dict[str, Place] = {}
        for comparison in comparisons(self.node):
            places.setdefault(comparison.column, comparison.place)
        return places

    def matches(self, row: Mapping[str, Value]) -> bool:
        """Tell whether a row of columns passes."""
        return self.node.matches(row)

    def check(self, kinds: Mapping[str, Collection[str]], synonyms: Mapping[str, str] | None = None) -> Filter:
        """Return the filter with its columns named as in ``kinds``: ``year`` where there is only fiscal_year means that.

        ``kinds`` maps each column to the kinds of its values: 'number', 'string', 'truth value'; ``synonyms`` other names of
        columns to their usual ones, as a pack's sidecar has them. Raises QuestionError where a column does not exist or
        holds other kinds of values than it is compared with.
        """
        names = {column: _find_column(column, kinds, {**PAGE_NAMES, **(synonyms or {})}) for column in self.columns}
        for column, place in self.columns.items():
            if names[column] is None:
                known = sorted(kinds)
                listed = ", ".join(known[:20]) + (f" and {len(known) - 20} more" if len(known) > 20 else "")
                hint = nearest(column[:50], kinds)
                fail(self.text, place, f"there is no column '{column[:50]}'.{hint} Columns here: {listed}")
        for comparison in comparisons(self.node):
            allowed = kinds[names[comparison.column] or comparison.column]
            for value in comparison.values:
                if value is not None and allowed and kind_of(value) not in allowed:
                    remedy = "Leave out the quotes" if isinstance(value, str) else "Quote it"
                    shown = value[:40] if isinstance(value, str) else value
                    fail(self.text, comparison.place, f"column '{comparison.column}' holds {' and '.join(sorted(allowed))} "
                                                      f"values, found the {kind_of(value)} {shown!r}. {remedy}")
        renamed = {column: name for column, name in names.items() if name and name != column}
        return Filter(self.text, rename(self.node, renamed)) if renamed else self


def _find_column(column: str, kinds: Mapping[str, Collection[str]], synonyms: Mapping[str, str]) -> str | None:
    """Return the column that is meant: itself, else one of the same usual name that there is, else None."""
    if column in kinds:
        return column
    usual = synonyms.get(column.lower(), column)
    return next((name for name in (usual, *synonyms) if name in kinds and synonyms.get(name, name) == usual), None)


def parse_filter(filter: str | Mapping[str, Any]) -> Filter:
    """Return the filter that a text, a JSON text or a mapping writes.

    Raises QuestionError that points at the line and column, or at the path inside the mapping.
    """
    if isinstance(filter, str):
        if len(filter) > MAX_CHARACTERS:
            raise QuestionError(f"the filter has {len(filter)} characters, allowed are {MAX_CHARACTERS}. Shorten it.")
        if not filter.strip():
            raise QuestionError(f"the filter is empty. Leave it out, or write one, {EXAMPLE}.")
        node = read_json(filter) if filter.lstrip().startswith("{") else Parser(filter).parse()
    elif isinstance(filter, Mapping):
        node = read_mapping(filter)
    else:
        raise QuestionError(f"a filter is a text or a mapping, found a {type(filter).__name__}. Write one, {EXAMPLE}.")
    if count_levels(node) > MAX_LEVELS:
        raise QuestionError(f"the filter has more than {MAX_LEVELS} levels of 'not' and parentheses. Write it flatter.")
    text = render_filter(node)
    if re.search("[\ud800-\udfff]", text):
        raise QuestionError(f"the filter holds half of a character ({ascii(text)[:80]}). Write it as whole characters.")
    if len(text) > MAX_CHARACTERS:
        raise QuestionError(f"the filter has {len(text)} characters when written out, allowed are {MAX_CHARACTERS}. "
                            "Shorten it.")
    return Filter(filter if isinstance(filter, str) else text, node)


@dataclass(frozen=True)
class Token:
    """One word of a filter: its kind ('number', 'string', 'column', 'name', 'sign' or 'end'), text and place."""

    kind: str
    text: str
    position: int

    @property
    def unquoted(self) -> str:
        """The text between the quotes of a string or a column."""
        return re.sub(r"\\(.)", r"\1", self.text[1:-1], flags=re.DOTALL)

    @property
    def shown(self) -> str:
        """The text as an error shows it."""
        return self.text[:40] or "the end"


def _tokenise(text: str) -> list[Token]:
    tokens, position = [], 0
    while (start := _SPACE.match(text, position).end()) < len(text):  # type: ignore[union-attr]  # it matches nothing too
        match = _TOKEN.match(text, start)
        if match is None:
            is_quote = text[start] in "'\"`"
            fail(text, start, "the quote is never closed" if is_quote else f"found '{text[start : start + 12]}'; {EXAMPLE}")
        kind = str(match.lastgroup)
        tokens.append(Token(kind, match[kind], match.start(kind)))
        position = match.end()
    return [*tokens, Token("end", "", len(text))]


class Parser:
    """Recursive descent over the tokens of one filter."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = _tokenise(text)
        self.place = 0

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
            fail(self.text, self.token.position, f"wanted '{sign}', found '{self.token.shown}'")

    def parse(self) -> Node:
        """Parse the whole text."""
        node = self.parse_any(0)
        if self.token.kind != "end":
            fail(self.text, self.token.position,
                 f"found '{self.token.shown}' after a whole filter; join comparisons with 'and' or 'or'")
        return node

    def parse_any(self, level: int) -> Node:
        """Parse comparisons joined by ``or``."""
        parts = [self.parse_all(level)]
        while self.take("or"):
            parts.append(self.parse_all(level))
        return join(parts, is_any=True)

    def parse_all(self, level: int) -> Node:
        """Parse comparisons joined by ``and``."""
        parts = [self.parse_one(level)]
        while self.take("and"):
            parts.append(self.parse_one(level))
        return join(parts, is_any=False)

    def parse_one(self, level: int) -> Node:
        """Parse ``not ...``, ``( ... )`` or a comparison."""
        if level > MAX_LEVELS:
            fail(self.text, self.token.position, f"more than {MAX_LEVELS} levels of 'not' and parentheses")
        if self.take("not"):
            return Not(self.parse_one(level + 1))
        if self.take("("):
            node = self.parse_any(level + 1)
            self.want(")")
            return node
        return self.parse_comparison()

    def parse_comparison(self) -> Comparison:
        """Parse ``column sign value`` or ``column [not] in (value, ...)``."""
        token = self.token
        if token.kind not in ("name", "column") or (token.kind == "name" and token.text.lower() in RESERVED):
            fail(self.text, token.position, f"wanted a column, found '{token.shown}'; {EXAMPLE}")
        column = token.text if token.kind == "name" else token.unquoted
        self.place += 1
        is_not = self.take("not")
        if self.take("in"):
            self.want("(")
            values = [self.parse_value()]
            while self.take(","):
                values.append(self.parse_value())
            self.want(")")
            return Comparison(column, "!=" if is_not else "=", tuple(values), token.position)
        sign = self.token
        if is_not or sign.kind != "sign" or sign.text in "(),":
            fail(self.text, sign.position, f"wanted one of = != < <= > >= in, found '{sign.shown}'")
        self.place += 1
        at = self.token.position
        value = self.parse_value()
        operation = _SIGNS.get(sign.text, sign.text)
        if operation in ORDERS and (value is None or isinstance(value, bool)):
            fail(self.text, at, f"'{operation}' compares numbers or strings, found {value}")
        return Comparison(column, operation, (value,), token.position)

    def parse_value(self) -> Value:
        """Parse a number, a quoted string, true, false or null."""
        token = self.token
        if token.kind == "number":
            value: Value = self.parse_number(token)
        elif token.kind == "string":
            value = token.unquoted
        elif token.kind == "name" and token.text.lower() in WORDS:
            value = WORDS[token.text.lower()]
        else:
            hint = f"; quote it: '{token.shown}'" if token.kind == "name" else ""
            fail(self.text, token.position, f"wanted a value, found '{token.shown}'{hint}")
        self.place += 1
        return value

    def parse_number(self, token: Token) -> int | float:
        """Return a number that Python can compare with any other."""
        if len(token.text) > MAX_DIGITS:
            fail(self.text, token.position, f"found a number of {len(token.text)} digits, allowed are {MAX_DIGITS}")
        if token.text.lstrip("-").isdecimal():
            return int(token.text)
        if not math.isfinite(float(token.text)):
            fail(self.text, token.position, f"the number {token.text} is too large")
        return float(token.text)
