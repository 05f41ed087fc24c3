"""Which of the known names a question speaks of: every run of its words looked up in one table of aliases."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from ragtune.documents.names import CONNECTIVES, WORD, Alias, fold_name, fold_word, read_common_words

MAX_WORDS = 9
_MONEY = "$€£¥"
_LEAST_FUZZY = 6  # letters a misspelt name must have
_ARTICLES = frozenset("the a an this that these those its their our your my his her no any some each every which".split())
_DOUBT = 0.7  # for a name whose capitals are missing where no word of the question has any


@dataclass(frozen=True)
class Mention:
    """A name found in a question: who is meant, where it stands, how sure it is (in (0, 1]) and whether it was misspelt."""

    name: str
    start: int
    end: int
    strength: float
    is_misspelt: bool = False


@dataclass(frozen=True)
class Word:
    """A word of a question: its text, folded letters, those without a possessive 's, and its place."""

    text: str
    folded: str
    bare: str
    start: int
    end: int

    @property
    def is_connective(self) -> bool:
        """Whether it is 'and' or an ampersand."""
        return self.text.lower() in CONNECTIVES


def split_words(text: str) -> list[Word]:
    """Return the words of a question."""
    words = []
    for match in WORD.finditer(text):
        folded = fold_word(match[0])
        is_possessive = len(match[0]) > 2 and match[0][-2] in "'’" and match[0][-1] in "sS"
        words.append(Word(match[0], folded, folded[:-1] if is_possessive else folded, match.start(), match.end()))
    return words


class NameTable:
    """Aliases of many names. Built once; a question costs a few look-ups a word, however many names there are.

    ``terms`` in capitals abbreviate no name.
    """

    def __init__(self, names: Mapping[str, Iterable[Alias]], terms: Collection[str] = ()) -> None:
        self.terms = terms
        self.aliases: dict[str, list[tuple[str, Alias]]] = {}
        for name, aliases in names.items():
            for alias in aliases:
                self.aliases.setdefault(alias.key, []).append((name, alias))
        self.max_letters = max(map(len, self.aliases), default=0)
        self.by_start: dict[str, list[str]] = {}  # first two letters -> names long enough to be misspelt
        self.by_letter: dict[str, list[tuple[str, str]]] = {}  # first letter -> names, which an abbreviation may stand for
        for key, entries in self.aliases.items():
            if len(key) >= _LEAST_FUZZY and max(alias.strength for _, alias in entries) > 0.9:
                self.by_start.setdefault(key[:2], []).append(key)
        for name in names:
            self.by_letter.setdefault(fold_name(name)[:1], []).append((fold_name(name), name))

    def find(self, text: str) -> list[Mention]:
        """Return the names a text speaks of in the order of mention: longest match first, no two overlap.

        A doubtful one (a blend such as AMEX) counts only where there is none surer, a misspelt
        one or an abbreviation only where there is none at all.
        One alias of several names gives a mention of each.
        """
        words = split_words(text)
        is_flat = text == text.lower() or text == text.upper()
        found = [mention for first in range(len(words)) for mention in self._runs(text, words, first, is_flat)]
        taken: list[Mention] = []
        for mention in sorted(found, key=lambda each: (each.start - each.end, -each.strength)):
            if not any(_excludes(other, mention) for other in taken):
                taken.append(mention)
        if any(mention.strength > 0.5 for mention in taken):
            taken = [mention for mention in taken if mention.strength > 0.5]
        taken = taken or self._misspelt(words, is_flat) or ([] if is_flat else self._abbreviated(words))
        return sorted(taken, key=lambda mention: (mention.start, -mention.strength))

    def _runs(self, text: str, words: list[Word], first: int, is_flat: bool) -> list[Mention]:
        """Return the names that runs of words beginning with this one write."""
        start = words[first].start
        if words[first].is_connective or (start and text[start - 1] in _MONEY) or text[max(0, start - 1) : start] == "&":
            return []
        found: list[Mention] = []
        letters = ""
        for last in range(first, min(first + MAX_WORDS, len(words))):
            word = words[last]
            if word.is_connective:
                continue
            for key in dict.fromkeys((letters + word.folded, letters + word.bare)):
                if key in self.aliases and text[word.end : word.end + 1] != "&":
                    run = [each for each in words[first : last + 1] if not each.is_connective]
                    before = words[first - 1].folded if first else ""
                    found += self._mentions(key, run, before, is_flat)
            letters += word.folded
            if len(letters) > self.max_letters:
                break
        return found

    def _mentions(self, key: str, run: list[Word], before: str, is_flat: bool) -> list[Mention]:
        """Return a mention for each name this alias may mean, written as the alias must be."""
        found: list[Mention] = []
        entries = self.aliases[key]
        best = max(alias.strength for _, alias in entries)
        for name, alias in entries:
            factor = _weigh_case(alias, key, run, before, is_flat)
            if factor and alias.strength >= best - 0.3:  # 'Johnson' may be two companies, 'Intel' is only the one so named
                found.append(Mention(name, run[0].start, run[-1].end, alias.strength * factor))
        return found

    def _misspelt(self, words: list[Word], is_flat: bool) -> list[Mention]:
        """Return names that a capitalised, uncommon word writes with one letter wrong, missing, added or swapped."""
        found = []
        common = read_common_words()
        for word in words:
            if len(word.bare) < _LEAST_FUZZY or word.bare in common or not (is_flat or word.text[0].isupper()):
                continue
            keys = {key for start in (word.bare[:2], word.bare[1::-1]) for key in self.by_start.get(start, ())
                    if is_near(key, word.bare)}
            found += [Mention(name, word.start, word.end, 0.5, is_misspelt=True)
                      for key in sorted(keys) for name, alias in self.aliases[key] if alias.strength > 0.9]
        return found

    def _abbreviated(self, words: list[Word]) -> list[Mention]:
        """Return names of which a word in capitals has the first letter and some more (ORCL), if it is one name."""
        found = []
        for word in words:
            if 3 <= len(word.bare) <= 5 and word.bare.isalpha() and word.text[: len(word.bare)].isupper() \
                    and word.bare.upper() not in self.terms:
                names = [name for folded, name in self.by_letter.get(word.bare[0], ()) if _stands_for(word.bare, folded)]
                found += [Mention(names[0], word.start, word.end, 0.5, is_misspelt=True)] if len(names) == 1 else []
        return found


