"""What questions and statements call the same thing: ``capex`` is ``Purchases of property, plant and equipment``.

One table serves the questions that are asked from rows, and the sentence beside a question that names its rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache


@dataclass(frozen=True)
class Term:
    """A line item: its names in questions ('*' marks a plural) and a pattern of its labels in statements."""

    names: tuple[str, ...]
    labels: str

    @cached_property
    def asked(self) -> re.Pattern[str]:
        """Pattern of the names within a question."""
        names = sorted((name.rstrip("*") for name in self.names), key=len, reverse=True)
        words = "|".join(re.escape(name).replace(r"\ ", r"\s+").replace("'", "['’]") for name in names)
        return re.compile(rf"(?<![\w&-])(?:{words})(?![\w&-])", re.IGNORECASE)

    @cached_property
    def labelled(self) -> re.Pattern[str]:
        """Pattern of a whole label."""
        return re.compile(self.labels, re.IGNORECASE)

    def names_row(self, label: str) -> bool:
        """Whether a statement's label is this line item; remarks in parentheses and footnote marks aside."""
        return bool(self.labelled.fullmatch(_plain(label)))


def _plain(label: str) -> str:
    bare = re.sub(r"\s*\([^()]*\)|\s*\*+$", "", label.replace("’", "'")).strip(" ,:-—")
    return re.sub(r"\s+", " ", bare)


