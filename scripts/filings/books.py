"""The books of a fictitious company: every year's amounts, drawn once, so that all statements and filings agree.

Cash is what the cash flow statement leaves, and every other balance moves by a flow of that statement, so the
balance sheet balances by construction; ``check_books`` proves it again.
"""

from __future__ import annotations

import random

from filings.companies import Company

Amounts = dict[str, float]
SEED = 20


def keep_books(company: Company) -> dict[int, Amounts]:
    """Return fiscal year -> concept -> amount in the company's unit (per-share amounts in dollars).

    The first year holds balances only; income and flows begin in the second.
    """
    draw = random.Random(f"{SEED}:{company.key}")
    first = min(company.fiscal_years) - 3
    books = {first: _open(company, draw)}
    for year in range(first + 1, max(company.fiscal_years) + 1):
        books[year] = _close_year(company, draw, books[year - 1])
    for year in sorted(books):
        check_year(books[year], books.get(year - 1))
    return books


def _open(company: Company, draw: random.Random) -> Amounts:
    """Draw the balances at the start; retained earnings are what is left."""
    revenue = company.revenue

    def share(value: float) -> float:
        return round(revenue * value * draw.uniform(0.94, 1.06))

    debt = share(company.debt_share)
    b: Amounts = {
        "revenue": revenue,
        "cash": share(0.14), "receivables": share(company.receivable_share), "inventories": share(company.inventory_share),
        "prepaid": share(0.028), "property": share(company.property_share), "lease_assets": share(0.06),
        "goodwill": share(company.goodwill_share), "intangibles": share(company.goodwill_share * 0.45),
        "other_assets": share(0.035), "payables": share(0.085), "accrued": share(0.07),
        "deferred_revenue": share(company.deferred_share), "current_debt": round(debt * 0.07),
        "deferred_taxes": share(0.03), "other_liabilities": share(0.04), "aoci": -share(0.02), "treasury": -share(0.09),
        "common_stock": round(revenue * 0.002), "paid_in": share(0.25),
    }
    b["long_term_debt"] = debt - b["current_debt"]
    b["lease_liabilities"] = b["lease_assets"]
    b["accumulated_depreciation"] = round(b["property"] * 0.7)
    b["shares"] = _shares(company, revenue * (0.031 if company.unit == "millions" else 0.06))
    _total(b)
    b["retained"] += b["total_assets"] - b["total_liabilities_equity"]
    _total(b)
    return b


def _shares(company: Company, count: float) -> float:
    """Round shares as printed: tenths of a million, or whole thousands."""
    return round(count, 1) if company.unit == "millions" else float(round(count))


def _total(b: Amounts) -> None:
    """Fill in the balance sheet's totals."""
    b.setdefault("retained", 0)
    b["current_assets"] = b["cash"] + b["receivables"] + b["inventories"] + b["prepaid"]
    b["total_assets"] = (b["current_assets"] + b["property"] + b["lease_assets"] + b["goodwill"] + b["intangibles"]
                         + b["other_assets"])
    b["current_liabilities"] = b["payables"] + b["accrued"] + b["deferred_revenue"] + b["current_debt"]
    b["total_debt"] = b["current_debt"] + b["long_term_debt"]
    b["total_liabilities"] = (b["current_liabilities"] + b["long_term_debt"] + b["lease_liabilities"] + b["deferred_taxes"]
                              + b["other_liabilities"])
    b["equity"] = b["common_stock"] + b["paid_in"] + b["retained"] + b["aoci"] + b["treasury"]
    b["total_liabilities_equity"] = b["total_liabilities"] + b["equity"]


def _close_year(company: Company, draw: random.Random, prior: Amounts) -> Amounts:
    """Return a year's amounts: income, then flows, then the balances they lead to."""
    y: Amounts = {}
    _earn(company, draw, prior, y)
    _flow(company, draw, prior, y)
    _balance(company, draw, prior, y)
    return y