def _excludes(taken: Mention, other: Mention) -> bool:
    """Tell whether a mention overlaps one taken before, another name of just the same words aside."""
    if (taken.start, taken.end) == (other.start, other.end):
        return taken.name == other.name
    return taken.start < other.end and other.start < taken.end


def _stands_for(short: str, name: str) -> bool:
    """Tell whether the letters of ``short`` stand in ``name`` in this order, the first ones the same: orcl, oracle."""
    letters = iter(name)
    return short[:1] == name[:1] and len(name) <= 3 * len(short) and all(letter in letters for letter in short)


def _weigh_case(alias: Alias, key: str, run: list[Word], before: str, is_flat: bool) -> float:
    """Return how far a run's capitals, and the word before it, speak for an alias: 1 fully, 0 not at all."""
    if alias.case == "any":
        return 1.0
    if is_flat:
        is_word = len(run) == 1 and run[0].bare == run[0].folded and key in read_common_words()
        if is_word:
            return 0.0 if before in _ARTICLES else 0.5
        return _DOUBT if len(key) > 2 or any(letter.isdigit() for letter in key) else 0.0
    if alias.case == "upper":
        written = [letter for word in run for letter in word.text if letter.isalpha()]
        own = written[: sum(letter.isalpha() for letter in key)]  # without the possessive's
        return 1.0 if all(letter.isupper() for letter in own) else 0.0
    if all(not word.text[0].islower() for word in run):
        return 0.8 if not before and len(run) == 1 and not run[0].text.isupper() and key in read_common_words() else 1.0
    is_possessive = run[-1].bare != run[-1].folded and alias.strength > 0.9
    return _DOUBT if is_possessive and len(run) == 1 and before not in _ARTICLES else 0.0


def is_near(left: str, right: str) -> bool:
    """Tell whether two different words are one letter apart: one wrong, missing, added or two swapped."""
    if left == right or abs(len(left) - len(right)) > 1:
        return False
    same = 0
    while same < min(len(left), len(right)) and left[same] == right[same]:
        same += 1
    a, b = left[same:], right[same:]
    if len(left) == len(right):
        return a[1:] == b[1:] or (a[:2] == b[1::-1] and a[2:] == b[2:])
    return a[1:] == b if len(left) > len(right) else a == b[1:]