# Patterns read better whole than cut at a margin.
# ruff: noqa: E501
_NET = r"(?:\s*[,—-]?\s*net)?"
TERMS: tuple[Term, ...] = tuple(
    Term(names, labels) for names, labels in (
        (("capital expenditure", "capital expenditures*", "capex", "capital spending",
          "spending on property, plant and equipment"),
         r"capital (?:expenditures?|spending)(?: for .*)?|expenditures for property.*|"
         r"(?:cash )?(?:purchases?|acquisitions?|additions?|payments?|investments?)(?: (?:of|to|for|in|on|acquire|the|purchase|"
         r"acquisition))* (?:property|plant|fixed|buildings).*"),
        (("revenue", "sales*", "total revenue", "net sales*", "net revenue", "revenues*", "total revenues*", "turnover",
          "top line"),
         r"(?:total |consolidated )*(?:net )?(?:operating )?(?:sales|revenues?)(?:, net)?|total net (?:sales|revenues?)|"
         r"sales to customers|net sales and revenues"),
        (("cost of goods sold", "cost of sales", "COGS", "cost of revenue", "cost of products sold"),
         r"(?:total )?costs? of (?:goods sold|sales|products sold|products|goods|merchandise sold|(?:net )?revenues?)(?:, .*)?"),
        (("gross profit", "gross margin"), r"(?:total )?gross (?:profit|margin|income)"),
        (("gross profit margin", "gross margin", "gross margin percentage"),
         r"gross (?:profit|margin)(?:,? as a)? (?:percentage|percent).*|gross (?:profit|margin) (?:margin|rate|ratio)"),
        (("operating margin", "operating profit margin", "operating income margin"),
         r"operating (?:income|profit),? as a (?:percentage|percent).*|operating (?:profit )?margin.*"),
        (("SG&A expense", "SG&A costs*", "SG&A", "overhead costs*", "selling, general and administrative expenses*",
          "selling, general and administrative expense", "overhead expense", "overhead"),
         r"(?:total )?(?:selling|marketing|general),? (?:(?:selling|marketing|general|informational),? )*(?:and|&) administrative.*"),
        (("R&D expense", "research and development spending", "R&D", "research spending", "R&D costs*"),
         r"(?:total )?research(?:,| and|,? engineering and|,? engineering,? and|, development and engineering)? "
         r"?(?:development)?(?: expenses?| costs)?" + _NET),
        (("sales and marketing", "marketing spending"), r"(?:sales|selling) and marketing(?: expenses?)?"),
        (("operating income", "operating profit", "EBIT", "income from operations", "operating earnings*"),
         r"(?:total |consolidated )?(?:operating (?:income|profit|earnings|loss)|(?:income|earnings|profit|loss) from "
         r"operations)(?: \((?:loss|income)\))?(?: from operations)?"),
        (("depreciation and amortization", "D&A expense", "D&A"),
         r"(?:total )?(?:depreciation,? (?:and|&) amortization|amortization and depreciation|depreciation, .*amortization)"
         r"(?: expenses?)?(?: of .*)?"),
        (("interest expense", "cost of borrowing", "interest cost"),
         r"(?:total )?interest (?:expense|and debt expense|and other debt expense)(?:, net| on .*)?"),
        (("pre-tax income", "pretax income", "pretax earnings*", "pre-tax earnings*", "earnings before tax",
          "earnings before taxes", "income before taxes", "income before tax"),
         r"(?:net )?(?:income|earnings|profit|loss)(?: \(loss\))?(?: from (?:continuing )?operations)? before .*tax.*"),
        (("income tax expense", "provision for income taxes", "tax expense", "taxes on income*", "tax provision", "tax charge",
          "income tax charge"),
         r"(?:total )?(?:\(?(?:provision|benefit|expense)\)?(?: \((?:benefit|provision)\))? (?:for|from) )?(?:income )?tax"
         r"(?:es)?(?: expense| provision)?(?: \((?:benefit|expense)\))?(?: on (?:income|earnings))?"),
        (("net income", "net profit", "bottom line", "net earnings*", "profit after tax"),
         r"(?:consolidated )?net (?:income|earnings|profit|loss)(?: \(loss\))?(?: attributable to (?!non-?controlling).*)?"),
        (("basic EPS", "basic earnings per share"), r"(?!.*\b(?:average|outstanding|shares|diluted)\b).*\bbasic\b.*"),
        (("diluted EPS", "diluted earnings per share", "fully diluted EPS"), r"(?!.*\b(?:average|outstanding|shares|basic)\b).*\bdiluted\b.*"),
        (("cash on hand", "cash balance", "cash position", "cash", "cash and equivalents*", "cash and cash equivalents*"),
         r"(?:total )?cash(?: and (?:cash |temporary )*(?:equivalents|investments|securities))?(?:,? (?:at )?(?:the )?end of.*)?"),
        (("accounts receivable*", "receivables*", "trade receivables*", "AR"),
         r"(?:total |trade |customer )?(?:accounts? |trade |notes and |accounts and notes )*receivables?(?:, (?:net|less).*)?" + _NET),
        (("inventory", "inventories*", "stock on hand"), r"(?:total |net )?(?:merchandise )?inventor(?:y|ies)(?:, (?:net|at) .*)?" + _NET),
        (("net PP&E", "net property, plant and equipment", "PP&E", "PPNE", "PPE", "fixed assets*", "net PPE"),
         r"(?!.*\b(?:gross|at cost|depreciation)\b)(?:total |net )*(?:property|plant|land)\b.*\b(?:equipment|plant|property)\b.*"),
        (("accounts payable*", "trade payables*", "payables*", "AP"), r"(?:total )?(?:trade )?(?:accounts )?payables?"),
        (("deferred revenue", "unearned revenue", "contract liabilities*"),
         r"(?:total )?(?:deferred|unearned) (?:revenues?|income)(?:, .*)?|contract liabilities(?:, .*)?"),
        (("current assets*", "total current assets*"), r"total current assets"),
        (("current liabilities*", "total current liabilities*"), r"total current liabilities"),
        (("total assets*", "balance sheet total"), r"total assets"),
        (("total liabilities*",), r"total liabilities"),
        (("long-term debt", "long-term borrowings*", "non-current debt", "noncurrent debt", "long term debt"),
         r"(?:total )?long-?\s?term (?:debt|borrowings|obligations|notes)(?:[, ].*)?"),
        (("shareholders' equity", "total equity", "stockholders' equity", "book value", "shareholder equity", "equity"),
         r"total (?:company )?(?:(?:stock|share)(?:holders?|owners?)'? )?equity(?: \(deficit\))?|total (?!liabilities).*\b(?:share|stock)"
         r"(?:holders?|owners?)'? (?:equity|investment)"),
        (("retained earnings*", "accumulated profits*"), r"retained earnings(?: \(deficit\))?|reinvested earnings"),
        (("cash flow from operations", "operating cash flow", "cash from operations", "CFO",
          "cash from operating activities", "cash flow from operating activities"),
         r"(?:net )?cash (?:flows? )?(?:\(?(?:provided|generated|used|from|by|in|for)\)?(?: \((?:used in|used for)\))?[ /]*)+"
         r"(?:continuing )?operat(?:ing activities|ions)(?:[, ]+(?:net|before|continuing|from).*)?"),
        (("cash flow from investing", "investing cash flow", "cash used for investment"),
         r"(?:net )?cash .*\binvest(?:ing activities|ment activities).*"),
        (("cash flow from financing", "financing cash flow"), r"(?:net )?cash .*\bfinancing activities.*"),
        (("dividends*", "dividend payments*", "cash dividends*", "dividends paid*"),
         r"(?:payments? of )?(?:cash )?(?:common stock |common )?dividends?(?: paid| declared)?(?: (?:to|on) .*)?"),
        (("share repurchases*", "stock buybacks*", "share buybacks*", "buybacks*", "stock repurchases*"),
         r"(?:payments? (?:for|to) )?(?:re)?purchases? (?:of )?(?:common|treasury|company|shares?|class a)\b.*|"
         r"treasury (?:stock|shares) (?:purchases?|purchased|acquired).*|(?:common )?stock repurchases?.*|"
         r"repurchases? of (?:common )?(?:stock|shares).*"),
        (("stock-based compensation", "share-based compensation", "stock compensation"),
         r"(?:stock|share|equity)-based (?:compensation|payment|awards?).*|stock compensation.*"),
        (("debt repayment", "debt repayments*", "debt repaid", "repayments of debt*"), r"(?:re)?payments? (?:of|on) (?:long-term |senior |short-term )?(?:debt|borrowings|notes).*"),
        (("debt issued", "new borrowings*", "proceeds from long-term debt*"),
         r"(?:proceeds from )?(?:the )?(?:issuances?|borrowings?)(?: of)? (?:long-term |senior )?(?:debt|borrowings|notes).*|"
         r"proceeds from .*\b(?:debt|borrowings|notes)\b.*"),
        (("current portion of long-term debt", "current maturities of long-term debt", "long-term debt due within one year"),
         r"(?:current (?:portion|maturities|installments) of|short-term portion of) .*debt.*|long-term debt(?:,| due| payable) "
         r"(?:classified as current|within one year|current.*)"),
        (("accrued liabilities*", "accrued expenses*"), r"(?:total )?accrued (?:liabilities|expenses)(?: and other.*)?(?:, .*)?"),
        (("right-of-use assets*", "operating lease right-of-use assets*"), r"(?:operating )?(?:lease )?right-of-use assets?(?:, .*)?"),
        (("income before discontinued operations", "income from continuing operations"),
         r"(?:net )?(?:income|earnings|loss) from continuing operations(?:, net of (?:income )?tax(?:es)?)?"),
        (("headcount", "number of employees", "employees*"), r"(?:total |number of )*employees"),
        (("cash taxes*", "taxes paid*"), r"(?:cash paid for )?income taxes(?: paid.*|, net of refunds.*)?"),
        (("intangible assets*", "intangibles*"), r"(?:other |total |net )*intangible assets(?:, .*)?" + _NET),
    )
)  # fmt: skip
_RESTATED = re.compile(r"^(?P<label>\S.*?) (?:19|20)\d\d: \S+$", re.MULTILINE)


