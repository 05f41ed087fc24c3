"""Conversations to learn from: passages, questions about them, and answers in many styles, all in ragtune's one prompt.

A conversation is one served prompt (system, then passages and a question), its answer, and further questions about the
same passages: the first turn is exactly what serving sends, the others make more of the passages once read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import wording
import words
from tables import Filings, Table
from wording import calculate, money, value_of

from ragtune.answering.prompt import REFUSAL, number_passages, render_completion, render_prompt, render_question
from ragtune.records import Hit, Message, Passage, Question

STYLES = {"house": 38, "rows": 36, "title": 10, "value": 6, "sentence": 6, "restated": 4}
"""Share of conversations by answer style, in percent: only 'house' is the form that ragtune tunes to."""
KINDS = {"figure": 38, "growth": 14, "difference": 11, "ratio": 11, "compare": 10, "versus": 3, "absent": 16}
"""How often a kind of question is tried, in percent; a calculation is left out where the figures do not allow it."""
REFUSALS = {
    "rows": "No such row in the passages.",
    "title": "None of the passages.",
    "value": "I don't know.",
    "sentence": "The passages do not say.",
    "restated": "No such row.",
}
_RESTATED = re.compile(r"^(?P<label>\S.*?) (?P<year>(?:19|20)\d\d): (?P<amount>\S+)$")


@dataclass(frozen=True)
class Fact:
    """A figure as a passage states it: ``line`` is the passage's own line, ``passage`` the first that holds it."""

    company: str
    label: str
    year: str
    amount: str
    line: str
    passage: Passage
    unit: str


@dataclass(frozen=True)
class Turn:
    """One question with the answer to learn; ``gold`` is the house answer whatever the style."""

    question: Question
    kind: str
    completion: str
    gold: str


@dataclass(frozen=True)
class Conversation:
    """Passages and the turns about them, in one style."""

    passages: tuple[Passage, ...]
    turns: tuple[Turn, ...]
    style: str
    names_rows: bool = True

    def messages(self, turn_count: int | None = None) -> list[Message]:
        """Return the chat messages of the first turns, answers included."""
        messages: list[Message] = []
        for number, turn in enumerate(self.turns[:turn_count]):
            if number == 0:
                messages += render_prompt(turn.question.text, self.passages, self.names_rows)
            else:
                asked = render_question(turn.question.text, self.passages, self.names_rows)
                messages.append(Message(role="user", content=asked))
            messages.append(Message(role="assistant", content=turn.completion))
        return messages


@dataclass(frozen=True)
class Stage:
    """How hard the passages are. ``until`` is the share of the time after which the next stage begins at the latest."""

    until: float
    tokens: int
    batch: int
    passages: tuple[int, int]
    rows: tuple[int, int]
    columns: tuple[int, int]
    label_words: int
    real_share: float
    figures_only: bool = False
    most_amounts: int = 0
    """Amounts of all passages together, about; 0 does not limit them."""


STAGES = (
    Stage(0.12, 160, 12, (1, 1), (2, 4), (1, 2), 2, 0.0, figures_only=True),
    Stage(0.22, 192, 10, (1, 1), (2, 4), (1, 2), 2, 0.0),
    Stage(0.36, 256, 8, (1, 2), (2, 5), (1, 3), 3, 0.0),
    Stage(0.60, 384, 6, (1, 2), (3, 8), (1, 3), 5, 0.4),
    Stage(0.76, 896, 3, (1, 3), (4, 11), (2, 3), 5, 0.5),
    Stage(1.00, 1536, 2, (1, 4), (4, 28), (2, 3), 5, 0.6, most_amounts=52),
)
"""The curriculum, easiest first."""


def find_facts(tables: list[Table], passages: tuple[Passage, ...]) -> list[Fact]:
    """Return the figures the passages state, without those stated differently twice for one company."""
    found: dict[tuple[str, str, str], list[Fact]] = {}
    for table, passage in zip(tables, passages):
        for line in passage.text.split("\n"):
            match = _RESTATED.match(line)
            if match and match["year"] in table.columns:
                key = (table.company, match["label"].lower(), match["year"])
                fact = Fact(table.company, match["label"], match["year"], match["amount"], line, passage, table.unit)
                found.setdefault(key, []).append(fact)
    return [facts[0] for facts in found.values() if len({fact.amount for fact in facts}) == 1]


