"""The words of row labels, as a pack reads them: endings cut, words that mean the same made one, and what tells most."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from ragtune.documents.packfile import LabelRules

_DROPPED = frozenset("of the a an and or in to on at for from by as its with our their s end year ended per".split())


@dataclass(frozen=True, eq=False)
class Labels:
    """The words of row labels, the patterns compiled; one that the pack leaves out matches nothing."""

    rules: LabelRules

    @cached_property
    def same(self) -> dict[str, str]:
        """Word -> the word it is read as, the endings of both cut."""
        return {_cut(word.lower()): _cut(group[0].lower()) for group in self.rules.same for word in group}

    @cached_property
    def light(self) -> frozenset[str]:
        """Words that tell little of a row."""
        return self._read_all(self.rules.light)

    @cached_property
    def actions(self) -> frozenset[str]:
        """Words for what is done: spending on a thing is never the thing."""
        return self._read_all(self.rules.actions)

    @cached_property
    def qualifiers(self) -> frozenset[str]:
        """Words that make another row of a label."""
        return self._read_all(self.rules.qualifiers)

    @cached_property
    def tail(self) -> re.Pattern[str]:
        """Pattern of where a remark begins behind a label."""
        return re.compile("|".join((*self.rules.tails, " [-—–] ")))

    @cached_property
    def counts(self) -> re.Pattern[str]:
        """Pattern of labels whose amounts are a number of things."""
        return re.compile(self.rules.counts, re.IGNORECASE)

    @cached_property
    def negative(self) -> re.Pattern[str]:
        """Pattern of labels of balances that may be negative."""
        return re.compile(self.rules.negative, re.IGNORECASE)

    def stems(self, name: str) -> tuple[str, ...]:
        """Return the telling words of a label, endings cut: ``Purchases of property`` gives purchas, properti."""
        words = re.findall(r"[a-z]+(?:&[a-z]+)*|\d+", re.sub(r"['’]s?\b", "", name.lower()))
        cut = (_cut(word) for word in words if word not in _DROPPED)
        return tuple(self.same.get(word, word) for word in cut)

    def _read_all(self, words: Iterable[str]) -> frozenset[str]:
        return frozenset(self.stems(" ".join(words)))


def _cut(word: str) -> str:
    """Cut the endings of a word's other forms."""
    word = word.removesuffix("s") if not word.endswith(("ss", "us", "is")) else word
    word = word.removesuffix("e")
    return word[:-1] + "i" if word.endswith("y") else word
