"""The schema of a domain pack's files: what each key holds, and what makes it wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from ragtune.errors import nearest


def _compile(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        place = f" at character {error.pos + 1}" if error.pos is not None else ""
        raise ValueError(f"this is no regular expression: {error.msg}{place}") from None


def _check_pattern(text: str) -> str:
    """Return the text. Raises ValueError where it is no regular expression."""
    _compile(text)
    return text


def _check_word(text: str) -> str:
    """Return the text. Raises ValueError where it cannot be one of several patterns that are joined."""
    if _compile(f"(?:{text})").groupindex:
        raise ValueError("a pattern in a list of words must name no group: they are joined")
    return text


def _check_title(text: str) -> str:
    """Return the text. Raises ValueError where it cannot be joined, or not be compared without spaces."""
    _check_word(text)
    return _check_word(text.replace(" ", "")) and text


def _check_nested(text: str) -> str:
    """Return the text. Raises ValueError where it cannot stand within a group."""
    _compile(f"(?P<item>{text})")
    return text


def _check_name(text: str) -> str:
    """Return the text. Raises ValueError where it has no group for the name."""
    if not _compile(text).groups:
        raise ValueError("the pattern has no group (...) that holds the name")
    return text


Pattern = Annotated[str, AfterValidator(_check_pattern)]
Name = Annotated[str, AfterValidator(_check_name)]
Word = Annotated[str, AfterValidator(_check_word)]
Title = Annotated[str, AfterValidator(_check_title)]
Nested = Annotated[str, AfterValidator(_check_nested)]


class Part(BaseModel):
    """A part of a pack: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TermEntry(Part):
    """A line item (a quantity with a name) and what questions and documents call it."""

    names: tuple[str, ...] = Field(min_length=1, description="Names in questions; '*' at the end marks a plural.")
    labels: tuple[Word, ...] = Field(min_length=1, description="Patterns of whole row labels, without remarks in ().")
    sections: tuple[str, ...] = Field((), description="Sections where such a row usually stands, the likeliest first.")
    also: tuple[str, ...] = Field((), description="Plain phrases to add to a query that asks for it.")


class TopicEntry(Part):
    """Words of questions that name no row but point to sections and to other wordings."""

    name: str = Field(description="What the topic is.")
    asked: tuple[Word, ...] = Field(min_length=1, description="Patterns of words in questions.")
    sections: tuple[str, ...] = Field((), description="Sections that treat it, the likeliest first.")
    also: tuple[str, ...] = Field((), description="Plain phrases to add to a query that asks for it.")


class SectionEntry(Part):
    """A part of a document that has a title. Titles and rows are compared without spaces and upper case."""

    name: str = Field(description="What the section is called in this pack.")
    headings: tuple[Title, ...] = Field((), description="Patterns of whole titles on a page.")
    items: tuple[str, ...] = Field((), description="Numbered headings it stands under, as asked for: 'Item 7'.")
    asked: tuple[Word, ...] = Field((), description="Patterns of its names in questions.")
    level: int = Field(3, ge=1, le=3, description="1 and 2 last until the next of their level or above; 3: the page.")
    rows: tuple[Title, ...] = Field((), description="Patterns of how lines begin there.")
    rows_needed: int = Field(0, ge=0, description="Different rows that must follow its title on the page.")
    rows_alone: int = Field(0, ge=0, description="Different rows that mark it on a page without its title; 0: none do.")
    is_table: bool = Field(False, description="Without its title, the page must consist of rows for the most part.")
    unless: tuple[Title, ...] = Field((), description="Patterns that, at the start of one of the first lines, deny it.")


class HeadingRules(Part):
    """How headings look, whatever they say."""

    numbered: Nested | None = Field(None, description="Pattern of a whole line that is a heading by its number.")
    prefixes: tuple[Title, ...] = Field((), description="What may stand before a title on its line.")
    suffixes: tuple[Title, ...] = Field((), description="What may stand behind a title on its line.")


