"""The words of a filing: business, risk factors, properties and management's discussion, with figures from the books."""

from __future__ import annotations

import random

from filings.books import SEED, Amounts
from filings.companies import Company

Section = list[tuple[str, str]]
"""Paragraphs as (style, text): 'h2' a heading, 'p' a paragraph."""


def money(company: Company, value: float) -> str:
    """Return an amount as prose says it: $4,210 million or $421,034 thousand."""
    return f"${abs(value):,.0f} {company.unit.removesuffix('s')}"


def business(company: Company, books: dict[int, Amounts], year: int) -> Section:
    """Return Item 1 without its head count table."""
    c = company
    names = [name for name, _ in c.segments]
    listed = ", ".join(names[:-1]) + " and " + names[-1]
    section: Section = [
        ("h2", "Overview"),
        ("p", f"{c.name} is a provider of {c.business}. We were organized in {c.state} and have our principal offices in "
              f"{c.city}, {c.state}. In this report, \"we\", \"our\" and the \"Company\" mean {c.name} and its "
              f"subsidiaries. "
              f"Our products include {c.products}, which we sell mainly to {c.customers}. We manage the business as "
              f"{len(names)} segments: {listed}."),
        ("p", f"Fiscal {year} refers to the twelve months that ended on {c.year_end}, {year}. Unless we say otherwise, "
              f"amounts in tables are in {c.unit} of U.S. dollars."),
        ("h2", "Segments"),
    ]
    roles = ("our largest business and the one on which the Company was founded", "a business we have widened by new "
                                                                                  "products "
             "and by small acquisitions", "our newest business, which shares customers with the others")
    order = sorted(range(len(names)), key=lambda i: -books[year][f"segment:{names[i]}"])
    for place, i in enumerate(order):
        section.append(("p", f"{names[i]} is {roles[min(place, 2)]}. Its managers are responsible for pricing, service "
                             f"levels "
                             f"and the capital it employs. Results of {names[i]} depend on general demand among "
                             f"{c.customers}, "
                             f"on the cost of {c.materials}, and on how well we plan capacity. We describe its sales and "
                             "operating profit in the note on segment information."))
    section += [
        ("h2", "Customers and distribution"),
        ("p", f"We serve {c.customers}. No single customer accounted for more than ten percent of our sales in any of the "
              "periods presented. Most sales are made by our own people; in smaller markets we work with independent "
              "representatives whose agreements can be ended by either side on ninety days' notice. Orders are usually "
              "filled within weeks, so backlog is not a reliable sign of future sales."),
        ("h2", "Supply"),
        ("p", f"The most important things we buy are {c.materials}. We buy most of them from more than one supplier under "
              "contracts of one to three years. Prices change with the markets, and we pass changes on to customers when "
              "contracts allow, often with a delay of a quarter or two. We have not had a shortage that stopped our "
              "operations, although delivery times have become longer at times."),
        ("h2", "Competition"),
        ("p", f"Our markets are competitive. We meet {c.rivals}. Customers choose on quality, price, service and how "
              f"quickly "
              "we deliver. Some competitors have more capital than we do and can hold lower prices for longer."),
        ("h2", "Intellectual property and regulation"),
        ("p", "We own patents, trademarks and trade secrets that matter to the business, but we do not believe that the "
              "loss of any one of them would harm it materially. Our sites are subject to federal, state and local rules "
              "on safety, emissions and waste. Spending on compliance has not been material to our results and we do not "
              "expect it to be in the coming year."),
        ("h2", "Human capital"),
        ("p", "We want people to stay and to grow with us. We measure safety, training hours and turnover each month and "
              "review them with the board of directors twice a year. The table below shows our employees at the end of "
              "the last two fiscal years."),
    ]
    return section


