"""Our own word lists: line items of financial statements, their other names, and the parts of fictitious companies."""

from __future__ import annotations

INCOME = """\
Net sales|Revenue|Revenues|Total revenues|Total net revenue|Net revenues|Product revenue|Service revenue
Subscription revenue|License fees|Cost of sales|Cost of goods sold|Cost of revenue|Cost of products sold
Cost of services|Total cost of revenue|Gross profit|Gross margin|Selling, general and administrative expenses
Research and development|Sales and marketing|General and administrative|Marketing expenses
Depreciation and amortization|Amortization of intangible assets|Restructuring charges|Impairment of goodwill
Impairment of long-lived assets|Total operating expenses|Total costs and expenses|Operating income
Income from operations|Operating profit|Operating loss|Interest expense|Interest income|Interest and other income, net
Other income (expense), net|Other expense, net|Income before income taxes|Earnings before income taxes
Income before provision for income taxes|Provision for income taxes|Income tax expense|Income tax benefit|Net income
Net earnings|Net loss|Net income attributable to common shareholders
Net income attributable to noncontrolling interests|Income from continuing operations
Income from discontinued operations, net of tax|Equity in earnings of affiliates|Gain on sale of business
Loss on extinguishment of debt|Basic earnings per share|Diluted earnings per share|Dividends declared per share
Weighted average shares outstanding, basic|Weighted average shares outstanding, diluted|Fuel expense
Salaries and benefits|Rent expense|Advertising costs|Litigation settlement|Maintenance and repairs
Purchased transportation|Franchise fees|Membership fees|Electric revenues|Natural gas revenues
Provision for credit losses|Stock-based compensation expense"""
BALANCE = """\
Cash and cash equivalents|Short-term investments|Marketable securities|Accounts receivable, net|Trade receivables
Receivables, net|Inventories|Inventories, net|Prepaid expenses|Prepaid expenses and other current assets
Other current assets|Total current assets|Property, plant and equipment, net|Property and equipment, net
Operating lease right-of-use assets|Goodwill|Intangible assets, net|Other intangible assets|Deferred tax assets
Long-term investments|Other assets|Other non-current assets|Total assets|Accounts payable|Accrued liabilities
Accrued expenses|Accrued compensation and benefits|Accrued income taxes|Deferred revenue|Unearned revenue
Contract liabilities|Short-term borrowings|Commercial paper|Current portion of long-term debt
Current maturities of debt|Other current liabilities|Total current liabilities|Long-term debt|Notes payable
Long-term operating lease liabilities|Deferred income taxes|Pension obligations|Asset retirement obligations
Regulatory liabilities|Other liabilities|Other long-term liabilities|Total liabilities|Common stock|Preferred stock
Additional paid-in capital|Retained earnings|Accumulated deficit|Treasury stock, at cost
Accumulated other comprehensive loss|Noncontrolling interests|Total shareholders' equity|Total stockholders' equity
Total equity|Total liabilities and shareholders' equity|Raw materials|Work in process|Finished goods|Land
Buildings and improvements|Machinery and equipment|Construction in progress|Less accumulated depreciation"""
CASH = """\
Net cash provided by operating activities|Net cash used in investing activities|Net cash used in financing activities
Cash flows from operations|Purchases of property, plant and equipment|Additions to property and equipment
Capital expenditures|Payments for acquisition of property, plant and equipment|Acquisitions, net of cash acquired
Proceeds from sale of businesses|Proceeds from sale of property|Purchases of marketable securities
Sales of marketable securities|Maturities of investments|Proceeds from issuance of long-term debt
Repayments of long-term debt|Repayment of borrowings|Payments on finance leases|Dividends paid|Cash dividends paid
Repurchases of common stock|Payments for repurchase of shares|Proceeds from stock options exercised
Share-based compensation|Stock-based compensation|Deferred income taxes|Depreciation|Amortization
Provision for doubtful accounts|Change in accounts receivable|Change in inventories|Change in accounts payable
Changes in operating assets and liabilities|Income taxes paid|Interest paid|Cash paid for interest
Effect of exchange rate changes on cash|Net increase in cash and cash equivalents
Net decrease in cash and cash equivalents|Cash and cash equivalents, beginning of year
Cash and cash equivalents, end of year|Loss on disposal of assets|Other investing activities|Other, net"""
NOTES = """\
Balance at beginning of period|Balance at end of period|Additions|Settlements|Current|Deferred|Federal|State|Foreign
Total|Domestic|International|Service cost|Interest cost|Expected return on plan assets
Amortization of prior service cost|Unrecognized tax benefits|Future minimum lease payments|Number of employees
Number of stores|Order backlog|Comparable sales growth|Operating margin|Effective tax rate|Capacity|Same-store sales
Average revenue per user"""