class CoverRule(Part):
    """One column read from the first pages."""

    column: str = Field(description="The column.")
    pattern: Pattern = Field(description="Searched in the first pages; groups whose names begin with 'value' are joined.")
    kinds: tuple[str, ...] = Field((), description="Beginnings of the kinds of document it holds for; none: all.")
    unless: Pattern | None = Field(None, description="It does not hold where the first pages match this.")
    year_before: Pattern | None = Field(None, description="Where the match holds this, the year before is meant.")

    @model_validator(mode="after")
    def _check_value(self) -> CoverRule:
        if not any(group.startswith("value") for group in re.compile(self.pattern).groupindex):
            raise ValueError(f"the pattern of '{self.column}' has no group (?P<value>...)")
        return self


class OwnerRule(Part):
    """Whose document it is: a name that stands above a known line of the first pages."""

    column: str = Field("company", description="The column of the name.")
    line_below: Pattern | None = Field(None, description="How the line below the name begins.")
    unless: Pattern | None = Field(None, description="Lines that match this are no name.")
    legal: Pattern | None = Field(None, description="Legal suffix of a name, left out.")


class MetadataRules(Part):
    """How the columns of a document are read from its file name, its first pages and a sidecar file."""

    file_names: tuple[Pattern, ...] = Field((), description="Patterns with named groups: a group's name is its column.")
    numbers: tuple[str, ...] = Field((), description="Columns whose values are whole numbers.")
    year: str = Field("year", description="The column that says which year a document is about.")
    quarter: str = Field("quarter", description="The column that says which quarter (1 to 4) of it.")
    kind: str = Field("kind", description="The column that holds the kind of document.")
    kinds: Mapping[str, str] = Field({}, description="A kind in lower case letters and digits -> its usual spelling.")
    cover: tuple[CoverRule, ...] = Field((), description="What first pages say; of a column's rules the first that fits.")
    needs: str | None = Field(None, description="The column without which nothing is taken from first pages.")
    owner: OwnerRule = OwnerRule()
    sidecar: Mapping[str, str] = Field(
        {}, description="Other names of a column, in sidecars and filters, in lower case -> ours; 'document': the file.")
    title: tuple[str, ...] = Field((), description="What a passage's title shows, as far as known, e.g. '{company}'.")
    context: tuple[str, ...] = Field((), description="What stands above a chunk when it is indexed, as far as known.")

    @model_validator(mode="after")
    def _check_templates(self) -> MetadataRules:
        for template in (*self.title, *self.context):
            if not re.fullmatch(r"[^{}]*\{\w+\}[^{}]*", template):
                raise ValueError(f"'{template}' must hold one column in braces, such as '{{company}}'")
        return self


class NameRules(Part):
    """How owners of documents are named, on first pages and in questions. Group 1 of each pattern is the name."""

    legal: tuple[str, ...] = Field((), description="Legal forms behind a name, in lower case letters: no part of it.")
    terms: tuple[str, ...] = Field((), description="Capitals that are terms of the field, never somebody's initials.")
    nicknames: Mapping[str, tuple[str, ...]] = Field(
        {}, description="What people say -> the names that are meant; both in lower case letters and digits.")
    tickers: tuple[Name, ...] = Field((), description="A symbol, on the first pages.")
    former: Name | None = Field(None, description="A name it had before.")
    row: Name | None = Field(None, description="The first of several owners in a table; only where the kind is known.")
    headline: Name | None = Field(None, description="The owner at the beginning of a title.")
    unless: Pattern | None = Field(None, description="Lines that match this are no name.")


class ReportEntry(Part):
    """A kind of document that questions name."""

    forms: tuple[str, ...] = Field((), description="Values of the column that holds the kind of document.")
    phrases: tuple[str, ...] = Field(min_length=1, description="What questions call it; plurals and hyphens aside.")
    covers: Literal["year", "quarter", "moment"] = Field("year", description="The time such a document is about.")
    sums_up: bool = Field(False, description="The last one of a year tells of the whole year.")
    like: tuple[str, ...] = Field((), description="Kinds that may stand in for it.")


