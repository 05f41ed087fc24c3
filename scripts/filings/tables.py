"""The statements and note tables of a filing: which rows, in whose words, over which columns."""

from __future__ import annotations

import random
from dataclasses import dataclass

from filings.books import SEED, Amounts
from filings.companies import Company

# How companies word the same line; a company's own choice in companies.py comes first, else one is drawn.
WORDINGS: dict[str, tuple[str, ...]] = {
    "revenue": ("Net sales", "Revenue", "Net revenues"),
    "cost": ("Cost of sales", "Cost of goods sold"),
    "gross_profit": ("Gross profit",),
    "sga": ("Selling, general and administrative expenses", "Selling, general and administrative",
            "Marketing, selling and administrative expenses"),
    "rnd": ("Research and development expenses", "Research and development", "Research, development and engineering"),
    "restructuring": ("Restructuring charges", "Restructuring and related costs"),
    "operating_expenses": ("Total operating expenses", "Total costs and expenses"),
    "operating_income": ("Operating income", "Income from operations", "Operating profit"),
    "interest": ("Interest expense", "Interest expense on debt"),
    "other_income": ("Other income, net", "Interest and other income, net"),
    "pretax_income": ("Income before income taxes", "Earnings before income taxes"),
    "income_tax": ("Provision for income taxes", "Income tax expense", "Income taxes"),
    "net_income": ("Net income", "Net earnings"),
    "eps": ("Basic earnings per share", "Net income per share, basic"),
    "eps_diluted": ("Diluted earnings per share", "Net income per share, diluted"),
    "shares": ("Weighted-average shares, basic", "Average shares outstanding, basic"),
    "shares_diluted": ("Weighted-average shares, diluted", "Average shares outstanding, diluted"),
    "cash": ("Cash and cash equivalents", "Cash and equivalents"),
    "receivables": ("Accounts receivable, net", "Trade receivables, net", "Receivables, net"),
    "inventories": ("Inventories", "Total inventories"),
    "prepaid": ("Prepaid expenses and other current assets", "Other current assets"),
    "current_assets": ("Total current assets",),
    "property": ("Property, plant and equipment, net", "Property and equipment, net"),
    "lease_assets": ("Operating lease right-of-use assets", "Right-of-use assets"),
    "goodwill": ("Goodwill",),
    "intangibles": ("Intangible assets, net", "Other intangible assets, net"),
    "other_assets": ("Other assets", "Other noncurrent assets"),
    "total_assets": ("Total assets",),
    "payables": ("Accounts payable", "Trade accounts payable"),
    "accrued": ("Accrued liabilities", "Accrued expenses and other current liabilities"),
    "deferred_revenue": ("Deferred revenue",),
    "current_debt": ("Current portion of long-term debt", "Current maturities of long-term debt"),
    "current_liabilities": ("Total current liabilities",),
    "long_term_debt": ("Long-term debt", "Long-term debt, less current portion"),
    "lease_liabilities": ("Operating lease liabilities", "Long-term lease liabilities"),
    "deferred_taxes": ("Deferred income taxes", "Deferred tax liabilities"),
    "other_liabilities": ("Other liabilities", "Other noncurrent liabilities"),
    "total_liabilities": ("Total liabilities",),
    "common_stock": ("Common stock",),
    "paid_in": ("Additional paid-in capital", "Capital in excess of par value"),
    "retained": ("Retained earnings", "Reinvested earnings"),
    "aoci": ("Accumulated other comprehensive loss",),
    "treasury": ("Treasury stock, at cost", "Common stock in treasury"),
    "equity": ("Total stockholders' equity", "Total shareholders' equity"),
    "total_liabilities_equity": ("Total liabilities and equity",),
    "depreciation_amortization": ("Depreciation and amortization",),
    "stock_pay": ("Stock-based compensation", "Share-based compensation expense"),
    "deferred_tax": ("Deferred income taxes", "Deferred tax provision"),
    "change_receivables": ("Accounts receivable", "Change in receivables", "(Increase) decrease in receivables"),
    "change_inventories": ("Change in inventories", "(Increase) decrease in inventories"),
    "change_prepaid": ("Change in prepaid expenses", "(Increase) decrease in other current assets"),
    "change_payables": ("Change in accounts payable", "Increase (decrease) in payables"),
    "change_accrued": ("Change in accrued liabilities", "Increase (decrease) in accrued expenses"),
    "change_deferred_revenue": ("Change in deferred revenue", "Increase (decrease) in deferred revenue"),
    "change_other": ("Other operating activities, net", "Other, net"),
    "operating_cash": ("Net cash provided by operating activities", "Cash flows from operating activities, net"),
    "capex": ("Purchases of property, plant and equipment", "Capital expenditures"),
    "acquisitions": ("Acquisitions of businesses, net of cash acquired", "Payments for acquired businesses"),
    "investing_cash": ("Net cash used in investing activities", "Cash flows used for investing activities, net"),
    "debt_issued": ("Proceeds from long-term debt", "Borrowings of long-term debt"),
    "debt_repaid": ("Repayments of long-term debt", "Payments on long-term debt"),
    "dividends": ("Dividends paid", "Cash dividends paid to stockholders", "Payment of dividends"),
    "repurchases": ("Repurchases of common stock", "Purchases of treasury stock"),
    "stock_issued": ("Proceeds from stock issued to employees", "Exercise of stock options"),
    "financing_cash": ("Net cash used in financing activities", "Cash flows used for financing activities, net"),
    "exchange": ("Effect of exchange rates on cash", "Exchange rate effect on cash"),
    "cash_change": ("Net change in cash and cash equivalents", "Increase (decrease) in cash and equivalents"),
    "cash_start": ("Cash and cash equivalents at beginning of year", "Cash at beginning of year"),
    "cash_end": ("Cash and cash equivalents at end of year", "Cash at end of year"),
}