_RISKS: tuple[tuple[str, str], ...] = (
    ("Demand for our products changes with the economy.",
     "When {customers} spend less, our sales fall, and many of our costs do not fall with them. A long downturn could "
     "lead us to close sites, write down assets or borrow more than we plan. We cannot predict when such periods begin "
     "or how long they last, and past recoveries are no guide to future ones."),
    ("The cost of what we buy may rise faster than our prices.",
     "We depend on {materials}. Their prices have moved sharply in the past and can do so again because of weather, "
     "trade rules, energy costs or the failure of a supplier. If we cannot pass higher costs on in time, margins will "
     "suffer, as they have in some of the periods discussed in this report."),
    ("We face strong competition.",
     "We compete with {rivals}. Competitors may cut prices, bring better products to market or combine with each other. "
     "Keeping our position takes steady spending on products, service and people, and that spending may not pay off."),
    ("Acquisitions may not bring what we expect.",
     "We have bought businesses and expect to buy more. Integration takes the time of management, may cost more than "
     "planned, and may reveal liabilities we did not know of. Goodwill and intangible assets are a meaningful part of "
     "our balance sheet, and a decline in expected results could force us to write them down."),
    ("Our debt limits what we can do.",
     "We must meet interest and repayments whatever our results are. Our agreements limit additional borrowing and "
     "require us to keep certain ratios. A breach that is not waived could make the debt due at once. Higher interest "
     "rates would raise the cost of the part of our debt that bears a floating rate."),
    ("A failure of our information systems could interrupt the business.",
     "We depend on systems of our own and of others to take orders, plan work, pay suppliers and close our books. They "
     "have been attacked before and will be attacked again. An attack that succeeds could stop operations, expose "
     "information on customers or employees, and lead to claims and fines."),
    ("We depend on skilled people.",
     "Competition for people with the skills we need is strong in and around {city} and at our other sites. If we "
     "cannot hire and keep them, or if wages rise faster than our prices, our results will suffer. Some employees are "
     "represented by unions and their agreements are renewed from time to time."),
    ("Laws and regulations may change in ways that cost us money.",
     "Rules on products, the environment, labor, trade and taxes change often. We may have to change products or "
     "processes, and we may be fined where we fall short. Changes in tax law could raise our effective tax rate or lower "
     "the value of deferred tax assets."),
    ("Product problems could lead to claims and harm our name.",
     "Defects in {products} could injure people or damage property. We insure against some of these risks, within "
     "limits and with deductibles. Even claims without merit take time and money to answer, and a recall could cost us "
     "customers for years."),
    ("Currency movements affect our results.",
     "We buy and sell in several currencies and report in U.S. dollars. A stronger dollar lowers the reported value of "
     "sales made elsewhere and makes what we produce at home more expensive abroad. We hedge a part of this exposure for "
     "up to twelve months."),
    ("Severe weather and other events could close our sites.",
     "Some of our most important sites are in places exposed to storms, floods or fires. Insurance may not cover all "
     "losses, and customers who turn to others during an interruption may not return."),
    ("Our quarterly results vary.",
     "Seasonal demand, the timing of large orders, the number of working days and the cost of promotions move our "
     "results from one quarter to the next. Results of one quarter should not be taken as a sign of a full year, and our "
     "share price may fall if results differ from what analysts expect."),
    ("Our insurance and reserves may prove too small.",
     "We keep reserves for claims, warranties, returns and legal matters. They rest on estimates and on experience that "
     "may not repeat itself. If actual costs are higher, we will have to add to reserves in later periods and net "
     "results will be lower."),
)


def risk_factors(company: Company, year: int) -> Section:
    """Return Item 1A: nine risks, in an order of the company's own."""
    draw = random.Random(f"{SEED}:risks:{company.key}")
    slots = {"customers": company.customers, "materials": company.materials, "rivals": company.rivals, "city": company.city,
             "products": company.products}
    section: Section = [("p", f"The following risks could harm our business, results or financial condition. The list "
                              f"is not "
                              f"complete, and it should be read together with the rest of this report for fiscal {year}.")]
    for heading, text in draw.sample(_RISKS, 9):
        section += [("h2", heading), ("p", text.format(**slots))]
    return section


def properties(company: Company, year: int) -> Section:
    """Return Items 1B to 6 in short."""
    return [
        ("h2", "Item 1B. Unresolved Staff Comments"), ("p", "None."),
        ("h2", "Item 2. Properties"),
        ("p", f"Our principal offices in {company.city}, {company.state} are owned. We operate other sites in North "
              f"America, most "
              "of them under leases that run from three to fifteen years and that we may renew. We believe that our "
              "properties are in good condition and are sufficient for our present needs."),
        ("h2", "Item 3. Legal Proceedings"),
        ("p", "We are party to claims that arise in the ordinary course of business, among them claims on contracts, "
              "products and employment. We do not expect the outcome of any of them to be material to our financial "
              "condition."),
        ("h2", "Item 5. Market for Registrant's Common Equity"),
        ("p", "Our common stock is held by a few thousand holders of record. "
              + ("We have paid a dividend in every quarter of the periods presented and expect to continue. "
                 if company.payout else "We have never paid a dividend and do not expect to pay one in the near future. ")
              + ("The board has approved a program to buy back shares in the open market; it has no date of expiry."
                 if company.buyback else "The board has not approved a program to buy back shares.")),
    ]