class TableRules(Part):
    """The words of tables. Patterns of words are joined; capitals do not count."""

    header_words: tuple[Word, ...] = Field((), description="What may stand in a table's head beside years.")
    units: tuple[str, ...] = Field((), description="Units that amounts are counted in.")
    paid_out: tuple[Word, ...] = Field((), description="Labels of outflows: in parentheses, asked as positive.")
    signed: tuple[Word, ...] = Field((), description="Labels for which that does not hold.")


class RatioEntry(Part):
    """A ratio of two rows that questions are asked about."""

    over: tuple[str, ...] = Field(min_length=1, description="Labels of the numerator, in lower case; the first there is.")
    under: tuple[str, ...] = Field(min_length=1, description="Labels of the denominator.")
    phrase: str = Field(description="What the ratio is called in a question.")
    is_percent: bool = Field(False, description="It is said in percent.")


class FactRules(Part):
    """Which rows questions can be asked from. Capitals do not count."""

    telling: Pattern = Field("", description="A label must hold this, so that it speaks for itself.")
    vague: Pattern = Field("(?!)", description="Labels that begin so say nothing by themselves.")
    counted: Pattern = Field("(?!)", description="Labels whose amounts are numbers without the table's unit.")
    anchors: Pattern = Field("(?!)", description="Rows of which two make a page a primary statement.")
    balances: Pattern = Field("(?!)", description="Rows of which two say amounts at a date, not of a period.")
    flows: Pattern = Field("(?!)", description="Rows of a period: beside balances they make a page a summary.")
    elsewhere: Pattern = Field("(?!)", description="Words over tables that are about somebody else than the owner.")
    inner: Pattern = Field("(?!)", description="Words over tables whose rows mean nothing outside.")
    whole: Pattern = Field("(?!)", description="Labels that mean something there all the same.")
    changes: Pattern = Field("(?!)", description="Headings within a table below which amounts are changes of balances.")
    changes_end: Pattern = Field("(?!)", description="Rows and headings that end this.")
    movements: Pattern = Field("(?!)", description="Labels whose amounts are changes; no change of them is asked.")
    opening: Pattern = Field("(?!)", description="Labels of amounts at the beginning of a period.")
    deducted: Pattern = Field("(?!)", description="Labels whose parentheses say that the amount is taken off.")
    either: Pattern = Field("(?!)", description="Labels, beside tables.signed, whose parentheses say a negative amount.")
    own_name: Pattern = Field("(?!)", description="Labels that say more than the other names of their line item.")
    ratios: tuple[RatioEntry, ...] = Field((), description="Ratios that are asked about.")


class WordingRules(Part):
    """How questions asked from rows are worded: {be}, {present}, {owner}, {name}, {phrase}, {period}, {year}, {hint}."""

    periods: tuple[str, ...] = Field(("{year}",), min_length=1, description="What a year is called.")
    hint: str = Field(" (in {unit})", description="Where a unit is asked for.")
    flows: tuple[str, ...] = Field(
        ("What {be} {owner} {phrase} in {period}{hint}?",), min_length=1, description="Asking for an amount of a period.")
    balances: tuple[str, ...] = Field(
        ("What {be} {owner} {phrase} at the end of {period}{hint}?",), min_length=1,
        description="Asking for an amount at its end.")
    currency: str = Field("", description="Stands before an amount.")
    whole_amounts: Pattern | None = Field(None, description="Labels whose amounts are not counted in the table's unit.")
    around: tuple[Word, ...] = Field((), description="Words of questions that stand around the name of a row.")
    percent: Word = Field("(?!)", description="Questions that name a quotient with such a word want it in percent.")
    beyond: tuple[Word, ...] = Field((), description="Words of questions that rows and one step do not answer.")

    @model_validator(mode="after")
    def _check_places(self) -> WordingRules:
        places = ("be", "present", "owner", "name", "phrase", "period", "year", "hint", "unit")
        for template in (*self.periods, self.hint, *self.flows, *self.balances):
            try:
                template.format(**dict.fromkeys(places, ""))
            except (KeyError, IndexError, ValueError) as error:
                raise ValueError(f"'{template}' cannot be filled in ({error}); places are {', '.join(places)}") from None
        return self