def _items(block: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in block.replace("\n", "|").split("|") if item.strip())


STATEMENTS: dict[str, tuple[str, ...]] = {
    "income": _items(INCOME),
    "balance": _items(BALANCE),
    "cash": _items(CASH),
    "notes": _items(NOTES),
}
"""Line items by statement."""

HEADINGS = {
    "income": (
        "Consolidated Statements of Income",
        "CONSOLIDATED STATEMENTS OF OPERATIONS",
        "Consolidated Statements of Earnings",
        "Results of Operations",
    ),
    "balance": (
        "Consolidated Balance Sheets",
        "CONSOLIDATED BALANCE SHEETS",
        "Consolidated Statements of Financial Position",
    ),
    "cash": ("Consolidated Statements of Cash Flows", "CONSOLIDATED STATEMENTS OF CASH FLOWS"),
    "notes": (
        "Notes to Consolidated Financial Statements",
        "NOTE 4. SEGMENTS",
        "Note 9. Income Taxes",
        "Selected Financial Data",
        "Item 6. Selected Financial Data",
        "Note 12. Commitments and Contingencies",
    ),
}
SUBHEADS = (
    "ASSETS",
    "Current assets:",
    "LIABILITIES AND EQUITY",
    "Current liabilities:",
    "Operating activities:",
    "Costs and expenses:",
    "Investing activities:",
    "Financing activities:",
    "Operating expenses:",
    "Revenues:",
    "Supplemental disclosure:",
    "Adjustments to reconcile net income:",
    "Shareholders' equity:",
    "Table of Contents",
    "See accompanying notes.",
    "The accompanying notes are an integral part of these statements.",
    "Year ended December 31,",
    "As of December 31,",
    "(continued)",
)

