"""Questions about the fictitious filings, with answers taken from the books and evidence read back from the PDFs."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filings.books import SEED
from filings.companies import Company
from filings.tables import Table
from ragtune.documents.statements import Row, parse_row
from ragtune.records import Evidence, Question

# Other ways to ask for a line; the label itself is one more. A '*' marks a plural.
PHRASES: dict[str, tuple[str, ...]] = {
    "revenue": ("revenue", "total revenue", "sales*", "top line", "turnover"),
    "cost": ("cost of sales", "cost of goods sold", "cost of revenue"),
    "gross_profit": ("gross profit",),
    "sga": ("SG&A expense", "selling, general and administrative expense", "overhead expense (SG&A)"),
    "rnd": ("R&D expense", "research and development spending", "spending on research and development"),
    "restructuring": ("restructuring charges*", "restructuring expense"),
    "operating_expenses": ("total operating expenses*",),
    "operating_income": ("operating income", "operating profit", "income from operations", "EBIT"),
    "interest": ("interest expense", "interest cost on debt"),
    "pretax_income": ("income before income taxes", "pre-tax income", "earnings before tax"),
    "income_tax": ("income tax expense", "provision for income taxes", "tax charge"),
    "net_income": ("net income", "net profit", "bottom line", "net earnings*"),
    "eps": ("basic EPS", "basic earnings per share*"),
    "eps_diluted": ("diluted EPS", "diluted earnings per share*"),
    "depreciation_amortization": ("depreciation and amortization", "D&A expense"),
    "stock_pay": ("stock-based compensation", "share-based compensation expense", "equity compensation expense"),
    "operating_cash": ("cash flow from operations", "operating cash flow", "net cash from operating activities"),
    "capex": ("capital expenditure", "capital expenditures*", "capex", "spending on property, plant and equipment"),
    "acquisitions": ("cash paid for acquisitions", "spending on acquisitions"),
    "investing_cash": ("net cash used for investing", "net cash used in investing activities"),
    "debt_issued": ("proceeds from long-term debt*", "new long-term borrowings*"),
    "debt_repaid": ("repayments of long-term debt*", "debt repayment"),
    "dividends": ("dividends paid*", "cash dividends to shareholders*", "dividend payments*"),
    "repurchases": ("share repurchases*", "share buybacks*", "stock repurchases*"),
    "cash": ("cash and cash equivalents", "cash balance", "cash and equivalents"),
    "receivables": ("accounts receivable", "trade receivables*", "net receivables*"),
    "inventories": ("inventories*", "inventory", "total inventory"),
    "prepaid": ("prepaid expenses and other current assets*",),
    "current_assets": ("total current assets*", "current assets*"),
    "property": ("net PP&E", "net property, plant and equipment", "net fixed assets*"),
    "lease_assets": ("operating lease right-of-use assets*",),
    "goodwill": ("goodwill",),
    "intangibles": ("net intangible assets*", "intangible assets other than goodwill*"),
    "total_assets": ("total assets*",),
    "payables": ("accounts payable", "trade payables*"),
    "accrued": ("accrued liabilities*", "accrued expenses*"),
    "deferred_revenue": ("deferred revenue", "unearned revenue"),
    "current_debt": ("current portion of long-term debt", "long-term debt due within one year"),
    "current_liabilities": ("total current liabilities*", "current liabilities*"),
    "long_term_debt": ("long-term debt", "noncurrent debt"),
    "total_liabilities": ("total liabilities*",),
    "equity": ("total equity", "shareholders' equity", "stockholders' equity"),
    "total_debt": ("total debt",),
    "raw_materials": ("raw materials inventory", "inventory of raw materials and supplies"),
    "finished_goods": ("finished goods inventory", "inventory of finished goods"),
    "machinery": (),
    "accumulated_depreciation": ("accumulated depreciation",),
    "senior_notes": ("senior notes outstanding*",),
    "term_loan": ("term loan balance",),
    "gross_margin": ("gross margin", "gross profit margin"),
    "operating_margin": ("operating margin", "operating profit margin"),
    "tax_rate": ("effective tax rate", "effective income tax rate"),
    "employees": ("total number of employees", "headcount"),
    "tax_federal": ("current federal income tax",),
}
OUTFLOWS = {"capex", "acquisitions", "debt_repaid", "dividends", "repurchases", "interest", "accumulated_depreciation",
            "investing_cash"}
BALANCES = {"balance", "inventories", "property", "debt", "employees"}
LOSS_WORDS = {"net_income": ("net income or loss", "bottom line"), "operating_income": ("operating income or loss",),
              "pretax_income": ("pre-tax income or loss",), "eps": ("basic earnings or loss per share",),
              "eps_diluted": ("diluted earnings or loss per share",)}
# Numerator, denominator, how it is asked, whether as a percentage (else as a ratio with two decimals).
RATIOS: tuple[tuple[str, str, str, bool], ...] = (
    ("net_income", "revenue", "net profit margin (net income divided by revenue)", True),
    ("gross_profit", "revenue", "gross margin (gross profit divided by revenue)", True),
    ("rnd", "revenue", "R&D intensity (research and development expense as a percentage of revenue)", True),
    ("sga", "revenue", "SG&A expense as a percentage of revenue", True),
    ("capex", "revenue", "capital expenditure as a percentage of revenue", True),
    ("net_income", "total_assets", "return on assets (net income divided by year-end total assets)", True),
    ("current_assets", "current_liabilities", "current ratio (current assets divided by current liabilities)", False),
    ("cash", "current_liabilities", "cash ratio (cash divided by current liabilities)", False),
    ("total_liabilities", "equity", "ratio of total liabilities to equity", False),
    ("long_term_debt", "equity", "ratio of long-term debt to equity", False),
    ("operating_cash", "capex", "ratio of operating cash flow to capital expenditure", False),
    ("receivables", "total_assets", "ratio of receivables to total assets", False),
)
COMPARED = (("receivables", "payables"), ("goodwill", "property"), ("cash", "long_term_debt"),
            ("inventories", "receivables"), ("capex", "depreciation_amortization"), ("intangibles", "goodwill"),
            ("current_assets", "current_liabilities"),
            ("sga", "gross_profit"))
ABSENT = {"rnd": "research and development expense", "inventories": "inventories*", "deferred_revenue": "deferred revenue",
          "restructuring": "restructuring charges*"}
NEVER = ("pension contributions*", "advertising expense", "goodwill impairment charge", "litigation settlement costs*",
         "order backlog", "preferred dividends*", "capitalized software development costs*", "royalty income",
         "equity in earnings of affiliates", "interest income on marketable securities", "gain on sale of businesses",
         "bad debt expense", "minority interest", "foreign currency transaction losses*",
         "short-term investments*")
ELSEWHERE = ("Pellandor Chemicals", "Vintrosa Apparel", "Kaldrum Steel", "Ombrevale Hotels", "Tarnwick Semiconductor",
             "Galvanter Motors", "Brevessa Cosmetics", "Ottermoor Insurance")


@dataclass(frozen=True)
class Fact:
    """A statement row as it stands in the PDF."""

    concept: str
    label: str
    page: int
    text: str
    kind: str
    cells: dict[int, str]


def read_pages(path: Path) -> list[str]:
    """Return the text of a PDF's pages, lines ended by a newline."""
    import pypdfium2

    pdf = pypdfium2.PdfDocument(str(path))
    try:
        return [page.get_textpage().get_text_range().replace("\r\n", "\n") for page in pdf]
    finally:
        pdf.close()