class Teacher:
    """Makes conversations about drawn tables."""

    def __init__(
        self, filings: Filings, style: str | None = None, kinds: dict[str, int] | None = None, other_names: float = 0.4
    ) -> None:
        """``style`` fixes the answer style; None draws it by STYLES.

        ``kinds`` are drawn instead of KINDS, ``other_names`` is how often a row that has one is asked by another name.
        """
        self.filings = filings
        self.random = filings.random
        self.style = style
        self.kinds = kinds or KINDS
        self.other_names = other_names
        self.restates_rows = True

    def conversation(self, stage: Stage, turn_count: int) -> Conversation:
        """Return a conversation with up to ``turn_count`` turns."""
        draw = self.random
        style = self.style or draw.choices(tuple(STYLES), tuple(STYLES.values()))[0]
        tables: list[Table] = [] if draw.random() < 0.04 else self._tables(stage)
        passages = number_passages([Hit(table.chunk(), 1.0, rank, "drawn") for rank, table in enumerate(tables, 1)])
        facts = [fact for fact in find_facts(tables, passages) if value_of(fact.amount) is not None]
        turns: list[Turn] = []
        for number in range(turn_count):
            kind = "figure" if stage.figures_only else draw.choices(tuple(self.kinds), tuple(self.kinds.values()))[0]
            if not tables:
                kind, turn_count = "absent", 3
                if number >= 3:
                    break
            asked = self._ask(kind, facts, tables)
            if asked is None:
                continue
            question, used = asked
            question = self._answered(question, used)
            shown = tuple(dict.fromkeys(fact.passage for fact in used))
            gold = render_completion(question, shown)
            turns.append(
                Turn(
                    question,
                    question.kind,
                    gold if style == "house" else self._other(style, question, kind, used, tables),
                    gold,
                )
            )
        shown = passages if self.restates_rows else tuple(_as_printed(p, t) for p, t in zip(passages, tables))
        return Conversation(shown, tuple(turns), style, draw.random() < 0.8)

    def _tables(self, stage: Stage) -> list[Table]:
        """Return the tables of a prompt: some of one company (other statements, other years), some of others."""
        draw, make = self.random, self.filings.table

        count = draw.randint(*stage.passages)
        fewest, most = stage.rows

        def size() -> tuple[int, int, int]:
            columns = draw.randint(*stage.columns)
            limit = stage.most_amounts // (count * columns) if stage.most_amounts else most
            return draw.randint(fewest, max(fewest + 2, min(most, limit))), columns, stage.label_words

        tables = [make(*size())]
        for _ in range(count - 1):
            first, kind = draw.choice(tables), draw.random()
            if kind < 0.45:
                tables.append(make(*size(), first.company, first.fiscal_year))
            elif kind < 0.65:
                tables.append(make(*size(), first.company, first.fiscal_year + draw.choice((-2, -1, 1, 2))))
            elif kind < 0.85:  # another company with the very same rows
                lines = tuple((text, self.filings._renumbered(amounts, "large")) for text, amounts in first.lines)
                tables.append(replace(first, company=self.filings.company(), lines=lines, page=draw.randint(2, 140)))
            else:
                tables.append(make(*size()))
        if draw.random() < 0.1:
            company = draw.choice(tables).company
            prose = tuple((self.filings.prose(company), ()) for _ in range(draw.randint(1, 3)))
            tables.append(replace(tables[0], company=company, page=draw.randint(2, 140), columns=(), unit="", lines=prose))
        elif self.filings.real_share and self.filings.real_prose and draw.random() < 0.3:
            read = draw.choice(self.filings.real_prose)
            unit = draw.choice(("", tables[0].unit))
            tables[-1 if len(tables) > 1 else 1 :] = [
                replace(draw.choice(tables), page=draw.randint(2, 140), columns=(), unit=unit, lines=read.lines)
            ]
        draw.shuffle(tables)
        return tables

    def _asked_label(self, fact: Fact, facts: list[Fact]) -> str:
        """Return the row's label as a question words it: mostly with a small first letter, sometimes its other name."""
        draw, label = self.random, fact.label
        labels = {other.label.lower() for other in facts if other.company == fact.company}
        names = [name for name in words.ALSO_CALLED.get(label.lower(), ()) if name.lower() not in labels]
        others = {
            key
            for key, value in words.ALSO_CALLED.items()
            if key in labels and key != label.lower() and set(value) & set(names)
        }
        if names and not others and draw.random() < self.other_names:
            return draw.choice(names)
        if draw.random() < 0.1 or sum(letter.isupper() for letter in label.split(" ")[0]) > 1:
            return label
        return label[0].lower() + label[1:]

    def _question(self, kind: str, templates: tuple[str, ...], fact: Fact, facts: list[Fact], **more: str) -> Question:
        draw, company = self.random, fact.company
        if " " not in company and draw.random() < 0.4:  # titles are often shorter than the name in the question
            company += draw.choice([ending for ending in words.ENDINGS if ending])
        elif draw.random() < 0.15:
            company += draw.choice((", Inc.", " Inc.", " Company"))
        elif draw.random() < 0.1:
            company = company.split(" ")[0]
        asked, is_more = self._asked_label(fact, facts), draw.random() < 0.5
        head = re.split(r" (?:of|to|on|from|for|before|at|by) |, net|, less|\(", asked)[0].strip()
        is_plural = head.endswith("s") and not head.endswith("ss")
        text = draw.choice(templates).format(
            c=company,
            o=company + ("'" if company.endswith("s") else "'s"),
            l=asked,
            y=fact.year,
            v="were" if is_plural else "was",
            w="are" if is_plural else "is",
            V="Were" if is_plural else "Was",
            d="increase" if is_more else "decrease",
            h="higher" if is_more else "lower",
            f=draw.choice(wording.PERIODS).format(y=fact.year, d=draw.choice(wording.DAYS)),
            g="greater" if is_more else "smaller",
            u=f" (in USD {fact.unit or 'millions'})" if draw.random() < 0.2 else "",
            **more,
        )
        aside = draw.random()
        if aside < 0.1:
            text = draw.choice(wording.BEFORE).format(t=draw.choice(wording.SOURCES)) + text
        elif aside < 0.25:
            scale = draw.choice(("millions", "thousands", "billions"))
            text += draw.choice(wording.AFTER).format(t=draw.choice(wording.SOURCES), u=scale)
        return Question(
            "",
            text,
            kind=kind,
            metadata={"label": fact.label, "asked": asked, "is_more": is_more, "other": more.get("m", "")},
        )

    def _ask(self, kind: str, facts: list[Fact], tables: list[Table]) -> tuple[Question, list[Fact]] | None:
        """Return a question of a kind and the figures that answer it (none if it is unanswerable), None if impossible."""
        draw = self.random
        if kind == "absent":
            return self._ask_absent(facts, tables)
        if not facts:
            return None
        fact = draw.choice(facts)
        if kind == "figure":
            return self._question(kind, wording.ASK_FIGURE, fact, facts), [fact]
        if kind in ("ratio", "versus"):
            kind = draw.choice(("ratio", "ratio", "margin")) if kind == "ratio" else kind
            seconds = [
                f
                for f in facts
                if f.company == fact.company and f.year == fact.year and f.label != fact.label and f.unit == fact.unit
            ]
            second = draw.choice(seconds) if seconds else None
            if second is None or calculate("difference" if kind == "versus" else kind, fact.amount, second.amount) is None:
                return None
            if kind == "versus" and fact.amount == second.amount:
                return None
            templates = {"ratio": wording.ASK_RATIO, "margin": wording.ASK_MARGIN, "versus": wording.ASK_VERSUS}[kind]
            return self._question(kind, templates, fact, facts, m=self._asked_label(second, facts)), [fact, second]
        seconds = [
            f
            for f in facts
            if (f.company, f.label, f.unit) == (fact.company, fact.label, fact.unit) and int(f.year) < int(fact.year)
        ]
        if not seconds:
            return None
        second = max(seconds, key=lambda f: int(f.year)) if draw.random() < 0.7 else draw.choice(seconds)
        if calculate("growth", fact.amount, second.amount) is None or fact.amount == second.amount:
            return None
        templates = {"growth": wording.ASK_GROWTH, "difference": wording.ASK_DIFFERENCE, "compare": wording.ASK_COMPARE}[
            kind
        ]
        return self._question(kind, templates, fact, facts, p=second.year), [fact, second]

    def _ask_absent(self, facts: list[Fact], tables: list[Table]) -> tuple[Question, list[Fact]] | None:
        """Return a question whose row, year or company no passage holds."""
        draw = self.random
        if facts and draw.random() < 0.75:
            fact = draw.choice(facts)
            same = [other for other in facts if other.company == fact.company]
            part = draw.choice(("label", "label", "year", "company"))
        else:
            company, year = (
                (draw.choice(tables).company if tables and draw.random() < 0.6 else self.filings.company()),
                str(draw.randint(1994, 2030)),
            )
            fact, same, part = Fact(company, "", year, "0", "", Passage(0, "", "", "", 0, 0, 0), ""), [], "label"
            same = [other for other in facts if other.company == company]
        if part == "label":
            fact = replace(fact, label=self.filings.label(draw.choice(tuple(words.STATEMENTS)), 5))
        elif part == "year":
            fact = replace(fact, year=str(int(fact.year) + draw.choice((-6, -5, -4, -3, -2, -1, 1, 2, 3, 4))))
        else:
            fact = replace(fact, company=self.filings.company())
        known = {_plain(label) for table in tables if table.company == fact.company for label, _ in table.rows}
        names = {_plain(n) for n in (fact.label, *words.ALSO_CALLED.get(fact.label.lower(), ()))}
        if part == "label" and any(name in label or label in name for name in names for label in known):
            return None
        if part == "year" and any(other.year == fact.year and other.label.lower() == fact.label.lower() for other in same):
            return None
        if any(fact.year in table.columns and not table.rows for table in tables):
            return None
        template, extra = wording.ASK_FIGURE, {}
        if draw.random() < 0.25:
            template, extra = (
                draw.choice((wording.ASK_GROWTH, wording.ASK_DIFFERENCE, wording.ASK_COMPARE)),
                {"p": str(int(fact.year) - 1)},
            )
        return self._question("absent", template, fact, facts, **extra), []

    def _answered(self, question: Question, used: list[Fact]) -> Question:
        """Return the question with its house answer and justification."""
        if not used:
            return question
        lines, first = [fact.line for fact in used], used[0]
        if question.kind == "figure":
            answer = money(first.amount, first.unit, first.label)
        elif question.kind == "compare":
            new, old = (abs(value_of(fact.amount) or 0.0) for fact in used)
            said = "Yes" if (new > old) == question.metadata["is_more"] else "No"
            sizes = [money(fact.amount.strip("()"), fact.unit) for fact in used]
            answer = f"{said}, {question.metadata['asked']} {'rose' if new > old else 'fell'} from {sizes[1]} to {sizes[0]}."
        elif question.kind == "versus":
            sizes = [abs(value_of(fact.amount) or 0.0) for fact in used]
            shown = [
                f"{name} of {money(fact.amount.strip('()'), fact.unit)}"
                for name, fact in zip((question.metadata["asked"], question.metadata["other"]), used)
            ]
            said = "Yes" if (sizes[0] > sizes[1]) == question.metadata["is_more"] else "No"
            answer = f"{said}, {shown[0]} was {'above' if sizes[0] > sizes[1] else 'below'} {shown[1]}."
        else:
            calculation = calculate(question.kind, first.amount, used[1].amount)
            assert calculation is not None  # _ask chose figures that allow it
            lines.append(calculation[0])
            is_percent = question.kind == "difference" and "%" in first.amount
            answer = (
                money(calculation[1] + "%" * is_percent, first.unit) if question.kind == "difference" else calculation[1]
            )
        return replace(question, answer=answer, justification="\n".join(lines))

    def _other(self, style: str, question: Question, kind: str, used: list[Fact], tables: list[Table]) -> str:
        """Return an answer in one of the styles that are not ragtune's."""
        if not used:
            return REFUSALS[style]
        first, labels = used[0], list(dict.fromkeys((fact.passage, fact.label) for fact in used))
        if style == "rows":
            return "\n".join(f"[{passage.number}] {label} {_row(passage, label)}" for passage, label in labels)
        if style == "title":
            return "\n".join(
                f"[{passage.number}] {passage.title}" for passage in dict.fromkeys(fact.passage for fact in used)
            )
        if style == "value":
            return "; ".join(fact.amount for fact in used)
        if style == "restated":
            return "\n".join(fact.line for fact in used)
        said = " and ".join(f"{money(fact.amount, fact.unit, fact.label)} in {fact.year}" for fact in used)
        name = first.label if len(labels) == 1 else f"{first.label} and {used[1].label}"
        return f"{first.company} reported {name} of {said}."


def _as_printed(passage: Passage, table: Table) -> Passage:
    """Return the passage with its rows as the page prints them, under a line of years: to measure what restating gives."""
    return replace(passage, text="\n".join([" ".join(table.columns), table.chunk().text]).strip())


def _plain(label: str) -> str:
    return re.sub(r"[^a-z]", "", label.lower())


def _row(passage: Passage, label: str) -> str:
    """Return all years of a row of a passage: ``2021: 4,210, 2020: 3,900``."""
    found = [
        line[len(label) + 1 :] for line in passage.text.split("\n") if (m := _RESTATED.match(line)) and m["label"] == label
    ]
    return ", ".join(dict.fromkeys(found))


__all__ = ["REFUSAL", "STAGES", "STYLES", "Conversation", "Stage", "Teacher", "Turn"]
