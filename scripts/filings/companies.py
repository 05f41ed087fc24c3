"""Who the fictitious companies are. Every name, place of business and number is invented."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Company:
    """One registrant: what it does, how it words its statements, and the shares its books are drawn around.

    ``layout`` 'gross' shows cost of sales and gross profit; 'expenses' lists operating expenses by nature.
    Shares are of revenue unless the name says otherwise.
    """

    key: str
    name: str
    short: str
    business: str
    state: str
    city: str
    unit: str
    year_end: str
    fiscal_years: tuple[int, ...]
    revenue: int
    growth: float
    segments: tuple[tuple[str, float], ...]
    products: str
    customers: str
    materials: str
    rivals: str
    gains: tuple[str, ...]
    losses: tuple[str, ...]
    layout: str = "gross"
    cost_share: float = 0.6
    sga_share: float = 0.2
    rnd_share: float = 0.0
    expenses: tuple[tuple[str, float], ...] = ()
    inventory_share: float = 0.12
    receivable_share: float = 0.13
    deferred_share: float = 0.0
    property_share: float = 0.3
    capex_share: float = 0.05
    goodwill_share: float = 0.25
    debt_share: float = 0.35
    payout: float = 0.3
    buyback: float = 0.15
    stock_pay_share: float = 0.01
    has_restructuring: bool = False
    employees: tuple[tuple[str, int], ...] = ()
    regions: tuple[tuple[str, float], ...] = ()
    labels: dict[str, str] = field(default_factory=dict)


COMPANIES: tuple[Company, ...] = (
    Company(
        "NORVANE", "Norvane Industries, Inc.", "Norvane Industries", "industrial filtration and fluid handling equipment",
        "Ohio", "Dayton", "millions", "December 31", (2021, 2022), 3610, 0.055,
        (("Filtration Systems", 0.46), ("Fluid Handling", 0.33), ("Aftermarket Services", 0.21)),
        "filter housings, cartridges, metering pumps and flow valves", "chemical plants, food processors and water "
                                                                       "utilities",
        "stainless steel, polypropylene resin and cast iron", "two large global manufacturers and many regional ones",
        ("higher volumes in Filtration Systems", "price increases announced in the first quarter",
         "strong demand for replacement cartridges"),
        ("lower orders from chemical plants", "an unfavorable product mix", "higher freight and resin costs"),
        cost_share=0.63, sga_share=0.18, rnd_share=0.035, has_restructuring=True,
        employees=(("Manufacturing", 8400), ("Sales and service", 3100), ("Engineering and administration", 1900)),
        regions=(("United States", 0.52), ("Europe", 0.28), ("Rest of world", 0.20)),
        labels={"revenue": "Net sales", "capex": "Purchases of property, plant and equipment", "net_income": "Net income"},
    ),
    Company(
        "QUELLMAR", "Quellmar Foods Corporation", "Quellmar Foods", "packaged foods and frozen meals",
        "Minnesota", "Rochester", "millions", "September 30", (2021,), 6240, 0.03,
        (("Frozen Meals", 0.41), ("Snacks", 0.35), ("Food Service", 0.24)),
        "frozen entrees, vegetables, crackers and sauces", "grocery chains, club stores and restaurant distributors",
        "wheat, vegetable oils, chicken and corrugated packaging", "national brands and the retailers' own labels",
        ("favorable pricing in Snacks", "new frozen breakfast items", "distribution gains at club stores"),
        ("lower food service volumes", "higher ingredient costs", "a product recall in the second quarter"),
        cost_share=0.68, sga_share=0.17, payout=0.45,
        employees=(("Plants and warehouses", 11200), ("Sales and marketing", 2300), ("Administration", 1250)),
        regions=(("United States", 0.83), ("Canada", 0.11), ("Other countries", 0.06)),
        labels={"revenue": "Net sales", "cost": "Cost of products sold", "capex": "Additions to property, plant and "
                                                                                  "equipment",
                "net_income": "Net earnings"},
    ),
    Company(
        "TESSADYNE", "Tessadyne Systems, Inc.", "Tessadyne Systems", "electronic test and measurement instruments",
        "Colorado", "Fort Collins", "thousands", "June 30", (2022,), 742_000, 0.085,
        (("Instruments", 0.58), ("Software and Services", 0.42)),
        "oscilloscopes, signal analyzers and calibration software", "electronics makers, laboratories and universities",
        "semiconductors, precision displays and machined aluminum", "a handful of larger instrument makers",
        ("demand for high-frequency analyzers", "growth in calibration contracts", "a full year of an acquired product "
                                                                                   "line"),
        ("shortages of semiconductors", "delayed laboratory budgets", "a stronger U.S. dollar"),
        cost_share=0.46, sga_share=0.22, rnd_share=0.14, property_share=0.16, capex_share=0.035, payout=0.0,
        employees=(("Research and development", 940), ("Manufacturing", 820), ("Sales, service and administration", 760)),
        regions=(("Americas", 0.44), ("Asia Pacific", 0.34), ("Europe", 0.22)),
        labels={"revenue": "Revenue", "cost": "Cost of revenue", "capex": "Capital expenditures", "net_income": "Net "
                                                                                                                "income"},
    ),
    Company(
        "BRAMHOLT", "Bramholt Stores, Inc.", "Bramholt Stores", "home goods and garden stores",
        "Tennessee", "Knoxville", "millions", "August 31", (2020, 2021), 4875, 0.045,
        (("Home", 0.55), ("Garden", 0.27), ("Online", 0.18)),
        "furniture, kitchenware, textiles, tools and plants", "households in suburban and rural markets",
        "imported furniture, textiles and plants from contract growers", "national home improvement chains and online "
                                                                         "sellers",
        ("comparable store sales growth", "nine new stores", "a larger share of online orders"),
        ("higher clearance markdowns", "import delays in the spring season", "wage increases in stores"),
        cost_share=0.66, sga_share=0.25, inventory_share=0.19, receivable_share=0.02, property_share=0.38,
        debt_share=0.28, goodwill_share=0.08,
        employees=(("Stores", 24500), ("Distribution centers", 3900), ("Support center", 1450)),
        labels={"revenue": "Net revenues", "cost": "Cost of merchandise sold", "inventories": "Merchandise inventories",
                "capex": "Capital expenditures", "net_income": "Net income"},
    ),
    Company(
        "OSTERVALE", "Ostervale Pharmaceuticals, Inc.", "Ostervale Pharmaceuticals", "prescription medicines for rare "
                                                                                     "disorders",
        "New Jersey", "Princeton", "millions", "December 31", (2022,), 1880, 0.10,
        (("Hematology", 0.49), ("Neurology", 0.34), ("Established Products", 0.17)),
        "injectable and oral medicines for blood and nerve disorders", "wholesalers, hospitals and specialty pharmacies",
        "active ingredients from contract manufacturers", "much larger drug companies and makers of generics",
        ("patient growth in Hematology", "the launch of a second neurology medicine", "lower rebates than estimated"),
        ("generic competition for Established Products", "a milestone payment to a partner", "higher trial costs"),
        cost_share=0.24, sga_share=0.31, rnd_share=0.29, payout=0.0, buyback=0.05, property_share=0.15, capex_share=0.03,
        goodwill_share=0.6, debt_share=0.55, stock_pay_share=0.03,
        employees=(("Research and development", 1480), ("Commercial", 1120), ("Manufacturing and administration", 870)),
        regions=(("United States", 0.71), ("International", 0.29)),
        labels={"revenue": "Total revenues", "cost": "Cost of goods sold", "net_income": "Net income",
                "capex": "Purchases of property and equipment"},
    ),
    Company(
        "VELTRASSA", "Veltrassa Software, Inc.", "Veltrassa Software", "workforce planning software sold as a subscription",
        "Washington", "Spokane", "thousands", "July 31", (2021, 2022), 318_000, 0.22,
        (("Subscription", 0.88), ("Professional services", 0.12)),
        "planning, scheduling and payroll modules", "hospitals, retailers and public agencies",
        "leased data center capacity", "large suites and younger single-product vendors",
        ("new subscription customers", "expansion among hospital customers", "higher renewal rates"),
        ("longer sales cycles", "higher hosting costs", "hiring ahead of revenue"),
        cost_share=0.31, sga_share=0.49, rnd_share=0.24, inventory_share=0.0, receivable_share=0.24, deferred_share=0.38,
        property_share=0.09, capex_share=0.03, goodwill_share=0.35, debt_share=0.5, payout=0.0, buyback=0.0,
        stock_pay_share=0.12,
        employees=(("Research and development", 690), ("Sales and marketing", 610), ("Customer success and "
                                                                                     "administration", 480)),
        labels={"revenue": "Total revenue", "cost": "Total cost of revenue", "capex": "Purchases of property and equipment",
                "net_income": "Net loss"},
    ),
    Company(
        "KESTROVIA", "Kestrovia Airways Group, Inc.", "Kestrovia Airways", "scheduled passenger flights in the Mountain "
                                                                           "West",
        "Utah", "Ogden", "millions", "December 31", (2019,), 2510, 0.06,
        (("Passenger", 0.91), ("Cargo and other", 0.09)),
        "scheduled passenger service to 74 airports", "leisure and business travelers",
        "jet fuel, aircraft and spare parts", "the large network carriers and low-fare airlines",
        ("more available seat miles", "higher average fares", "loyalty program revenue"),
        ("winter weather cancellations", "higher fuel prices", "a new labor agreement with pilots"),
        layout="expenses", inventory_share=0.02, receivable_share=0.04, deferred_share=0.14, property_share=1.1,
        capex_share=0.15, goodwill_share=0.04, debt_share=0.6, payout=0.15,
        expenses=(("Salaries, wages and benefits", 0.31), ("Aircraft fuel", 0.22), ("Maintenance materials and repairs",
        0.09),
                  ("Landing fees and other rentals", 0.07), ("Other operating expenses", 0.12)),
        employees=(("Flight operations", 4300), ("Airport and maintenance", 3650), ("Administration", 980)),
        labels={"revenue": "Total operating revenues", "capex": "Purchases of property and equipment",
                "inventories": "Spare parts and supplies", "deferred_revenue": "Air traffic liability"},
    ),
    Company(
        "DUNMORROW", "Dunmorrow Energy Services Company", "Dunmorrow Energy", "well completion and production services",
        "Oklahoma", "Tulsa", "millions", "December 31", (2020,), 1930, -0.09,
        (("Completion Services", 0.57), ("Production Chemicals", 0.25), ("Rental Tools", 0.18)),
        "pumping, coiled tubing, production chemicals and rental tools", "producers of oil and natural gas",
        "sand, chemicals and diesel fuel", "large service companies and local contractors",
        ("longer contracts with two producers", "growth in chemical volumes", "better use of equipment"),
        ("fewer active drilling rigs", "lower prices for completion services", "idle equipment"),
        layout="expenses", inventory_share=0.08, receivable_share=0.19, property_share=0.65, capex_share=0.08,
        goodwill_share=0.15, debt_share=0.5, payout=0.0, buyback=0.0, has_restructuring=True,
        expenses=(("Cost of services", 0.71), ("Cost of product sales", 0.13), ("General and administrative", 0.09)),
        employees=(("Field operations", 5100), ("Manufacturing and laboratories", 620), ("Administration", 540)),
        regions=(("Permian Basin", 0.48), ("Mid-Continent", 0.33), ("Other basins", 0.19)),
        labels={"revenue": "Revenues", "capex": "Additions to property, plant and equipment", "net_income": "Net loss"},
    ),
    Company(
        "ZEPHRINE", "Zephrine Beverages, Inc.", "Zephrine Beverages", "sparkling water, juices and ready-to-drink tea",
        "Georgia", "Savannah", "millions", "December 31", (2022,), 2890, 0.07,
        (("Sparkling Water", 0.44), ("Juices", 0.31), ("Tea and Other", 0.25)),
        "sparkling water, juice blends and ready-to-drink tea", "distributors, supermarkets and convenience stores",
        "aluminum cans, fruit concentrate, sugar and tea", "two very large beverage companies and regional bottlers",
        ("price and pack changes in Sparkling Water", "new flavors of tea", "wider distribution in convenience stores"),
        ("lower juice volumes", "higher can costs", "a warehouse closure"),
        cost_share=0.55, sga_share=0.27, payout=0.4, buyback=0.25,
        employees=(("Bottling and logistics", 4900), ("Sales and marketing", 1750), ("Administration", 610)),
        regions=(("United States", 0.78), ("Mexico", 0.14), ("Other countries", 0.08)),
        labels={"revenue": "Net revenues", "cost": "Cost of sales", "capex": "Capital spending",
                "net_income": "Net income"},
    ),
    Company(
        "ORRINWICK", "Orrinwick Logistics Holdings, Inc.", "Orrinwick Logistics", "truckload freight and warehousing",
        "Indiana", "Fort Wayne", "thousands", "December 31", (2021,), 1_214_000, 0.09,
        (("Truckload", 0.62), ("Warehousing", 0.23), ("Brokerage", 0.15)),
        "truckload transport, warehousing and freight brokerage", "manufacturers, retailers and food companies",
        "tractors, trailers and diesel fuel", "thousands of carriers, most of them small",
        ("higher rates per mile", "a new warehouse in Columbus", "fuel surcharge revenue"),
        ("a shortage of drivers", "higher insurance claims", "purchased transportation costs"),
        layout="expenses", inventory_share=0.0, receivable_share=0.12, property_share=0.6, capex_share=0.11,
        goodwill_share=0.12, debt_share=0.4, payout=0.1,
        expenses=(("Salaries, wages and benefits", 0.36), ("Purchased transportation", 0.2), ("Fuel", 0.12),
                  ("Insurance and claims", 0.05), ("Other operating expenses", 0.09)),
        employees=(("Drivers", 5700), ("Warehouse staff", 1450), ("Administration", 830)),
        labels={"revenue": "Operating revenues", "capex": "Purchases of property and equipment", "net_income": "Net income"},
    ),
    Company(
        "SORRELITH", "Sorrelith Medical Corporation", "Sorrelith Medical", "infusion pumps and surgical instruments",
        "Massachusetts", "Worcester", "thousands", "March 31", (2021, 2022), 905_000, 0.075,
        (("Infusion", 0.53), ("Surgical", 0.47)),
        "infusion pumps, sterile sets and surgical instruments", "hospitals, surgery centers and home care providers",
        "electronic components, medical-grade plastics and titanium", "several diversified device makers",
        ("placements of a new infusion pump", "a recovery of elective procedures", "disposable set volumes"),
        ("deferred elective procedures", "component shortages", "a field correction of one pump model"),
        cost_share=0.44, sga_share=0.29, rnd_share=0.085, property_share=0.22, capex_share=0.04, payout=0.2,
        has_restructuring=True,
        employees=(("Manufacturing", 2650), ("Research and development", 520), ("Sales and administration", 1340)),
        regions=(("United States", 0.64), ("Europe, Middle East and Africa", 0.21), ("Asia and other", 0.15)),
        labels={"revenue": "Net sales", "cost": "Cost of goods sold", "capex": "Expenditures for property, plant and "
                                                                               "equipment",
                "net_income": "Net earnings"},
    ),
    Company(
        "THORNQUAY", "Thornquay Paper & Packaging Company", "Thornquay Paper", "containerboard and corrugated packaging",
        "Wisconsin", "Green Bay", "millions", "December 31", (2020,), 5120, 0.02,
        (("Packaging", 0.69), ("Paper", 0.31)),
        "containerboard, corrugated boxes and printing paper", "food producers, online retailers and printers",
        "wood fiber, recycled fiber, starch and energy", "a few integrated producers and independent box plants",
        ("box demand from online retailers", "higher containerboard prices", "fewer maintenance outages"),
        ("falling demand for printing paper", "higher recycled fiber costs", "a mill outage in the third quarter"),
        cost_share=0.75, sga_share=0.095, property_share=0.62, capex_share=0.07, debt_share=0.45, payout=0.4,
        has_restructuring=True,
        employees=(("Mills", 5200), ("Box plants", 7900), ("Sales and administration", 1650)),
        labels={"revenue": "Net sales", "cost": "Cost of sales", "capex": "Additions to plant and equipment",
                "net_income": "Net income"},
    ),
)
