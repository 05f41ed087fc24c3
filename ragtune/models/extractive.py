"""A reader without a language model: it finds row, year and unit in the passages by the words they share with the question,
does the one-step calculation, cites, and refuses what it cannot match. The baseline that a tuned model has to beat."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path

from ragtune.documents import labels, terms
from ragtune.documents.pack import current_pack
from ragtune.documents.terms import find_terms
from ragtune.files import hash_file, hash_text
from ragtune.models.asked import Asked, parse_question
from ragtune.models.remote import approximate_tokens
from ragtune.models.rows import Matcher, Prompt, Row, parse_prompt, passages_of, stems
from ragtune.records import ANSWER, REFUSAL, Message
from ragtune.seams import Progress

NAME = "extractive"
MIN_SCORE = 0.75
"""A row whose label meets the question's words less than this is not the one asked for."""
_CALLED, _OTHER_NAME = 0.98, 0.97  # what a match by the name the prompt gives, or by another of ours, counts


class ExtractiveGenerator:
    """Reads figures off restated statement rows; deterministic, and every number it says is read or calculated."""

    name = NAME
    context_tokens = 1_000_000

    @property
    def fingerprint(self) -> str:
        """16 hex digits of the rules and the pack in force: answers that other rules gave are asked again."""
        here = Path(__file__).parent
        files = (*(here / f"{module}.py" for module in ("extractive", "asked", "rows")),
                 *(Path(str(module.__file__)) for module in (labels, terms)))
        return hash_text("".join(map(hash_file, files)) + current_pack().hash)

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Estimate the length of a prompt in the tokens of usual models, so that it is shown as much as they are."""
        return approximate_tokens(messages)

    def generate(
        self, prompts: Sequence[Sequence[Message]], max_new_tokens: int, progress: Progress | None = None
    ) -> list[str]:
        """Return one completion per prompt. It is short by its form, and never cut to ``max_new_tokens``."""
        completions = []
        for messages in prompts:
            completions.append(answer_prompt(messages[-1]["content"] if messages else ""))
            if progress:
                progress(len(completions), len(prompts))
        return completions


def answer_prompt(text: str) -> str:
    """Return the completion for a rendered user message; the refusal where nothing matches well enough."""
    prompt = parse_prompt(text)
    if not prompt.rows:
        return REFUSAL
    companies = passages_of([passage.company for passage in prompt.passages], prompt.question)
    asked = parse_question(prompt.question, tuple(companies.values()))
    if not asked.kind or (not companies and _names_someone(prompt)):
        return REFUSAL
    rows = [row for row in prompt.rows if not companies or row.passage.company in companies]
    rows = [row for row in rows if row.passage.is_quarterly or not asked.is_quarterly]
    finder = _Finder(rows, prompt, asked)
    return _ANSWERS[asked.kind](finder, asked) or REFUSAL


def _names_someone(prompt: Prompt) -> bool:
    """Tell whether the question names someone, though none of the passages' companies."""
    known = {stem for row in prompt.rows for stem in stems(row.label)}
    plain = current_pack().labels.same  # shareholders' equity is nobody's
    if any(not plain.keys() >= set(stems(match[1])) for match in re.finditer(r"\b([A-Za-z]\w+)['’]", prompt.question)):
        return True
    for match in re.finditer(r"\b[A-Z][\w&]*", prompt.question):
        is_term = len(match[0]) == 1 or match[0] in current_pack().names.terms
        if match.start() == 0 or is_term or re.fullmatch(r"FY\d*|[A-Z]&[A-Z]&?[A-Z]?", match[0]):
            continue
        if not set(stems(match[0])) <= known:
            return True
    return False


class _Finder:
    """Finds the row a name means among the rows that may be meant."""

    def __init__(self, rows: Sequence[Row], prompt: Prompt, asked: Asked) -> None:
        self.rows, self.names, self.is_balance = rows, prompt.names, asked.is_balance
        self.matcher, self.negative = Matcher(prompt.rows), current_pack().labels.negative
        self.year = asked.years[0] if asked.years else max((row.passage.year for row in rows), default="")
        self.before = asked.years[-1] if len(asked.years) > 1 else str(int(self.year) - 1) if self.year.isdigit() else ""

    def find(self, name: str, *years: str, beside: Row | None = None) -> Row | None:
        """Return the row that meets a name best and has all the years, None where none does well enough.

        Among equals the passage of the year's own filing goes first, then the one that holds the row ``beside``.
        """
        best: tuple[float, float, Row] | None = None
        scores: dict[str, float] = {}
        for row in self.rows:
            if not all(year in row.cells for year in years) or (beside and row.passage.unit != beside.passage.unit):
                continue
            if self.is_balance and row.cells[years[0]].startswith("(") and not self.negative.search(row.label):
                continue  # a change in the cash flow statement, called as the balance is
            if (score := scores.get(row.label)) is None:
                score = scores[row.label] = self.score(name, row.label)
            nearness = 0.02 * (row.passage.year == self.year) + 0.01 * (beside is not None and row.passage is beside.passage)
            if score >= MIN_SCORE and (best is None or score + nearness > best[0] + best[1]):
                best = (score, nearness, row)
        return best[2] if best else None

    def score(self, name: str, label: str) -> float:
        """Return how well a label meets a name or what the passages call it, 0 to 1."""
        called = [re.sub(rf"\b{re.escape(word)}(?!\w)", lambda _, said=said: said, name, flags=re.IGNORECASE)  # type: ignore[misc]
                  for word, said in self.names if word.lower() in name.lower()]
        return max(self.matcher.score(name, label), *(_CALLED * self.matcher.score(other, label) for other in called),
                   _OTHER_NAME * any(phrase == name and term.names_row(label) for phrase, term in find_terms(name)), 0.0)