def _earn(company: Company, draw: random.Random, prior: Amounts, y: Amounts) -> None:
    """Draw the income statement and its notes."""
    def near(share: float, width: float = 0.03) -> int:
        return round(y["revenue"] * share * draw.uniform(1 - width, 1 + width))

    y["revenue"] = round(prior["revenue"] * (1 + company.growth + draw.uniform(-0.05, 0.05)))
    y["depreciation"] = round(prior["property"] * draw.uniform(0.095, 0.12))
    y["amortization"] = round(prior["intangibles"] * draw.uniform(0.07, 0.1))
    y["depreciation_amortization"] = y["depreciation"] + y["amortization"]
    y["restructuring"] = near(0.012, 0.5) if company.has_restructuring else 0
    if company.layout == "gross":
        y["cost"] = near(company.cost_share, 0.015)
        y["gross_profit"] = y["revenue"] - y["cost"]
        y["sga"], y["rnd"] = near(company.sga_share), near(company.rnd_share)
        y["operating_expenses"] = y["sga"] + y["rnd"] + y["restructuring"]
        y["operating_income"] = y["gross_profit"] - y["operating_expenses"]
    else:
        for name, share in company.expenses:
            y[f"expense:{name}"] = near(share, 0.025)
        named = sum(y[f"expense:{name}"] for name, _ in company.expenses)
        y["operating_expenses"] = named + y["depreciation_amortization"] + y["restructuring"]
        y["operating_income"] = y["revenue"] - y["operating_expenses"]
    y["interest"] = max(1, round((prior["current_debt"] + prior["long_term_debt"]) * draw.uniform(0.037, 0.05)))
    y["other_income"] = near(0.004, 0.8)
    y["pretax_income"] = y["operating_income"] - y["interest"] + y["other_income"]
    y["income_tax"] = round(y["pretax_income"] * draw.uniform(0.205, 0.25)) if y["pretax_income"] > 0 else near(0.004, 0.4)
    y["net_income"] = y["pretax_income"] - y["income_tax"]
    _split(y, "segment", company.segments, y["revenue"], draw, 0.02)
    corporate = -near(0.02, 0.2)
    y["segment_corporate"] = corporate
    _split(y, "segment_income", company.segments, y["operating_income"] - corporate, draw, 0.08)
    _split(y, "region", company.regions, y["revenue"], draw, 0.02)
    for name, count in company.employees:
        y[f"employees:{name}"] = round(count * (y["revenue"] / company.revenue) ** 0.6 * draw.uniform(0.97, 1.03), -1)
    y["employees"] = sum(y[f"employees:{name}"] for name, _ in company.employees)


def _split(y: Amounts, kind: str, shares: tuple[tuple[str, float], ...], total: float, draw: random.Random,
           width: float) -> None:
    """Divide a total among names by their shares; the last takes the rest."""
    left = total
    for name, share in shares[:-1]:
        y[f"{kind}:{name}"] = round(total * share * draw.uniform(1 - width, 1 + width))
        left -= y[f"{kind}:{name}"]
    if shares:
        y[f"{kind}:{shares[-1][0]}"] = left


def _flow(company: Company, draw: random.Random, prior: Amounts, y: Amounts) -> None:
    """Draw the cash flows; borrow where cash would run low."""
    revenue, growth = y["revenue"], y["revenue"] / prior["revenue"]

    def grow(concept: str) -> int:
        """The change of a balance that follows revenue."""
        return round(prior[concept] * (growth * draw.uniform(0.95, 1.06) - 1))

    y["stock_pay"] = round(revenue * company.stock_pay_share * draw.uniform(0.9, 1.1))
    y["deferred_tax"] = round(y["income_tax"] * draw.uniform(-0.12, 0.2))
    y["change_receivables"], y["change_inventories"] = -grow("receivables"), -grow("inventories")
    y["change_prepaid"], y["change_payables"] = -grow("prepaid"), grow("payables")
    y["change_accrued"], y["change_deferred_revenue"] = grow("accrued"), grow("deferred_revenue")
    y["change_other"] = round(revenue * draw.uniform(-0.006, 0.006))
    y["operating_cash"] = sum(y[c] for c in (
        "net_income", "depreciation_amortization", "stock_pay", "deferred_tax", "change_receivables", "change_inventories",
        "change_prepaid", "change_payables", "change_accrued", "change_deferred_revenue", "change_other"))
    y["capex"] = -round(revenue * company.capex_share * draw.uniform(0.85, 1.15))
    y["acquisitions"] = -round(revenue * draw.uniform(0.01, 0.05)) if draw.random() < 0.55 else 0
    y["investing_cash"] = y["capex"] + y["acquisitions"]
    earned = max(0.0, y["net_income"])
    y["dividends"] = -round(earned * company.payout * draw.uniform(0.9, 1.1))
    y["repurchases"] = -round(earned * company.buyback * draw.uniform(0.5, 1.4))
    y["stock_issued"] = round(revenue * company.stock_pay_share * draw.uniform(0.1, 0.3))
    y["debt_repaid"] = -prior["current_debt"]
    y["exchange"] = round(revenue * draw.uniform(-0.003, 0.003)) or 1
    before = prior["cash"] + sum(y[c] for c in ("operating_cash", "investing_cash", "dividends", "repurchases",
                                                "stock_issued", "debt_repaid", "exchange"))
    wanted = round(revenue * draw.uniform(0.08, 0.14))
    y["debt_issued"] = max(0, round(wanted - before, -1 if company.unit == "millions" else -3))
    y["financing_cash"] = sum(y[c] for c in ("debt_issued", "debt_repaid", "dividends", "repurchases", "stock_issued"))
    y["cash_change"] = y["operating_cash"] + y["investing_cash"] + y["financing_cash"] + y["exchange"]
    y["cash_start"] = prior["cash"]