ALSO_CALLED: dict[str, tuple[str, ...]] = {
    "net sales": ("revenue", "total revenue", "turnover", "sales"),
    "revenue": ("net sales", "sales", "top line"),
    "revenues": ("net sales", "sales", "top line"),
    "total revenues": ("revenue", "net sales"),
    "total net revenue": ("revenue", "net sales"),
    "net revenues": ("net sales", "revenue"),
    "cost of sales": ("cost of goods sold", "COGS", "cost of revenue"),
    "cost of goods sold": ("COGS", "cost of sales"),
    "cost of revenue": ("cost of sales", "cost of goods sold", "COGS"),
    "cost of products sold": ("cost of goods sold", "COGS"),
    "selling, general and administrative expenses": ("SG&A", "SG&A expense", "overhead costs"),
    "research and development": ("R&D", "R&D expense", "research spending"),
    "depreciation and amortization": ("D&A", "D&A expense"),
    "operating income": ("operating profit", "EBIT", "income from operations"),
    "income from operations": ("operating income", "operating profit", "EBIT"),
    "operating profit": ("operating income", "EBIT"),
    "income before income taxes": ("pre-tax income", "pretax earnings", "earnings before tax"),
    "earnings before income taxes": ("pre-tax income", "pretax earnings"),
    "income before provision for income taxes": ("pre-tax income", "pretax earnings"),
    "provision for income taxes": ("income tax expense", "taxes on income"),
    "income tax expense": ("provision for income taxes", "taxes on income"),
    "net income": ("net earnings", "net profit", "bottom line", "profit after tax"),
    "net earnings": ("net income", "net profit", "profit after tax"),
    "basic earnings per share": ("basic EPS",),
    "diluted earnings per share": ("diluted EPS",),
    "interest expense": ("interest cost", "cost of borrowing"),
    "cash and cash equivalents": ("cash", "cash on hand", "cash balance"),
    "accounts receivable, net": ("receivables", "trade receivables", "AR"),
    "trade receivables": ("accounts receivable", "receivables"),
    "inventories": ("inventory", "stock on hand"),
    "inventories, net": ("inventory", "inventories"),
    "property, plant and equipment, net": ("net PP&E", "PPNE", "fixed assets", "net PPE"),
    "property and equipment, net": ("net PP&E", "PPNE", "fixed assets"),
    "accounts payable": ("payables", "trade payables", "AP"),
    "long-term debt": ("long-term borrowings", "non-current debt"),
    "total shareholders' equity": ("shareholders' equity", "book value", "total equity"),
    "total stockholders' equity": ("stockholders' equity", "book value", "total equity"),
    "net cash provided by operating activities": ("operating cash flow", "cash from operations", "CFO"),
    "cash flows from operations": ("operating cash flow", "cash from operations"),
    "purchases of property, plant and equipment": (
        "capital expenditure",
        "capex",
        "capital expenditures",
        "capital spending",
    ),
    "additions to property and equipment": ("capital expenditure", "capex", "capital expenditures"),
    "capital expenditures": ("capex", "capital spending", "capital expenditure"),
    "payments for acquisition of property, plant and equipment": ("capital expenditure", "capex", "capital spending"),
    "dividends paid": ("cash dividends", "dividend payments"),
    "cash dividends paid": ("dividends", "dividend payments"),
    "repurchases of common stock": ("share buybacks", "stock repurchases", "buybacks"),
    "payments for repurchase of shares": ("share buybacks", "buybacks"),
    "share-based compensation": ("stock-based compensation", "stock compensation"),
    "stock-based compensation": ("share-based compensation", "stock compensation"),
    "repayments of long-term debt": ("debt repayments", "debt repaid"),
    "proceeds from issuance of long-term debt": ("debt issued", "new borrowings"),
    "total current assets": ("current assets",),
    "total current liabilities": ("current liabilities",),
    "total assets": ("assets in total", "balance sheet total"),
    "number of employees": ("headcount", "employees"),
    "goodwill": ("acquisition goodwill",),
    "retained earnings": ("accumulated profits",),
    "income taxes paid": ("cash taxes", "taxes paid"),
}
"""Other names of a line item, as questions use them; keys in lower case."""