def _say(lines: Sequence[str], answer: str) -> str:
    return "\n".join([*lines, f"{ANSWER} {answer}"])


def _lower_first(label: str) -> str:
    return label if label[1:2].isupper() else label[:1].lower() + label[1:]


def _answer_lookup(finder: _Finder, asked: Asked) -> str | None:
    row = finder.find(asked.names[0], finder.year)
    return _say([row.cite(finder.year)], row.show_answer(row.value(finder.year))) if row else None


def _answer_growth(finder: _Finder, asked: Asked) -> str | None:
    row = finder.find(asked.names[0], finder.year, finder.before)
    if row is None:
        return None
    new, old = row.value(finder.year), row.value(finder.before)
    if old <= 0:
        return None
    growth = f"{100 * (new / old - 1):.1f}%"
    return _say([row.cite(finder.year), row.cite(finder.before),
                 f"{row.show_number(new)} / {row.show_number(old)} - 1 = {growth}"], growth)


def _answer_difference(finder: _Finder, asked: Asked) -> str | None:
    row = finder.find(asked.names[0], finder.year, finder.before)
    if row is None:
        return None
    new, old = row.value(finder.year), row.value(finder.before)
    calculation = f"{row.show_number(new)} - {row.show_number(old)} = {row.show_number(new - old)}"
    return _say([row.cite(finder.year), row.cite(finder.before), calculation], row.show_answer(new - old))


def _answer_compare(finder: _Finder, asked: Asked) -> str | None:
    row = finder.find(asked.names[0], finder.year, finder.before)
    if row is None:
        return None
    new, old = row.value(finder.year), row.value(finder.before)
    yes = "Yes" if new != old and (new > old) == asked.is_more else "No"
    said = [row.show_answer(value) for value in (old, new)]
    move = f"{'rose' if new > old else 'fell'} from {said[0]} to {said[1]}" if new != old else f"stayed at {said[0]}"
    return _say([row.cite(finder.year), row.cite(finder.before)], f"{yes}, {_lower_first(row.label)} {move}.")


def _two_rows(finder: _Finder, asked: Asked) -> tuple[Row, Row, Decimal, Decimal] | None:
    first = finder.find(asked.names[0], finder.year)
    second = finder.find(asked.names[1], finder.year, beside=first) if first else None
    if first is None or second is None or first is second:
        return None
    return first, second, first.value(finder.year), second.value(finder.year)


def _answer_ratio(finder: _Finder, asked: Asked) -> str | None:
    printed = finder.find(asked.whole, finder.year) if asked.whole else None
    if printed and ("%" in printed.cells[finder.year] or finder.matcher.score(asked.whole, printed.label) > 0.9):
        return _answer_lookup(finder, dataclasses.replace(asked, names=(asked.whole,)))
    found = _two_rows(finder, asked)
    if found is None or not found[3]:
        return None
    top, bottom, above, below = found
    result = f"{100 * above / below:.1f}%" if asked.kind == "margin" else f"{above / below:.2f}"
    return _say([top.cite(finder.year), bottom.cite(finder.year),
                 f"{top.show_number(above)} / {bottom.show_number(below)} = {result}"], result)


def _answer_versus(finder: _Finder, asked: Asked) -> str | None:
    found = _two_rows(finder, asked)
    if found is None:
        return None
    one, other, left, right = found
    yes = "Yes" if left != right and (left > right) == asked.is_more else "No"
    place = "above" if left > right else "below" if left < right else "equal to"
    return _say([one.cite(finder.year), other.cite(finder.year)],
                f"{yes}, {_lower_first(one.label)} of {one.show_answer(left)} was {place} {_lower_first(other.label)} of "
                f"{other.show_answer(right)}.")


_ANSWERS: dict[str, Callable[[_Finder, Asked], str | None]] = {
    "lookup": _answer_lookup, "growth": _answer_growth, "difference": _answer_difference, "compare": _answer_compare,
    "ratio": _answer_ratio, "margin": _answer_ratio, "versus": _answer_versus,
}  # fmt: skip