@dataclass(frozen=True)
class Line:
    """A row: its concept ('' for a heading), its label and its printed cells, newest year first."""

    concept: str
    label: str
    cells: tuple[str, ...] = ()
    has_dollar: bool = False
    is_total: bool = False


@dataclass(frozen=True)
class Table:
    """A statement or note table. ``head`` are the lines over the columns; the last one holds the years."""

    kind: str
    title: str
    unit_line: str
    head: tuple[str, ...]
    years: tuple[int, ...]
    lines: tuple[Line, ...]


def wordings_of(company: Company) -> dict[str, str]:
    """Return concept -> the label this company prints, the same in all its filings."""
    draw = random.Random(f"{SEED}:words:{company.key}")
    words = {concept: draw.choice(choices) for concept, choices in WORDINGS.items()}
    words |= company.labels
    if company.labels.get("net_income") == "Net loss":
        words |= {"net_income": "Net loss", "operating_income": "Operating loss", "pretax_income": "Loss before income "
                                                                                                   "taxes",
                  "eps": "Basic loss per share", "eps_diluted": "Diluted loss per share", "retained": "Accumulated deficit"}
    if company.key == "DUNMORROW":
        words["retained"] = "Retained earnings"
    if words["net_income"] == "Net earnings":
        words["pretax_income"] = "Earnings before income taxes"
    return words


def print_amount(value: float, digits: int = 0) -> str:
    """Return a cell: thousands by commas, negatives in parentheses, a dash for nothing."""
    text = f"{abs(value):,.{digits}f}"
    return "—" if not value else f"({text})" if value < 0 else text