def discussion(company: Company, books: dict[int, Amounts], words: dict[str, str], year: int) -> Section:
    """Return Item 7: what changed in the last two years, why, and what it means for cash."""
    c, now, before = company, books[year], books[year - 1]
    section: Section = [
        ("h2", "Overview of results"),
        ("p", f"This discussion explains the results of {c.name} for fiscal {year} compared with fiscal {year - 1}, and "
              f"in less "
              f"detail fiscal {year - 1} compared with fiscal {year - 2}. It should be read with the consolidated financial "
              "statements and their notes. Statements about the future are estimates and may prove wrong."),
    ]
    for later in (year, year - 1):
        section.append(("h2", f"Fiscal {later} compared with fiscal {later - 1}"))
        section += _compare(c, books, words, later)
    section += [
        ("h2", "Liquidity and capital resources"),
        ("p", f"Our operations are our main source of cash. Operating activities provided "
              f"{money(c, now['operating_cash'])} in "
              f"fiscal {year}, compared with {money(c, before['operating_cash'])} in fiscal {year - 1}. The "
              f"{'increase' if now['operating_cash'] > before['operating_cash'] else 'decrease'} reflects earnings before "
              "noncash charges and the timing of payments to suppliers. We spent cash on property and equipment to "
              f"{'add capacity and replace equipment' if now['capex'] < before['capex'] else 'maintain our sites'}, and "
              f"we expect to spend a similar share of {words['revenue'].lower()} on capital projects in the coming year."),
        ("p", f"At the end of fiscal {year} we held cash and equivalents that we consider sufficient, together with "
              f"cash from "
              "operations and an undrawn credit facility, for the needs of the next twelve months. We were in compliance "
              "with all covenants of our debt agreements at that date."),
        ("h2", "Critical accounting estimates"),
        ("p", "The preparation of financial statements asks for estimates. The most important ones concern the value of "
              "goodwill and intangible assets, allowances for receivables"
              + (", reserves for slow-moving inventories" if c.inventory_share else "")
              + ", liabilities for claims, and income taxes. Actual results may differ from these estimates. We test "
                "goodwill "
              "each year in the fourth quarter, and no reporting unit came close to failing the test in the periods "
              "presented."),
        ("p", "We recognize revenue when control of a product or service passes to the customer, in the amount we expect to "
              "receive. Estimates of returns, rebates and discounts reduce revenue and are reviewed each quarter."),
        ("h2", "Market risk"),
        ("p", "A change of one percentage point in interest rates would not have a material effect on our results, "
              "since most of "
              f"our debt bears a fixed rate. Changes in the prices of {c.materials} affect us as described under Risk "
              f"Factors."),
    ]
    return section


def _compare(c: Company, books: dict[int, Amounts], words: dict[str, str], year: int) -> Section:
    """Explain one year against the one before."""
    now, before = books[year], books[year - 1]
    draw = random.Random(f"{SEED}:discussion:{c.key}:{year}")
    change = now["revenue"] / before["revenue"] - 1
    up = change >= 0
    reasons = draw.sample(c.gains if up else c.losses, 2)
    against = draw.choice(c.losses if up else c.gains)
    sales = words["revenue"]
    paragraphs: Section = [
        ("p", f"{sales} {'increased' if up else 'decreased'} {abs(change):.1%} to {money(c, now['revenue'])} in fiscal "
              f"{year}. "
              f"The {'increase' if up else 'decrease'} was driven by {reasons[0]} and {reasons[1]}, partly offset by "
              f"{against}."),
    ]
    best = max(c.segments, key=lambda s: now[f"segment:{s[0]}"] / before.get(f"segment:{s[0]}", 1e12) if
               before.get(f"segment:{s[0]}") else 0)[0]
    worst = min(c.segments, key=lambda s: now[f"segment:{s[0]}"] / before.get(f"segment:{s[0]}", 1e-9) if
                before.get(f"segment:{s[0]}") else 0)[0]
    if f"segment:{best}" in before and best != worst:
        paragraphs.append(("p", f"Among the segments, {best} had the strongest development and {worst} the weakest. "
                                f"Managers of "
                                f"{worst} have begun a program to improve service and to lower fixed costs, whose "
                                f"effects we "
                                "expect to see over the next two years."))
    if "operating_income" in before:
        profit_up = now["operating_income"] >= before["operating_income"]
        cause = draw.choice(c.gains if profit_up else c.losses)
        paragraphs.append(("p", f"{words['operating_income']} was {money(c, now['operating_income'])}, against "
                                f"{money(c, before['operating_income'])} the year before. "
                                f"{'Better' if profit_up else 'Weaker'} results came mainly from {cause}, and from "
                                f"changes in "
                                "compensation tied to results. Interest expense moved with the average amount of debt "
                                "outstanding."))
        margin = now["operating_income"] / now["revenue"] - before["operating_income"] / before["revenue"]
        paragraphs.append(("p", f"As a share of {sales.lower()}, {words['operating_income'].lower()} "
                                f"{'improved' if margin > 0 else 'weakened'} compared with fiscal {year - 1}. We regard "
                                f"this measure as the best single sign of how well we balance price and cost, and it is "
                                f"one of the "
                                "measures on which the bonuses of our managers depend."))
    return paragraphs