def _balance(company: Company, draw: random.Random, prior: Amounts, y: Amounts) -> None:
    """Carry every balance forward by its flows."""
    y["cash"] = prior["cash"] + y["cash_change"]
    for concept in ("receivables", "inventories", "prepaid"):
        y[concept] = prior[concept] - y[f"change_{concept}"]
    for concept in ("payables", "accrued", "deferred_revenue"):
        y[concept] = prior[concept] + y[f"change_{concept}"]
    into_goodwill = round(-y["acquisitions"] * 0.6)
    y["goodwill"] = prior["goodwill"] + into_goodwill
    y["intangibles"] = prior["intangibles"] - y["acquisitions"] - into_goodwill - y["amortization"]
    y["property"] = prior["property"] - y["capex"] - y["depreciation"]
    y["accumulated_depreciation"] = prior["accumulated_depreciation"] + y["depreciation"]
    y["lease_assets"] = y["lease_liabilities"] = round(prior["lease_assets"] * draw.uniform(0.95, 1.1))
    y["other_assets"] = prior["other_assets"] - min(0, y["change_other"])
    y["other_liabilities"] = prior["other_liabilities"] + max(0, y["change_other"])
    y["deferred_taxes"] = prior["deferred_taxes"] + y["deferred_tax"]
    debt = prior["current_debt"] + prior["long_term_debt"] + y["debt_repaid"] + y["debt_issued"]
    y["current_debt"] = round(debt * draw.uniform(0.06, 0.11))
    y["long_term_debt"] = debt - y["current_debt"]
    y["common_stock"] = prior["common_stock"]
    y["paid_in"] = prior["paid_in"] + y["stock_pay"] + y["stock_issued"]
    y["retained"] = prior["retained"] + y["net_income"] + y["dividends"]
    y["aoci"] = prior["aoci"] + y["exchange"]
    y["treasury"] = prior["treasury"] + y["repurchases"]
    _total(y)
    y["shares"] = _shares(company, prior["shares"] * draw.uniform(0.99, 1.003))
    y["shares_diluted"] = y["shares"] if y["net_income"] < 0 else _shares(company, y["shares"] * 1.014)
    y["eps"] = round(y["net_income"] / y["shares"], 2)
    y["eps_diluted"] = round(y["net_income"] / y["shares_diluted"], 2)
    _detail(company, draw, y)


def _detail(company: Company, draw: random.Random, y: Amounts) -> None:
    """Draw what the notes say about inventories, property, debt and taxes."""
    y["raw_materials"] = round(y["inventories"] * draw.uniform(0.28, 0.34))
    y["work_in_process"] = round(y["inventories"] * draw.uniform(0.12, 0.17))
    y["finished_goods"] = y["inventories"] - y["raw_materials"] - y["work_in_process"]
    gross = y["property"] + y["accumulated_depreciation"]
    y["property_gross"] = gross
    y["land"], y["buildings"] = round(gross * 0.045), round(gross * draw.uniform(0.25, 0.27))
    y["construction"] = round(gross * draw.uniform(0.03, 0.06))
    y["machinery"] = gross - y["land"] - y["buildings"] - y["construction"]
    y["senior_notes"] = round(y["total_debt"] * 0.6)
    y["term_loan"] = y["total_debt"] - y["senior_notes"]
    current = y["income_tax"] - y["deferred_tax"]
    y["tax_federal"], y["tax_state"] = round(current * 0.66), round(current * 0.15)
    y["tax_foreign"] = current - y["tax_federal"] - y["tax_state"]
    y["operating_margin"] = round(100 * y["operating_income"] / y["revenue"], 1)
    y["gross_margin"] = round(100 * y.get("gross_profit", 0) / y["revenue"], 1)
    y["tax_rate"] = round(100 * y["income_tax"] / y["pretax_income"], 1)


def check_year(y: Amounts, prior: Amounts | None) -> None:
    """Raise ValueError where a year's statements do not add up or tie to the year before."""
    facts = {"the balance sheet balances": y["total_assets"] == y["total_liabilities_equity"]}
    if prior:
        facts |= {
            "cash ties": y["cash"] == prior["cash"] + y["cash_change"],
            "cash stays positive": y["cash"] > 0,
            "retained earnings tie": y["retained"] == prior["retained"] + y["net_income"] + y["dividends"],
            "segments add up": sum(v for k, v in y.items() if k.startswith("segment:")) == y["revenue"],
            "property ties": y["property"] == prior["property"] - y["capex"] - y["depreciation"],
        }
    wrong = [fact for fact, holds in facts.items() if not holds]
    if wrong:
        raise ValueError(f"the books do not hold: {', '.join(wrong)}")