def find_facts(rows: Sequence[tuple[int, Table, int]], pages: list[str]) -> dict[str, Fact]:
    """Return concept -> the row of its first table, as read back from the PDF. Raises ValueError where it is not there."""
    facts: dict[str, Fact] = {}
    for page, table, place in rows:
        line = table.lines[place]
        wanted = Row(line.label, line.cells)
        text = next((t.strip() for t in pages[page - 1].split("\n") if parse_row(t) == wanted), None)
        if text is None:
            raise ValueError(f"page {page} does not show the row {line.label} {line.cells}")
        facts.setdefault(line.concept, Fact(line.concept, line.label, page, text, table.kind,
                                            dict(zip(table.years, line.cells))))
    return facts


def read_cell(cell: str) -> float:
    """Return the value of a printed amount."""
    value = float(re.sub(r"[^\d.]", "", cell))
    return -value if cell.startswith("(") else value


class Asker:
    """Asks about one filing."""

    def __init__(self, company: Company, year: int, document: str, facts: dict[str, Fact]) -> None:
        self.company, self.year, self.document, self.facts = company, year, document, facts
        self.draw = random.Random(f"{SEED}:ask:{document}")
        self.questions: list[Question] = []
        # A year with a report of its own is asked about from that report.
        self.years = [year] if year > min(company.fiscal_years) else [year, year - 1, year - 2]

    def ask_all(self) -> list[Question]:
        """Return about 25 questions of all kinds."""
        kinds = ("segment", "segment_income", "expense", "region")
        lookups = [c for c in self.facts if c in PHRASES or c.split(":")[0] in kinds]
        must = [c for c in ("revenue", "net_income", "capex") if c in lookups]
        rest = [c for c in lookups if c not in must]
        for concept in [*must, *self.draw.sample(rest, 10)]:
            self._look_up(concept)
        changing = [c for c in ("revenue", "net_income", "operating_income", "total_assets", "capex", "inventories", "sga",
                                "operating_cash", "equity", "receivables", "goodwill", "rnd", "gross_profit", "payables",
                                "interest", "long_term_debt", "stock_pay", "income_tax")
                    if c in self.facts and self.value(c, self.year) != self.value(c, self.year - 1)]
        drawn = self.draw.sample(changing, 8)
        for concept in drawn[:2]:
            self._difference(concept)
        for concept in drawn[2:5]:
            self._growth(concept)
        for concept in drawn[5:7]:
            self._rose(concept)
        self._compare()
        for ratio in self.draw.sample([r for r in RATIOS if self._is_usable(r)], 3):
            self._ratio(*ratio)
        self._unanswerable()
        return self.questions

    def _is_usable(self, ratio: tuple[str, str, str, bool]) -> bool:
        return all(c in self.facts and self.year in self.facts[c].cells and self.value(c, self.year) > 0 for c in ratio[:2])

    def value(self, concept: str, year: int) -> float:
        """Return what a question about this row is answered with: outflows are positive amounts."""
        value = read_cell(self.facts[concept].cells[year])
        return abs(value) if concept in OUTFLOWS else value

    def show(self, concept: str, value: float) -> str:
        """Return an answer with its unit: $4,210 million, -$310 million, $3.05, 41.2% or 3,400."""
        kind = self.facts[concept].kind
        if concept.startswith("employees"):
            return f"{value:,.0f}"
        if kind == "margins":
            return f"{value:.1f}%"
        sign, size = "-" if value < 0 else "", abs(value)
        return f"{sign}${size:,.2f}" if "eps" in concept else f"{sign}${size:,.0f} {self.company.unit.removesuffix('s')}"

    def bare(self, concept: str, value: float) -> str:
        """Return the value as a calculation writes it."""
        return f"{value:,.2f}" if "eps" in concept else f"{value:,.0f}"

    def phrase(self, concept: str) -> tuple[str, str]:
        """Return how a question calls this row, and the verb's number: ('net sales', 'were')."""
        fact = self.facts[concept]
        loss = "loss" in fact.label.lower() or self.company.labels.get("net_income") == "Net loss"
        others = LOSS_WORDS[concept] if loss and concept in LOSS_WORDS else PHRASES.get(concept, ())
        own = fact.label if ":" in concept else fact.label[0].lower() + fact.label[1:]
        head = re.split(r" (?:of|to|on|from|for|before|at) |, net|, less", own)[0]
        own += "*" if head.endswith("s") else ""
        is_own_clear = not (loss and concept in LOSS_WORDS) and concept not in ("gross_margin", "accumulated_depreciation")
        # About half of the questions use the filing's own words, the rest another name of the same thing.
        chosen = own if (is_own_clear and (not others or self.draw.random() < 0.45)) else self.draw.choice(others)
        return chosen.removesuffix("*"), "were" if chosen.endswith("*") else "was"

    def name(self) -> str:
        """Return the company's name, short more often than full."""
        return self.company.short if self.draw.random() < 0.8 else self.company.name

    def owner(self) -> str:
        """Return the company's name as a possessive."""
        return possessive(self.name())

    def period(self, year: int) -> str:
        """Return a wording of the fiscal year."""
        return self.draw.choice((f"fiscal {year}", f"fiscal year {year}", f"FY{year}", f"fiscal {year}",
                                 f"the fiscal year ended {self.company.year_end}, {year}"))

    def add(self, kind: str, text: str, answer: str, concepts: Sequence[str] = (), lines: Sequence[str] = ()) -> None:
        """Add a question unless its wording is there already."""
        if text in {question.text for question in self.questions}:
            return
        rows = dict.fromkeys((self.facts[c].page, self.facts[c].text) for c in concepts)
        self.questions.append(Question(
            id=f"{self.document}-{len(self.questions) + 1:02d}", text=text, answer=answer, kind=kind,
            evidence=tuple(Evidence(self.document, page, row) for page, row in rows), justification="\n".join(lines),
            metadata={"company": self.company.short, "fiscal_year": self.year, "document": self.document},
        ))

    def restated(self, concept: str, year: int) -> str:
        """Return the row as restate_rows prints it for a year."""
        fact = self.facts[concept]
        return f"{fact.label} {year}: {fact.cells[year]}"

    def _look_up(self, concept: str) -> None:
        fact = self.facts[concept]
        years = [y for y in self.years if fact.cells.get(y, "—") != "—"]
        if not years:
            return
        year = self.year if self.year in years and self.draw.random() < 0.7 else self.draw.choice(years)
        is_money = fact.kind not in ("margins", "employees") and "eps" not in concept
        hint = f" (in USD {self.company.unit})" if is_money and self.draw.random() < 0.2 else ""
        text = self.word(*self.phrase(concept), self.name(), year, fact.kind in BALANCES, hint)
        self.add("lookup", text, self.show(concept, self.value(concept, year)), [concept], [self.restated(concept, year)])

    def word(self, phrase: str, be: str, name: str, year: int, is_balance: bool, hint: str = "") -> str:
        """Return one of the ways to ask for an amount; what has no answer is asked in the same ways."""
        period, is_are, owner = self.period(year), "is" if be == "was" else "are", possessive(name)
        if is_balance:
            return self.draw.choice((
                f"What {be} {owner} {phrase} at the end of {period}{hint}?",
                f"What {be} the {phrase} of {name} as of {self.company.year_end}, {year}{hint}?",
                f"As of the end of {period}, what {be} {owner} {phrase}{hint}?",
                f"What {is_are} the year-end FY{year} {phrase} of {name}{hint}?"))
        return self.draw.choice((
            f"What {be} {owner} {phrase} in {period}{hint}?",
            f"What {be} {owner} {phrase} for {period}{hint}?",
            f"What {phrase} did {name} report for {period}{hint}?",
            f"In {period}, what {be} the {phrase} of {name}{hint}?",
            f"What {is_are} the FY{year} {phrase} of {name}{hint}?"))

    def _pair(self, concept: str) -> tuple[int, int, float, float]:
        """Return this year, the one before and both values."""
        now = self.year
        return now, now - 1, self.value(concept, now), self.value(concept, now - 1)

    def _difference(self, concept: str) -> None:
        now, before, new, old = self._pair(concept)
        (phrase, be), owner = self.phrase(concept), self.owner()
        text = self.draw.choice((f"By how much did {owner} {phrase} change from fiscal {before} to fiscal {now}?",
                                 f"What was the change in {owner} {phrase} between FY{before} and FY{now}?",
                                 f"How much higher or lower {be} {owner} {phrase} in fiscal {now} than in fiscal {before}?"))
        calculation = f"{self.bare(concept, new)} - {self.bare(concept, old)} = {self.bare(concept, new - old)}"
        self.add("difference", text, self.show(concept, new - old), [concept],
                 [self.restated(concept, now), self.restated(concept, before), calculation])

    def _growth(self, concept: str) -> None:
        now, before, new, old = self._pair(concept)
        if old <= 0 or new <= 0:
            self._difference(concept)
            return
        (phrase, _), name, owner = self.phrase(concept), self.name(), self.owner()
        text = self.draw.choice((f"By what percentage did {owner} {phrase} change from fiscal {before} to fiscal {now}?",
                                 f"What was the growth rate of {owner} {phrase} in FY{now}?",
                                 f"What is the FY{before} to FY{now} percentage change in {phrase} for {name}?",
                                 f"How much did {owner} {phrase} grow in fiscal {now}, in percent?"))
        growth = f"{100 * (new / old - 1):.1f}%"
        self.add("growth", text, growth, [concept], [
            self.restated(concept, now), self.restated(concept, before),
            f"{self.bare(concept, new)} / {self.bare(concept, old)} - 1 = {growth}"])

    def _ratio(self, above: str, below: str, phrase: str, is_percent: bool) -> None:
        year, name, owner = self.year, self.name(), self.owner()
        top, bottom = self.value(above, year), self.value(below, year)
        result = f"{100 * top / bottom:.1f}%" if is_percent else f"{top / bottom:.2f}"
        when = self.period(year)
        text = self.draw.choice((f"What was {owner} {phrase} in {when}?", f"What is the FY{year} {phrase} of {name}?",
                                 f"Calculate {owner} {phrase} for {when}."))
        self.add("ratio", text, result, [above, below], [
            self.restated(above, year), self.restated(below, year),
            f"{self.bare(above, top)} / {self.bare(below, bottom)} = {result}"])

    def _rose(self, concept: str) -> None:
        now, before, new, old = self._pair(concept)
        if old <= 0 or new <= 0:  # whether a loss "rose" is a matter of taste
            self._difference(concept)
            return
        (phrase, be), owner = self.phrase(concept), self.owner()
        asks_rise = self.draw.random() < 0.6
        word = "increase" if asks_rise else "decrease"
        text = self.draw.choice((f"Did {owner} {phrase} {word} in fiscal {now}?",
                                 f"Did {owner} {phrase} {word} from FY{before} to FY{now}?",
                                 f"{be.capitalize()} {owner} {phrase} {'higher' if asks_rise else 'lower'} in fiscal {now} "
                                 f"than in fiscal {before}?"))
        verb = "rose" if new > old else "fell"
        yes = "Yes" if (new > old) == asks_rise else "No"
        self.add("yes_no", text, f"{yes}, {phrase} {verb} from {self.show(concept, old)} to {self.show(concept, new)}.",
                 [concept], [self.restated(concept, now), self.restated(concept, before)])

    def _compare(self) -> None:
        pairs = [p for p in COMPARED if all(c in self.facts and self.facts[c].cells.get(self.year, "—") != "—" for c in p)
                 and self.facts[p[0]].page == self.facts[p[1]].page]
        one, other = self.draw.choice(pairs)
        (first, be), (second, _), owner = self.phrase(one), self.phrase(other), self.owner()
        a, b = self.value(one, self.year), self.value(other, self.year)
        when = f"at the end of fiscal {self.year}" if self.facts[one].kind == "balance" else f"in fiscal {self.year}"
        relation = f"{be} above" if a > b else f"{be} below"
        self.add("yes_no", f"{be.capitalize()} {owner} {first} greater than its {second} {when}?",
                 f"{'Yes' if a > b else 'No'}, {first} of {self.show(one, a)} {relation} {second} of {self.show(other, b)}.",
                 [one, other], [self.restated(one, self.year), self.restated(other, self.year)])

    def _unanswerable(self) -> None:
        """Ask for what is not there: a line the company does not report, a year outside, a company outside."""
        missing = [phrase for concept, phrase in ABSENT.items() if concept not in self.facts]
        for phrase in [*self.draw.sample(missing, min(1, len(missing))), self.draw.choice(NEVER)]:
            self._ask_vainly(phrase, self.name(), self.year, "inventories" in phrase or "deferred" in phrase)
        first, last = min(self.company.fiscal_years) - 2, max(self.company.fiscal_years)
        phrase, be = self.phrase(self.draw.choice(("revenue", "net_income", "capex", "operating_income")))
        self._ask_vainly(phrase + "*" * (be == "were"), self.name(),
                         self.draw.choice((first - 2, first - 3, first - 5, last + 2, last + 3)), False)
        phrase = self.draw.choice(("net sales*", "operating income", "capital expenditure", "total assets*", "net income"))
        self._ask_vainly(phrase, self.draw.choice(ELSEWHERE), self.year, "assets" in phrase)

    def _ask_vainly(self, phrase: str, name: str, year: int, is_balance: bool) -> None:
        be = "were" if phrase.endswith("*") else "was"
        hint = f" (in USD {self.company.unit})" if self.draw.random() < 0.2 else ""
        self.add("unanswerable", self.word(phrase.removesuffix("*"), be, name, year, is_balance, hint), "")


def possessive(name: str) -> str:
    """Return the name with an apostrophe, and an s where the name ends without one."""
    return name + ("'" if name.endswith("s") else "'s")