_POLICIES = (
    ("Basis of presentation", "The consolidated financial statements include the accounts of {name} and its wholly owned "
     "subsidiaries. Intercompany balances and transactions have been eliminated. The fiscal year ends on {year_end}."),
    ("Use of estimates", "Management makes estimates that affect reported amounts. Actual results could differ from them."),
    ("Cash equivalents", "Highly liquid investments with original maturities of three months or less are cash equivalents."),
    ("Property and depreciation", "Property, plant and equipment is carried at cost. Depreciation is recorded on a "
                                  "straight-line "
     "basis over useful lives of twenty to forty years for buildings and three to fifteen years for equipment."),
    ("Goodwill and intangible assets", "Goodwill is not amortized and is tested for impairment once a year. Intangible "
                                       "assets with "
     "definite lives, mainly customer relationships and technology, are amortized over five to fifteen years."),
    ("Income taxes", "Deferred taxes are recorded for differences between the carrying amounts and the tax bases of "
                     "assets and "
     "liabilities, at the rates expected to apply when the differences reverse."),
    ("Leases", "Right-of-use assets and lease liabilities are recorded at the present value of lease payments. Leases "
               "of twelve "
     "months or less are expensed as incurred."),
)
_NOTE_TEXTS = {
    "segments": "The chief executive officer decides on resources by segment. Transactions between segments are not "
                "material. Corporate expenses that serve the Company as a whole are not allocated.",
    "regions": "Sales are assigned to regions by the location of the customer.",
    "inventories": "Inventories are stated at the lower of cost, determined on a first-in, first-out basis, or net "
                   "realizable value.",
    "property": "The table below shows property, plant and equipment by class at cost, and accumulated depreciation.",
    "debt": "The senior notes bear a fixed rate and are unsecured. The term loan is repaid in quarterly installments "
            "and bears a floating rate. The carrying amounts approximate fair value.",
    "taxes": "The provision for income taxes consists of current taxes, payable for the year, and deferred taxes.",
}


def policies(company: Company) -> Section:
    """Return the first note."""
    return [pair for heading, text in _POLICIES
            for pair in (("h2", heading), ("p", text.format(name=company.name, year_end=company.year_end)))]


def note_text(kind: str) -> str:
    """Return the sentence or two before a note's table."""
    return _NOTE_TEXTS[kind]


def closing(company: Company) -> Section:
    """Return the items after the notes, in short."""
    return [
        ("h2", "Item 9A. Controls and Procedures"),
        ("p", "Management evaluated disclosure controls and internal control over financial reporting and concluded "
              "that they were effective at the end of the fiscal year."),
        ("h2", "Items 10 to 14"),
        ("p", "Information on directors, executive compensation, ownership and accounting fees is incorporated by "
              "reference from the proxy statement for the annual meeting of stockholders."),
        ("h2", "Item 15. Exhibits"),
        ("p", "The consolidated financial statements are listed in the table of contents. Exhibits have been omitted."),
        ("h2", "Signatures"),
        ("p", f"Pursuant to the requirements of the Securities Exchange Act, the registrant has caused this report to "
              f"be signed on "
              f"its behalf in {company.city}, {company.state}. {company.short} is fictitious, and so is this signature."),
    ]