SYLLABLES = """an bel cor dex el fin gra hol in jas kor lum mar nor ox pri qua ros sta tek ul ven wes xen yor zan bri cal dro
eth fal gil har""".split()
ENDINGS = (
    "", "", "", " Corp", " Inc", " Group", " Holdings", " Foods", " Energy", " Technologies", " Industries",
    " Systems", " Brands", " Airlines", " Financial", " Health", " & Co", " Motors", " Stores", " Water",
    " Software", " Corporation", " Materials",
)  # fmt: skip
SEGMENTS = """Americas Europe Asia Pacific Japan China Canada Mexico Brazil Germany Africa Consumer Industrial Aerospace
Cloud Hardware Licensing  Wholesale Retail Services Licensing Automotive Beverage Snacks Pharmacy Devices
Payments Freight Express Ground Packaging Electronics  Studio Streaming Advertising Data Networks Defense
Commercial Government Residential Transmission Distribution Gas Electric Solar""".split()
NAMES = """Summit River Pioneer Harbor Liberty Granite Falcon Evergreen Sterling Beacon Cedar Atlas Orchard Frontier Keystone
Meridian Copper Ridge Northern Southern Western Eastern United American National First General Advanced Best Blue Red
Silver Golden Crown Eagle Lion Star Sun Moon Ocean Lake Forest Mountain Valley Stone Iron Steel Glass Paper Foot Ulta Hill
Field Bridge Gate Tower Castle Bell Wind Fire Cloud Spring Winter Lockheed Mills Locker Brothers Partners Works Lines
Dynamics Micro Devices Express Bank Trust Mutual Health Care Beauty Home Depot Market Square Block Point Path""".split()
BEFORE_LABEL = (
    "Total", "Total", "Other", "Net", "Proceeds from", "Payments of", "Change in", "Increase in", "Gain on", "Loss on",
    "Provision for", "Accrued", "Deferred", "Less:", "Current portion of", "Long-term", "Short-term", "Purchases of",
    "Sales of", "Maturities of", "Repayment of", "Amortization of", "Impairment of", "Adjustments for", "Effect of",
    "Income from", "Cost of", "Average", "Gross", "Unrealized", "Non-cash", "Segment", "Increase (decrease) in",
    "Loss (gain) on", "Payments for",
)  # fmt: skip
AFTER_LABEL = (
    ", net", ", net", ", current", ", non-current", " - basic", " - diluted", " (1)", " (Note 7)", ", net of tax", " (loss)",
    " before income taxes", " attributable to common shareholders", " from continuing operations",
    " from discontinued operations", " of affiliates", " at beginning of year", " at end of year", ", less current portion",
    " and other", " per share", " expense", " payable", " receivable", ", at cost", " and related charges", ", gross",
    " and acquired intangibles", " from operations", " attributable to noncontrolling interests", " of subsidiaries",
    " used in investing activities", " under capital leases", " (in thousands)", " obligations",
)  # fmt: skip
MEASURES = (
    "net sales", "revenue", "operating income", "operating profit", "total assets", "capital expenditures",
    "depreciation", "gross profit", "identifiable assets", "segment profit", "backlog", "cost of sales",
    "restructuring costs", "net revenues", "employees",
)  # fmt: skip
WORDS = """accrued acquired adjusted advances affiliates aggregate allowance assets associated average balance benefit
bonds borrowings buildings capital carrying cash certain charges claims commercial commissions common
compensation components consolidated construction contingent contracts contributions conversion corporate
cost credit currency current customer debt deferred deposits derivative development discontinued discount
dividends domestic earnings effect employee environmental equipment equity estimated excess exchange expense
export facilities fair fees finance foreign fuel funds gain general goods government gross hedges held
impairment improvements income incurred insurance intangible interest inventory investments issued joint
land lease legal liabilities license litigation loans long-term losses maintenance managed market materials
maturities medical merchandise minimum net noncontrolling notes obligations occupancy operating options
orders other overhead paid partners patents payable payments pension performance plan postretirement premium
prepaid proceeds production professional profit programs property provision purchased rate realized
receivable recognized recovery redemption regulatory related rental repurchase research reserve restricted
restructuring retained return revenue royalties salaries sale secured securities segment service settlement
severance shares short-term software store subsidiaries supplies surplus tax technology tenant termination
trade transactions transportation travel treasury trust unbilled undistributed unearned unrealized utilities
value variable vendor venture wages warrants warranty work""".split()
PROSE = (
    "{A} increased mainly because of higher volumes in {S} and better prices.",
    "{A} decreased because of lower demand in {S}, partly offset by cost savings.",
    "The Company expects {a} to grow over the next several years.",
    "Management reviews {a} and {b} for each segment, {S} among them, every quarter.",
    "{A} is recorded when control of the goods passes to the customer.",
    "Of the change in {a}, about {p}% came from {S} and the rest from currency.",
    "We may not be able to raise enough capital to fund {a}.",
    "In fiscal {y}, {a} was affected by the sale of our {S} business.",
    "See Note {n} for details of {a}.",
    "The following table shows {a} and {b} for the years ended December 31.",
    "Competition in {S} is intense, and our results depend on {a}.",
    "{C} sells its products in {S} and in {T}.",
    "These risks could harm our business, results of operations and financial condition.",
    "We lease offices and plants in {S}; leases run to {y}.",
    "The tax rate was {p}% in {y}.",
)