class Tables:
    """Builds the tables of one filing from the company's books."""

    def __init__(self, company: Company, books: dict[int, Amounts], fiscal_year: int) -> None:
        self.company, self.books, self.year = company, books, fiscal_year
        self.words = wordings_of(company)
        if any(amounts.get("financing_cash", -1) > 0 for amounts in books.values()):
            self.words["financing_cash"] = "Net cash provided by (used in) financing activities"
        self.style = random.Random(f"{SEED}:style:{company.key}").randrange(3)

    def line(self, concept: str, years: tuple[int, ...], label: str = "", dollar: bool = False, total: bool = False,
             negate: bool = False, digits: int = 0, suffix: str = "") -> Line:
        """Return a row of amounts; '%' and the like come as ``suffix``."""
        sign = -1 if negate else 1
        values = [self.books[year].get(concept, 0) * sign for year in years]
        cells = tuple(print_amount(value, digits) + suffix for value in values)
        return Line(concept, label or self.words.get(concept, concept), cells, dollar, total)

    def span(self, count: int) -> tuple[int, ...]:
        """Return the newest ``count`` fiscal years."""
        return tuple(range(self.year, self.year - count, -1))

    def flow_head(self) -> tuple[str, ...]:
        """Return the lines over three years of flows, in one of three styles."""
        end, years = self.company.year_end, " ".join(map(str, self.span(3)))
        if self.style == 0:
            return (f"Years ended {end}, {years}",)
        return (f"Fiscal years ended {end}," if self.style == 1 else f"For the years ended {end}", years)

    def balance_head(self) -> tuple[str, ...]:
        """Return the lines over two year ends."""
        end, years = self.company.year_end, " ".join(map(str, self.span(2)))
        return (f"At {end}, {years}",) if self.style == 0 else (f"{end}," if self.style == 1 else f"As of {end},", years)

    def unit_line(self, has_shares: bool = False) -> str:
        """Return the line that tells the unit."""
        extra = ", except per share amounts" if has_shares else ""
        return (f"(in {self.company.unit}{extra})", f"(dollars in {self.company.unit}{extra})",
                f"(In {self.company.unit} of U.S. dollars{extra})")[self.style]

    def income(self) -> Table:
        """Return the income statement over three years."""
        years, c = self.span(3), self.company
        rows = [self.line("revenue", years, dollar=True)]
        if c.layout == "gross":
            rows += [self.line("cost", years), self.line("gross_profit", years, total=True), Line("", "Operating expenses:"),
                     self.line("sga", years)]
            rows += [self.line("rnd", years)] if c.rnd_share else []
            rows += [self.line("restructuring", years)] if c.has_restructuring else []
        else:
            rows += [Line("", "Operating expenses:")]
            rows += [self.line(f"expense:{name}", years, label=name) for name, _ in c.expenses]
            rows += [self.line("depreciation_amortization", years)]
            rows += [self.line("restructuring", years)] if c.has_restructuring else []
        rows += [self.line("operating_expenses", years, total=True), self.line("operating_income", years, total=True),
                 self.line("interest", years, negate=self.style != 1), self.line("other_income", years),
                 self.line("pretax_income", years, total=True), self.line("income_tax", years),
                 self.line("net_income", years, dollar=True, total=True),
                 self.line("eps", years, dollar=True, digits=2), self.line("eps_diluted", years, dollar=True, digits=2)]
        digits = 1 if c.unit == "millions" else 0
        rows += [self.line("shares", years, digits=digits), self.line("shares_diluted", years, digits=digits)]
        title = "Consolidated Statements of " + ("Operations", "Income", "Earnings")[
            0 if "loss" in self.words["net_income"] else 2 if "earnings" in self.words["net_income"] else 1]
        return Table("income", title, self.unit_line(True), self.flow_head(), years, tuple(rows))

    def balance(self) -> Table:
        """Return the balance sheet at two year ends."""
        years, c = self.span(2), self.company
        rows = [Line("", "Assets"), Line("", "Current assets:"), self.line("cash", years, dollar=True),
                self.line("receivables", years)]
        rows += [self.line("inventories", years)] if c.inventory_share else []
        rows += [self.line("prepaid", years), self.line("current_assets", years, total=True), self.line("property", years),
                 self.line("lease_assets", years), self.line("goodwill", years), self.line("intangibles", years),
                 self.line("other_assets", years), self.line("total_assets", years, dollar=True, total=True),
                 Line("", "Liabilities and equity"), Line("", "Current liabilities:"),
                 self.line("payables", years, dollar=True), self.line("accrued", years)]
        rows += [self.line("deferred_revenue", years)] if c.deferred_share else []
        rows += [self.line("current_debt", years), self.line("current_liabilities", years, total=True)]
        rows += [self.line(x, years) for x in ("long_term_debt", "lease_liabilities", "deferred_taxes", "other_liabilities")]
        rows += [self.line("total_liabilities", years, total=True), Line("", "Equity:")]
        rows += [self.line(x, years) for x in ("common_stock", "paid_in", "retained", "aoci", "treasury")]
        rows += [self.line("equity", years, total=True),
                 self.line("total_liabilities_equity", years, dollar=True, total=True)]
        return Table("balance", "Consolidated Balance Sheets", self.unit_line(), self.balance_head(), years, tuple(rows))

    def cash_flow(self) -> Table:
        """Return the statement of cash flows over three years."""
        years, c = self.span(3), self.company
        rows = [Line("", "Operating activities:"), self.line("net_income", years, dollar=True),
                Line("", "Adjustments to reconcile to net cash:")]
        rows += [self.line(x, years) for x in ("depreciation_amortization", "stock_pay", "deferred_tax",
        "change_receivables")]
        rows += [self.line("change_inventories", years)] if c.inventory_share else []
        rows += [self.line(x, years) for x in ("change_prepaid", "change_payables", "change_accrued")]
        rows += [self.line("change_deferred_revenue", years)] if c.deferred_share else []
        rows += [self.line("change_other", years), self.line("operating_cash", years, total=True),
                 Line("", "Investing activities:"), self.line("capex", years)]
        rows += [self.line("acquisitions", years)] if any(self.books[y]["acquisitions"] for y in years) else []
        rows += [self.line("investing_cash", years, total=True), Line("", "Financing activities:")]
        rows += [self.line("debt_issued", years)] if any(self.books[y]["debt_issued"] for y in years) else []
        rows += [self.line("debt_repaid", years)]
        rows += [self.line("dividends", years)] if c.payout else []
        rows += [self.line("repurchases", years)] if c.buyback else []
        rows += [self.line("stock_issued", years), self.line("financing_cash", years, total=True),
                 self.line("exchange", years), self.line("cash_change", years, total=True), self.line("cash_start", years),
                 self.line("cash", years, label=self.words["cash_end"], dollar=True, total=True)]
        return Table("cash_flow", "Consolidated Statements of Cash Flows", self.unit_line(), self.flow_head(), years,
                     tuple(rows))

    def margins(self) -> Table:
        """Return the ratios of the MD&A."""
        years, c = self.span(3), self.company
        rows = [self.line("gross_margin", years, "Gross profit as a percentage of revenue", digits=1, suffix="%")
                ] if c.layout == "gross" else []
        if c.labels.get("net_income") != "Net loss":
            rows += [self.line("operating_margin", years, "Operating margin", digits=1, suffix="%"),
                     self.line("tax_rate", years, "Effective tax rate", digits=1, suffix="%")]
        return Table("margins", "Selected ratios", "", self.flow_head(), years, tuple(rows))

    def employees(self) -> Table:
        """Return the head count of the business section, at two year ends."""
        years = self.span(2)
        rows = [self.line(f"employees:{name}", years, label=name) for name, _ in self.company.employees]
        rows += [self.line("employees", years, "Total employees", total=True)]
        return Table("employees", "Number of employees", "", self.balance_head(), years, tuple(rows))

    def segments(self) -> Table:
        """Return sales and profit by segment."""
        years, c = self.span(3), self.company
        sales = self.words["revenue"].lower().removeprefix("total ")
        rows = [Line("", f"{sales.capitalize()}:")]
        rows += [self.line(f"segment:{name}", years, f"{name} {sales}", dollar=i == 0)
                 for i, (name, _) in enumerate(c.segments)]
        rows += [self.line("revenue", years, f"Total {sales} of segments", dollar=True, total=True),
                 Line("", "Segment operating profit:")]
        rows += [self.line(f"segment_income:{name}", years, f"{name} operating profit", dollar=i == 0)
                 for i, (name, _) in enumerate(c.segments)]
        rows += [self.line("segment_corporate", years, "Corporate expenses not allocated"),
                 self.line("operating_income", years, f"Consolidated {self.words['operating_income'].lower()}", dollar=True,
                           total=True)]
        return Table("segments", "Segment information", self.unit_line(), self.flow_head(), years, tuple(rows))

    def notes(self) -> tuple[Table, ...]:
        """Return the other note tables this company has."""
        c, two, three = self.company, self.span(2), self.span(3)
        unit, at, flows = self.unit_line(), self.balance_head(), self.flow_head()
        tables = []
        if c.regions:
            rows = [self.line(f"region:{name}", three, f"{name} sales", dollar=i == 0) for i, (name,
            _) in enumerate(c.regions)]
            tables.append(Table("regions", "Sales by region", unit, flows, three, tuple(rows)))
        if c.inventory_share > 0.05 and c.key != "BRAMHOLT":
            names = {"raw_materials": "Raw materials and supplies", "work_in_process": "Work in process",
                     "finished_goods": "Finished goods"}
            rows = [self.line(x, two, label, dollar=x == "raw_materials") for x, label in names.items()]
            rows += [self.line("inventories", two, "Inventories at the lower of cost or net realizable value", True, True)]
            tables.append(Table("inventories", "Inventories", unit, at, two, tuple(rows)))
        names = {"land": "Land", "buildings": "Buildings and improvements",
                 "machinery": {"KESTROVIA": "Aircraft and flight equipment", "ORRINWICK": "Tractors and trailers"}.get(
                     c.key, "Machinery and equipment"), "construction": "Construction in progress",
                 "property_gross": "Property, plant and equipment, gross"}
        rows = [self.line(x, two, label, dollar=x == "land") for x, label in names.items()]
        rows += [self.line("accumulated_depreciation", two, "Less accumulated depreciation", negate=True),
                 self.line("property", two, "Net property, plant and equipment", dollar=True, total=True)]
        tables.append(Table("property", "Property, plant and equipment", unit, at, two, tuple(rows)))
        rows = [self.line("senior_notes", two, "Senior notes", dollar=True), self.line("term_loan", two, "Term loan"),
                self.line("total_debt", two, "Total debt", total=True),
                self.line("current_debt", two, "Less amounts due within one year", negate=True),
                self.line("long_term_debt", two, "Debt due after one year", dollar=True, total=True)]
        tables.append(Table("debt", "Debt", unit, at, two, tuple(rows)))
        rows = [self.line("tax_federal", three, "Current federal taxes", dollar=True),
                self.line("tax_state", three, "Current state taxes"), self.line("tax_foreign", three, "Current foreign "
                                                                                                      "taxes"),
                self.line("deferred_tax", three, "Deferred taxes"),
                self.line("income_tax", three, "Total income tax provision", dollar=True, total=True)]
        tables.append(Table("taxes", "Income taxes", unit, flows, three, tuple(rows)))
        return tuple(tables)
