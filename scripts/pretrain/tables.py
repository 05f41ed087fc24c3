"""Where passages come from: fictitious statements, and real ones of training companies (read, never stored here)."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import words

from ragtune.documents.chunk import chunk_document
from ragtune.documents.read import read_documents
from ragtune.documents.statements import YEAR, Head, parse_columns, parse_row
from ragtune.recipe import schema
from ragtune.records import Chunk

HELD_OUT = ("FedEx", "Intel", "McDonalds", "Salesforce")
"""Training companies of whose filings nothing is trained on: the measure of reading real statements."""

UNITS = ("millions",) * 6 + ("thousands",) * 3 + ("billions", "")


@dataclass(frozen=True)
class Table:
    """A stretch of a filing: a row is (label, amounts as printed), any other line is (text, ())."""

    company: str
    fiscal_year: int
    page: int
    unit: str
    columns: tuple[str, ...]
    lines: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def rows(self) -> list[tuple[str, tuple[str, ...]]]:
        """The lines that are rows."""
        return [line for line in self.lines if line[1]]

    def chunk(self) -> Chunk:
        """Return the table as the chunker would store it: raw lines, the columns' years in the metadata."""
        text = "\n".join(f"{label} {' '.join(amounts)}".strip() for label, amounts in self.lines)
        metadata = {
            "company": self.company,
            "form": "10-K",
            "fiscal_year": self.fiscal_year,
            "columns": "|".join(self.columns),
        }
        name = f"{re.sub('[^A-Z0-9]', '', self.company.upper())}_{self.fiscal_year}_10K"
        return Chunk(name, name, name, text, self.page, self.page, 0, len(text), {**metadata, "unit": self.unit})


def read_tables(folder: Path) -> Iterator[Table]:
    """Yield the tables, and the chunks of prose, of the `train` filings in a FinanceBench folder, as ragtune reads them."""
    records = map(json.loads, (folder / "documents.jsonl").read_text().splitlines())
    train = {record["doc_name"]: record for record in records if record["split"] == "train"}
    section = schema.Documents(folder=str(folder / "pdfs"), include=tuple(f"{name}.pdf" for name in train))
    for document in read_documents(section).documents:
        company, year = train[document.name]["company"], int(train[document.name]["doc_period"])
        for page in document.pages:
            yield from _page_tables(company, year, page.number, page.text.split("\n"))
        for chunk in chunk_document(document, "rows", 180, 0, lambda text: len(re.findall(r"\w+|[^\w\s]", text))):
            lines = chunk.text.split("\n")
            if len(chunk.text) > 200 and not any(parse_row(line) for line in lines):
                yield Table(company, year, chunk.page, "", (), tuple((line, ()) for line in lines))


def _page_tables(company: str, year: int, page: int, lines: list[str]) -> Iterator[Table]:
    """Yield the page's tables of four rows or more, each with its neighbouring lines; other years begin another table."""
    head = Head()
    columns: tuple[str, ...] = ()
    kept: list[tuple[str, tuple[str, ...]]] = []
    unit = ""
    for line in [*filter(str.strip, lines), ""]:
        head, row = head.after(line), parse_row(line)
        if (columns and head.columns != columns) or not line:
            if sum(bool(amounts) for _, amounts in kept) >= 4 and len(set(columns)) == len(columns):
                yield Table(company, year, page, unit, columns, tuple(kept))
            columns, kept = (), []
        if row and len(row.amounts) == len(head.columns) and all(map(YEAR.fullmatch, head.columns)):
            columns, unit = head.columns, head.unit
            kept.append((row.label, row.amounts))
        elif line and not parse_columns(line):
            kept.append((line[:200], ()))


def save_tables(tables: Iterable[Table], path: Path) -> None:
    """Write the tables as JSON lines."""
    path.write_text("".join(json.dumps(list(vars(table).values())) + "\n" for table in tables))


def load_tables(path: Path) -> list[Table]:
    """Read what save_tables wrote."""
    tables = []
    for company, year, page, unit, columns, lines in map(json.loads, path.read_text().splitlines()):
        tables.append(Table(company, year, page, unit, tuple(columns), tuple((text, tuple(a)) for text, a in lines)))
    return tables