def find_terms(question: str) -> list[tuple[str, Term]]:
    """Return the line items a question names, as it words them; a name within a longer one does not count."""
    found = [(match.start(), match.end(), term) for term in TERMS for match in term.asked.finditer(question)]
    kept = [
        (start, end, term) for start, end, term in found
        if not any(a <= start and end <= b and (b - a) > (end - start) for a, b, _ in found)
    ]  # fmt: skip
    return [(question[start:end], term) for start, end, term in sorted(kept, key=lambda hit: hit[:2])]


@lru_cache(maxsize=20_000)
def _fits(term: Term, label: str) -> bool:
    return term.names_row(label)


def name_rows(question: str, texts: Iterable[str], most: int = 3) -> list[tuple[str, tuple[str, ...]]]:
    """Return for each line item of a question what the restated rows of the texts call it, if they call it otherwise.

    ``most`` labels each, in the order they stand. A name that stands in the question as part of a row's own label
    (``Europe net sales``) is left alone.
    """
    terms = find_terms(question)
    if not terms:
        return []
    labels = list(dict.fromkeys(match["label"] for text in texts for match in _RESTATED.finditer(text)))
    asked = question.lower()
    literal = [plain for label in labels if (plain := _plain(label).lower()) and plain in asked]
    named: dict[str, tuple[str, ...]] = {}
    for phrase, term in terms:
        if any(phrase.lower() in label for label in literal):
            continue
        matching = [label for label in labels if _fits(term, label)]
        if matching:
            named[phrase] = tuple(dict.fromkeys((*named.get(phrase, ()), *matching)))[:most]
    return list(named.items())


def render_names(named: Sequence[tuple[str, tuple[str, ...]]]) -> str:
    """Return the sentence that stands beside the question, '' for none."""
    if not named:
        return ""
    return "In the passages, " + "; ".join(f"{phrase} is called {' or '.join(labels)}" for phrase, labels in named) + "."
