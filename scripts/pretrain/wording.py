"""How questions ask and how answers say: templates, amounts with their unit, one-step calculations."""

from __future__ import annotations

import re

ASK_FIGURE = (
    "What {v} {o} {l} in {f}{u}?",
    "What {v} {o} {l} in {f}{u}?",
    "What {l} did {c} report for {f}{u}?",
    "In {f}, what {v} the {l} of {c}{u}?",
    "What {w} the FY{y} {l} of {c}{u}?",
    "What {v} {o} {l} at the end of {f}{u}?",
    "As of the end of {f}, what {v} {o} {l}{u}?",
    "What {w} the year-end FY{y} {l} of {c}{u}?",
    "What {w} the FY{y} {l} for {c}?",
    "What {w} the FY{y} {l} amount{u} for {c}?",
    "What {w} the year end FY{y} {l} for {c}?",
    "How much {l} did {c} have at the end of {f}{u}?",
    "How much {v} {l} for {c} in {y}?",
    "What {v} {o} {l} in FY{y}?",
    "What is the FY{y} amount of {l} for {c}{u}?",
    "How much {l} did {c} report in {y}{u}?",
    "According to the statements, what {v} {o} FY{y} {l}?",
    "State {o} {l} for {y}.",
    "{c}: what {v} {l} in {y}?",
    "Give the FY{y} {l} of {c}.",
)
ASK_GROWTH = (
    "By what percentage did {o} {l} change from {p} to {y}?",
    "What was the growth rate of {o} {l} in FY{y}?",
    "By what percentage did {o} {l} change from fiscal {p} to fiscal {y}?",
    "What was the growth rate of {o} {l} from FY{p} to FY{y}?",
    "What is the FY{p} to FY{y} percentage change in {l} for {c}?",
    "By how many percent did {l} of {c} change in {y} compared with {p}?",
    "What is the year-over-year change in {o} {l} from FY{p} to FY{y}, in percent?",
)
ASK_DIFFERENCE = (
    "By how much did {o} {l} change from fiscal {p} to fiscal {y}?",
    "What was the change in {o} {l} between FY{p} and FY{y}?",
    "How much higher or lower {v} {o} {l} in fiscal {y} than in fiscal {p}?",
    "What is the difference between {o} {l} in FY{y} and FY{p}?",
)
ASK_RATIO = (
    "What is the FY{y} ratio of {l} to {m} of {c}?",
    "What was {o} ratio of {l} to {m} in {y}?",
    "For {c} in FY{y}, what is {l} divided by {m}?",
    "Calculate {o} ratio of {l} to {m} for {f}.",
    "Calculate {o} {l} ratio ({l} divided by {m}) for FY{y}.",
)
ASK_MARGIN = (
    "What was {o} {l} margin ({l} divided by {m}) in {f}?",
    "What is the FY{y} margin ({l} divided by {m}) of {c}?",
    "Calculate {o} {l} as a percentage of {m} for FY{y}.",
    "What percentage of {m} {v} {o} {l} in {f}?",
)
ASK_COMPARE = (
    "Did {o} {l} {d} in fiscal {y}?",
    "Did {o} {l} {d} from FY{p} to FY{y}?",
    "Did {o} {l} {d} in {y} compared with {p}?",
    "{V} {o} {l} {h} in fiscal {y} than in fiscal {p}?",
)
ASK_VERSUS = (
    "{V} {o} {l} {g} than its {m} in {f}?",
    "In {f}, {v} the {l} of {c} {g} than its {m}?",
    "{V} {o} {l} {g} than its {m} at the end of {f}?",
)
SOURCES = (
    "income statement",
    "statement of income",
    "statement of operations",
    "balance sheet",
    "cash flow statement",
    "statement of cash flows",
    "statement of financial position",
    "P&L statement",
    "annual report",
    "segment note",
)
BEFORE = (
    "You are a credit analyst. ",
    "Suppose you are an equity analyst who reads the {t}. ",
    "According to the {t}: ",
    "Using the {t} alone, answer this: ",
    "Answer from what the {t} shows. ",
)
AFTER = (
    " Answer in USD {u}.",
    " Give the answer in {u} of US dollars.",
    " Use the figures in the {t}.",
    " Rely on the details of the {t}.",
    " Take the numbers from the {t}.",
    " Round the answer to one decimal place.",
    " Round to two decimals.",
)
PERIODS = (
    "fiscal {y}",
    "fiscal {y}",
    "fiscal year {y}",
    "FY{y}",
    "FY{y}",
    "the fiscal year {y}",
    "{y}",
    "the fiscal year ended {d}, {y}",
    "the year ended {d}, {y}",
)
DAYS = ("December 31", "December 31", "June 30", "September 30", "March 31", "January 31", "July 31", "December 28")
_PAID_OUT = re.compile(
    r"^(?:net )?(?:cash )?(?:purchases?|payments?|repayments?|additions?|repurchases?|acquisitions?|dividends?|capital |"
    r"expenditures|"
    r"investments? in)\b|\bused (?:in|for)\b|\bpaid\b|\b(?:expenses?|costs?)\b",
    re.IGNORECASE,
)
_SIGNED = re.compile(r"income|earnings|profit|provided|\(|gain|benefit|change", re.IGNORECASE)


def value_of(amount: str) -> float | None:
    """Return a printed amount as a number, None for a dash."""
    digits = amount.strip("()%").replace(",", "").rstrip(")%")
    if not re.fullmatch(r"\d+(?:\.\d+)?", digits):
        return None
    return -float(digits) if amount.startswith("(") else float(digits)


def money(amount: str, unit: str, label: str = "") -> str:
    """Return an amount as an answer says it: ``$4,210 million``, ``-$310 million``, ``12.5%``, ``$3.21``.

    What is paid out (``Dividends paid 2021: (86)``) is positive, as people ask for it.
    """
    bare = amount.strip("(-)%").rstrip(")%")
    is_negative = amount[0] in "(-" and not (_PAID_OUT.search(label) and not _SIGNED.search(label))
    sign = "-" if is_negative else ""
    if "%" in amount:
        return f"{sign}{bare}%"
    scale = f" {unit[:-1]}" if unit and "." not in bare else ""
    return f"{sign}${bare}{scale}"


def calculate(kind: str, first: str, second: str) -> tuple[str, str] | None:
    """Return (expression with its result, result) of a one-step calculation, None where it cannot be done."""
    a, b = value_of(first), value_of(second)
    if a is None or b is None or a * b <= 0 or ("%" in first) != ("%" in second):
        return None
    left, right = first.strip("()%").rstrip(")%"), second.strip("()%").rstrip(")%")
    x, y = abs(a), abs(b)
    if kind == "growth":
        if not 0.02 < x / y < 50:
            return None
        result = f"{(x / y - 1) * 100:.1f}%"
        return f"{left} / {right} - 1 = {result}", result
    if kind in ("ratio", "margin"):
        result = f"{x / y:.2f}" if kind == "ratio" else f"{x / y * 100:.1f}%"
        return (f"{left} / {right} = {result}", result) if 0.01 <= x / y < 1000 else None
    places = 2 if "." in left + right else 0
    result = f"{x - y:,.{places}f}"
    return f"{left} - {right} = {result}", result