class Filings:
    """Draws tables: fictitious ones, and real ones with new numbers, years and company names.

    Without real tables everything is fictitious.
    """

    def __init__(self, seed: int, real: list[Table] | None = None, real_share: float = 0.5) -> None:
        """``real`` are tables of training companies; ``real_share`` is how often one of them is drawn."""
        self.random = random.Random(seed)
        self.real = [table for table in real or [] if table.columns]
        self.real_prose = [table for table in real or [] if not table.columns]
        self.real_share = real_share if self.real else 0.0
        self.real_labels = sorted({label for table in self.real for label, _ in table.rows if _is_plain(label)})

    def company(self) -> str:
        """Return a fictitious company's name."""
        draw = self.random
        kind = draw.random()
        if kind < 0.2:
            return " ".join(draw.sample(words.NAMES, 2)) + (draw.choice(words.ENDINGS) if draw.random() < 0.3 else "")
        if kind < 0.26:
            letters = "".join(draw.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(draw.randint(2, 4)))
            return letters[:2] + "&" + letters[2:] if len(letters) > 2 and draw.random() < 0.25 else letters
        if kind < 0.32:
            return " & ".join(draw.sample(words.NAMES, 2))
        name = "".join(draw.choice(words.SYLLABLES) for _ in range(draw.randint(2, 3))).capitalize()
        if draw.random() < 0.15:
            name += " " + "".join(draw.choice(words.SYLLABLES) for _ in range(2)).capitalize()
        return name + (draw.choice(words.ENDINGS) if draw.random() < 0.75 else "")

    def amount(self, style: str) -> str:
        """Return an amount as printed; ``style`` is 'large', 'small', 'share' or 'percent'."""
        draw = self.random
        if style == "share":
            return f"{draw.uniform(0.05, 19):.2f}"
        if style == "percent":
            return f"{draw.uniform(0.1, 60):.1f}%"
        digits = draw.choice((2, 3, 3, 3, 4, 4)) if style == "small" else draw.choice((3, 4, 4, 5, 5, 6, 7))
        return f"{draw.randint(10 ** (digits - 1), 10**digits - 1):,}"

    def amounts(self, style: str, count: int) -> tuple[str, ...]:
        """Return a row of amounts: often near one another, in parentheses for a fifth of the rows."""
        draw, first = self.random, self.amount(style)
        values = [first]
        for _ in range(count - 1):
            if style in ("large", "small") and draw.random() < 0.6:
                near = int(int(first.replace(",", "")) * draw.uniform(0.7, 1.3)) + 1
                values.append(f"{near:,}")
            else:
                values.append(self.amount(style))
        if style in ("large", "small") and draw.random() < 0.2:
            values = [f"({value})" for value in values]
        elif draw.random() < 0.03:
            values[draw.randrange(count)] = "—"
        return tuple(values)

    def label(self, statement: str, most_words: int) -> str:
        """Return a row label: a known line item, one of a training company, or a composed one."""
        draw = self.random
        if most_words >= 4 and self.real_prose and draw.random() < 0.35:
            return self.phrase()
        kind = draw.random()
        if most_words >= 4 and kind < 0.3:
            return draw.choice(words.STATEMENTS[statement])
        if most_words >= 4 and kind < 0.5 and self.real_labels:
            return draw.choice(self.real_labels)
        if most_words >= 4 and kind < 0.7:
            pool = self.real_labels if self.real_labels and draw.random() < 0.5 else words.STATEMENTS[statement]
            return self.varied(draw.choice(pool))
        if kind < 0.85:
            segment, measure = draw.choice(words.SEGMENTS), draw.choice(words.MEASURES)
            return draw.choice(
                (f"{segment} {measure}", f"{measure.capitalize()} - {segment}", segment, f"Total {segment} {measure}")
            )
        parts = [draw.choice(words.WORDS) for _ in range(draw.randint(1, most_words))]
        if len(parts) >= 4 and draw.random() < 0.5:
            parts.insert(2, draw.choice(("of", "and", "from", "in", "to", "on")))
        joined = " ".join(parts)
        if len(parts) >= 3 and draw.random() < 0.25:
            joined = joined.replace(" ", ", ", 1)
        return joined.capitalize()

    def phrase(self) -> str:
        """Return some consecutive words of a filing's prose as a label: copying must not depend on known wording."""
        draw = self.random
        for _ in range(20):
            line = draw.choice(draw.choice(self.real_prose).lines)[0]
            parts = re.findall(r"[^\W\d_][\w’'&/-]*", line)
            size = draw.randint(1, 6)
            if len(parts) >= size:
                start = draw.randint(0, len(parts) - size)
                text = " ".join(parts[start : start + size])
                return text[0].upper() + text[1:]
        return draw.choice(words.MEASURES).capitalize()

    def varied(self, label: str) -> str:
        """Return a label that differs from this one in a word, or by words before or after it."""
        draw, parts = self.random, label.split(" ")
        kind = draw.random()
        if kind < 0.35:
            return f"{draw.choice(words.BEFORE_LABEL)} {label[0].lower()}{label[1:]}"
        if kind < 0.65:
            return label + draw.choice(words.AFTER_LABEL)
        if kind < 0.75:
            return f"{label} and {draw.choice(words.WORDS)} {draw.choice(words.WORDS)}"
        place = draw.randrange(len(parts))
        word = draw.choice(words.WORDS)
        parts[place] = word.capitalize() if place == 0 else word
        return " ".join(parts)

    def prose(self, company: str) -> str:
        """Return a sentence of a filing without a row's figure in it."""
        draw = self.random
        items = [draw.choice(words.STATEMENTS[draw.choice(("income", "balance", "cash"))]).lower() for _ in range(2)]
        places = [draw.choice(words.SEGMENTS) for _ in range(2)]
        return draw.choice(words.PROSE).format(
            A=items[0].capitalize(),
            a=items[0],
            b=items[1],
            S=places[0],
            T=places[1],
            C=company,
            p=draw.randint(1, 60),
            y=draw.randint(2009, 2026),
            n=draw.randint(1, 22),
        )

    def fictitious(self, row_count: int, column_count: int, most_words: int, company: str = "", last_year: int = 0) -> Table:
        """Return an invented table with distinct labels."""
        draw = self.random
        last_year = last_year or draw.randint(1994, 2030)
        company = company or self.company()
        statement = draw.choice(tuple(words.STATEMENTS))
        columns = [str(last_year - i) for i in range(column_count)]
        if draw.random() < 0.12:
            columns.reverse()
        labels: list[str] = []
        while len(labels) < row_count:
            near = most_words >= 4 and labels and draw.random() < 0.25
            label = self.varied(draw.choice(labels)) if near else self.label(statement, most_words)
            if label.lower() not in {known.lower() for known in labels} and parse_row(f"{label} 1,234") is not None:
                labels.append(label)
        size = draw.choice(("large", "large", "small"))
        lines: list[tuple[str, tuple[str, ...]]] = []
        if draw.random() < 0.5:
            lines.append((draw.choice(words.HEADINGS[statement]), ()))
        noise = draw.choice((0.0, 0.05, 0.15)) if row_count > 3 else 0.0
        for label in labels:
            if draw.random() < noise:
                lines.append((draw.choice(words.SUBHEADS) if draw.random() < 0.6 else self.prose(company), ()))
            style = "share" if "per share" in label else "percent" if "rate" in label.split() or "margin" in label else size
            lines.append((label, self.amounts(style, column_count)))
        return Table(company, last_year, draw.randint(2, 140), draw.choice(UNITS), tuple(columns), tuple(lines))

    def realistic(self, row_count: int, company: str = "", last_year: int = 0, keep: float = 0.25) -> Table:
        """Return a stretch of a real table; with probability 1 - ``keep`` under new names, years and numbers."""
        draw, table = self.random, self.random.choice(self.real)
        starts = [i for i, line in enumerate(table.lines) if line[1]]
        start = draw.choice(starts[: max(1, len(starts) - row_count + 1)])
        lines, rows = [], 0
        for line in table.lines[max(0, start - draw.randint(0, 2)) :]:
            if rows >= row_count or len(lines) > row_count + 8:
                break
            if line[1] or rows % 3 == 1 or draw.random() < 0.6:
                lines.append(line)
            rows += bool(line[1])
        if not company and draw.random() < keep:
            return Table(table.company, table.fiscal_year, table.page, table.unit, table.columns, tuple(lines))
        last = max(map(int, table.columns))
        shift = (last_year or draw.randint(1994, 2030)) - last
        size = draw.choice(("large", "large", "small"))
        renewed = [(text, self._renumbered(amounts, size)) for text, amounts in self._relabelled(lines)]
        columns = tuple(str(int(year) + shift) for year in table.columns)
        return Table(
            company or self.company(), last + shift, table.page, table.unit or draw.choice(UNITS), columns, tuple(renewed)
        )

    def _relabelled(self, lines: list[tuple[str, tuple[str, ...]]]) -> list[tuple[str, tuple[str, ...]]]:
        """Return the lines with some labels varied or exchanged, so that other companies' wording is met too."""
        draw, known = self.random, {text.lower() for text, _ in lines}
        share = draw.choice((0.0, 0.2, 0.5))
        changed = []
        for text, amounts in lines:
            if amounts and draw.random() < share and _is_plain(text):
                new = self.label(draw.choice(tuple(words.STATEMENTS)), 5) if draw.random() < 0.5 else self.varied(text)
                if new.lower() not in known and parse_row(f"{new} 1,234") is not None:
                    known.add(new.lower())
                    text = new
            changed.append((text, amounts))
        return changed

    def _renumbered(self, amounts: tuple[str, ...], size: str) -> tuple[str, ...]:
        """Return new amounts of the same kind, brackets and dashes kept where they stand."""
        if not amounts:
            return ()
        style = "percent" if "%" in amounts[0] else "share" if re.fullmatch(r"\(?\d{1,2}\.\d\d\)?", amounts[0]) else size
        fresh = [value.strip("()") for value in self.amounts(style, len(amounts))]
        return tuple(
            old if not any(c.isdigit() for c in old) else f"({new})" if old.startswith("(") and new != "—" else new
            for old, new in zip(amounts, fresh)
        )

    def table(self, row_count: int, column_count: int, most_words: int, company: str = "", last_year: int = 0) -> Table:
        """Return a table, real in wording with probability ``real_share``."""
        if most_words >= 4 and self.random.random() < self.real_share:
            table = self.realistic(row_count, company, last_year)
            if 1 <= len(table.columns) <= 4:
                return table
        return self.fictitious(row_count, column_count, most_words, company, last_year)


def _is_plain(label: str) -> bool:
    """Whether a label reads like a line item, so that it may stand in an invented table."""
    return 3 <= len(label) <= 90 and len(re.findall(r"\d", label)) <= 2 and bool(re.match(r"[A-Z][A-Za-z]", label))