class MeasureEntry(Part):
    """What is worked out from several line items: a ratio, a turnover, a margin."""

    names: tuple[str, ...] = Field(min_length=1, description="Names in questions; '*' at the end marks a plural.")
    needs: tuple[str, ...] = Field(min_length=1, description="The line items it needs, each by a name it has in terms.")
    quotient: Literal["percent", "number"] | None = Field(
        None, description="It is the first line item divided by the second, said in percent or as a number.")

    @model_validator(mode="after")
    def _check_quotient(self) -> MeasureEntry:
        if self.quotient and len(self.needs) < 2:
            raise ValueError(f"'{self.names[0]}' is a quotient of two line items; needs has one")
        return self


class LabelRules(Part):
    """How a row's label is met with the words of a question. Words count in all their forms."""

    same: tuple[Annotated[tuple[str, ...], Field(min_length=2)], ...] = Field(
        (), description="Words that mean the same, the first for all.")
    light: tuple[str, ...] = Field((), description="Words that tell little.")
    actions: tuple[str, ...] = Field((), description="What is done with a thing, so that it is not the thing.")
    qualifiers: tuple[str, ...] = Field((), description="Words that make another row of a label.")
    tails: tuple[Word, ...] = Field((), description="How a remark behind a label begins.")
    counts: Pattern = Field("(?!)", description="Labels whose amounts are a number of things: no currency before them.")
    negative: Pattern = Field(
        "", description="Labels of balances that may stand in parentheses; what else does so is the change of a balance.")


class AnswerRules(Part):
    """How answers are read when they are scored. Capitals do not count."""

    names: tuple[Word, ...] = Field((), description="Numbers that belong to a name or a period: no amounts.")
    common: tuple[str, ...] = Field((), description="Words that carry no content, in lower case.")
    losses: tuple[Word, ...] = Field((), description="Beginnings of words that say an amount is negative.")
    elsewhere: tuple[Word, ...] = Field((), description="Where an answer that refuses sends its reader.")


class PackFiles(Part):
    """All that the files of a pack may hold."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", description="The pack's name.")
    description: str = Field("", description="What it is for.")
    terms: tuple[TermEntry, ...] = Field((), description="Line items.")
    measures: tuple[MeasureEntry, ...] = Field((), description="What is worked out from line items.")
    topics: tuple[TopicEntry, ...] = Field((), description="Topics of questions.")
    sections: tuple[SectionEntry, ...] = Field((), description="Parts of documents.")
    headings: HeadingRules = HeadingRules()
    metadata: MetadataRules = MetadataRules()
    names: NameRules = NameRules()
    reports: Mapping[str, ReportEntry] = Field({}, description="Kinds of document that questions name.")
    tables: TableRules = TableRules()
    facts: FactRules = FactRules()
    wording: WordingRules = WordingRules()
    labels: LabelRules = LabelRules()
    answers: AnswerRules = AnswerRules()

    @model_validator(mode="after")
    def _check_names(self) -> PackFiles:
        names = [section.name for section in self.sections]
        faults = [f"sections: '{name}' stands there twice" for name in dict.fromkeys(names) if names.count(name) > 1]
        for kind, entries in (("terms", self.terms), ("topics", self.topics)):
            for entry in entries:
                called = entry.names[0] if isinstance(entry, TermEntry) else entry.name
                faults += [f"{kind} ({called}): no section '{section}'.{nearest(section, names)}"
                           for section in entry.sections if section not in names]
        faults += [f"reports ({kind}): no kind '{other}'.{nearest(other, self.reports)}"
                   for kind, report in self.reports.items() for other in report.like if other not in self.reports]
        items = [name.rstrip("*").lower() for term in self.terms for name in term.names]
        faults += [f"measures ({measure.names[0]}): no term is called '{item}'.{nearest(item, items)}"
                   for measure in self.measures for item in measure.needs if item.lower() not in items]
        if faults:
            raise ValueError("; ".join(faults))
        return self
