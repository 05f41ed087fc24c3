"""Setting a filing as a PDF: running heads, wrapped prose and statements whose rows stand on one line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from reportlab.lib.pagesizes import LETTER
from reportlab.lib.utils import simpleSplit
from reportlab.pdfgen.canvas import Canvas

from filings import prose
from filings.books import Amounts
from filings.companies import Company
from filings.tables import Table, Tables

WIDTH, HEIGHT = LETTER
LEFT, RIGHT, TOP, BOTTOM = 62.0, WIDTH - 62.0, HEIGHT - 62.0, 66.0
SERIF, BOLD, ITALIC = "Times-Roman", "Times-Bold", "Times-Italic"


@dataclass
class Sheet:
    """A PDF being written from the top of each page down; remembers on which page every section and row stands."""

    canvas: Canvas
    running_head: str
    number: int = 1
    y: float = TOP
    sections: dict[str, int] = field(default_factory=dict)
    rows: list[tuple[int, Table, int]] = field(default_factory=list)

    def turn(self) -> None:
        """End the page and begin the next, with running head and page number."""
        self.canvas.showPage()
        self.number += 1
        self.y = TOP
        self.canvas.setFont(ITALIC, 8)
        self.canvas.drawString(LEFT, HEIGHT - 40, self.running_head)
        self.canvas.setFont(SERIF, 8)
        self.canvas.drawCentredString(WIDTH / 2, 38, str(self.number))

    def need(self, height: float) -> None:
        """Begin a new page where less than ``height`` points are left."""
        if self.y - height < BOTTOM:
            self.turn()

    def text(self, text: str, font: str = SERIF, size: float = 10, leading: float = 13.2, after: float = 7.0) -> None:
        """Set a paragraph."""
        for line in simpleSplit(text, font, size, RIGHT - LEFT):
            self.need(leading)
            self.canvas.setFont(font, size)
            self.canvas.drawString(LEFT, self.y - size, line)
            self.y -= leading
        self.y -= after

    def centred(self, text: str, font: str = SERIF, size: float = 10, after: float = 6.0) -> None:
        """Set one centred line."""
        self.canvas.setFont(font, size)
        self.canvas.drawCentredString(WIDTH / 2, self.y - size, text)
        self.y -= size * 1.3 + after

    def section(self, name: str, new_page: bool = True) -> None:
        """Begin a section of the table of contents."""
        if new_page:
            self.turn()
        else:
            self.need(90)
        self.sections[name] = self.number
        self.text(name, BOLD, 12.5, 16, 8)

    def paragraphs(self, section: prose.Section) -> None:
        """Set headings and paragraphs."""
        for style, text in section:
            if style == "h2":
                self.need(45)
                self.text(text, BOLD, 10.3, 13.5, 3)
            else:
                self.text(text)

    def table(self, table: Table, has_title: bool = True) -> None:
        """Set a table: label, then for each column a dollar sign (first and total rows) and the amount."""
        leading = 14.6
        self.need(leading * (len(table.lines) + len(table.head) + 4))
        if has_title:
            self.centred(table.title, BOLD, 11, 2)
        if table.unit_line:
            self.centred(table.unit_line, SERIF, 9, 4)
        edges = [RIGHT - 76.0 * i for i in reversed(range(len(table.years)))]
        self._head(table, edges)
        for place, line in enumerate(table.lines):
            size, font = 9.3, BOLD if not line.concept else SERIF
            if line.is_total:
                for edge in edges:
                    self.canvas.line(edge - 56, self.y - 1.2, edge, self.y - 1.2)
            self.canvas.setFont(font, size)
            self.canvas.drawString(LEFT + (0 if not line.concept or line.is_total else 9), self.y - size - 1, line.label)
            for edge, cell in zip(edges, line.cells):
                if line.has_dollar and cell != "—":
                    self.canvas.drawString(edge - 58, self.y - size - 1, "$")
                self.canvas.drawRightString(edge, self.y - size - 1, cell)
            if line.concept:
                self.rows.append((self.number, table, place))
            self.y -= leading
        self.y -= 12

    def _head(self, table: Table, edges: list[float]) -> None:
        """Set the lines over the columns; the years stand over their amounts."""
        for line in table.head[:-1]:
            self.centred(line, ITALIC, 9, 2)
        words = table.head[-1].removesuffix(" ".join(map(str, table.years))).strip()
        self.canvas.setFont(BOLD, 9)
        if words:
            self.canvas.drawString(LEFT, self.y - 9, words)
        for edge, year in zip(edges, table.years):
            self.canvas.drawRightString(edge, self.y - 9, str(year))
        self.canvas.line(LEFT, self.y - 12, RIGHT, self.y - 12)
        self.y -= 18


def write_filing(path: Path, company: Company, books: dict[int, Amounts], year: int) -> list[tuple[int, Table, int]]:
    """Write one annual report; return (page, table, row number) of every statement and note row.

    The report is set twice: the first time tells the page numbers of the table of contents.
    """
    first = _set(path, company, books, year, {})
    return _set(path, company, books, year, first.sections).rows


def _set(path: Path, c: Company, books: dict[int, Amounts], year: int, contents: dict[str, int]) -> Sheet:
    canvas = Canvas(str(path), pagesize=LETTER, invariant=1, pageCompression=1)
    canvas.setTitle(f"{c.name}: Annual Report on Form 10-K for fiscal {year} (fictitious)")
    canvas.setAuthor("The ragtune authors")
    sheet = Sheet(canvas, f"{c.name} | {year} Form 10-K")
    tables = Tables(c, books, year)
    _cover(sheet, c, books[year], year)
    sheet.turn()
    sheet.text("Table of Contents", BOLD, 12.5, 16, 10)
    for name, page in contents.items():
        canvas.setFont(SERIF, 10)
        canvas.drawString(LEFT, sheet.y - 10, name)
        canvas.drawRightString(RIGHT, sheet.y - 10, str(page))
        sheet.y -= 18
    sheet.section("Item 1. Business")
    sheet.paragraphs(prose.business(c, books, year))
    sheet.table(tables.employees())
    sheet.section("Item 1A. Risk Factors")
    sheet.paragraphs(prose.risk_factors(c, year))
    sheet.section("Items 1B to 5. Properties, Legal Proceedings and Market")
    sheet.paragraphs(prose.properties(c, year))
    sheet.section("Item 7. Management's Discussion and Analysis")
    sheet.paragraphs(prose.discussion(c, books, tables.words, year))
    if tables.margins().lines:
        sheet.table(tables.margins())
    for table in (tables.income(), tables.balance(), tables.cash_flow()):
        sheet.section(table.title)
        sheet.centred(c.name, BOLD, 10.5, 2)
        sheet.table(table, has_title=False)
    _notes(sheet, c, tables)
    sheet.section("Items 9A to 15")
    sheet.paragraphs(prose.closing(c))
    canvas.showPage()
    canvas.save()
    return sheet


def _cover(sheet: Sheet, c: Company, amounts: Amounts, year: int) -> None:
    """Set the cover page."""
    sheet.y -= 20
    sheet.centred("UNITED STATES", BOLD, 13)
    sheet.centred("SECURITIES AND EXCHANGE COMMISSION", BOLD, 13)
    sheet.centred("Washington, D.C. 20549", SERIF, 10, 26)
    sheet.centred("FORM 10-K", BOLD, 18, 14)
    sheet.centred("ANNUAL REPORT PURSUANT TO SECTION 13 OR 15(d) OF THE SECURITIES EXCHANGE ACT OF 1934", SERIF, 9, 12)
    sheet.centred(f"For the fiscal year ended {c.year_end}, {year}", BOLD, 11, 34)
    sheet.centred(c.name.upper(), BOLD, 19, 6)
    sheet.centred("(Exact name of registrant as specified in its charter)", SERIF, 8.5, 20)
    sheet.centred(f"{c.state} (State of incorporation)", SERIF, 10)
    sheet.centred(f"{c.city}, {c.state} (Address of principal executive offices)", SERIF, 10, 26)
    sheet.text("Securities registered pursuant to Section 12(b) of the Act: common stock, par value $0.01 per share. "
               "The registrant "
               "has filed all reports required in the preceding twelve months. The registrant is a large accelerated "
               "filer and is "
               "not a shell company.")
    sheet.text(f"Shares outstanding at the end of the fiscal year: {amounts['shares']:,.1f} {c.unit.removesuffix('s')}."
               if c.unit == "millions" else
               f"Shares outstanding at the end of the fiscal year: {amounts['shares']:,.0f} thousand.")
    sheet.y = 118
    sheet.text(f"{c.short} is a fictitious company. Every name, event and number in this document is invented for "
               f"testing and "
               "teaching; no report of this kind was filed with any authority.", ITALIC, 9, 12)


def _notes(sheet: Sheet, c: Company, tables: Tables) -> None:
    """Set the notes: policies, segments and the tables the company has."""
    sheet.section("Notes to Consolidated Financial Statements")
    sheet.text("Note 1. Significant accounting policies", BOLD, 11, 14, 5)
    sheet.paragraphs(prose.policies(c))
    sheet.turn()
    for number, table in enumerate((tables.segments(), *tables.notes()), start=2):
        sheet.need(60 + 14.6 * (len(table.lines) + 6))
        sheet.text(f"Note {number}. {table.title}", BOLD, 11, 14, 5)
        sheet.text(prose.note_text(table.kind))
        sheet.table(table, has_title=False)
