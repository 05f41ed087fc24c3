"""A searcher and pages held in memory, for the tests of the dataset layer."""

from __future__ import annotations

import re
from functools import reduce

from ragtune.documents.statements import Head
from ragtune.records import Chunk, Document, Hit, Message, Page


def count_words(messages: list[Message]) -> int:
    """Count words and punctuation marks, as EchoGenerator does."""
    return sum(len(re.findall(r"\w+|[^\w\s]", message["content"])) for message in messages)


def make_document(name: str, *pages: str, **metadata: str | int) -> Document:
    return Document(f"id-{name}", name, f"{name}.pdf", tuple(Page(n, t) for n, t in enumerate(pages, start=1)), metadata)


class MemoryPages:
    """What facts are found in."""

    def __init__(self, *documents: Document) -> None:
        self.all = {document.name: document for document in documents}

    def documents(self) -> list[Document]:
        return [Document(d.id, d.name, d.path, (), d.metadata) for d in self.all.values()]

    def document(self, name: str) -> Document:
        return self.all[name]


class MemorySearcher:
    """Chunks of ``lines_each`` lines, ranked by shared words; ties keep reading order."""

    def __init__(self, *documents: Document, lines_each: int = 6) -> None:
        self.chunks: list[Chunk] = []
        self.asked: list[str] = []
        for document in documents:
            for page in document.pages:
                lines = page.text.split("\n")
                for start in range(0, len(lines), lines_each):
                    head = reduce(Head.after, lines[:start], Head())
                    text = "\n".join(lines[start : start + lines_each])
                    metadata = {**document.metadata, "columns": "|".join(head.columns), "unit": head.unit or "millions"}
                    self.chunks.append(Chunk(f"{document.name}:{page.number}:{start}", document.id, document.name, text,
                                             page.number, page.number, start, start + len(text), metadata))

    def search(self, question: str, k: int, where: str | None = None) -> list[Hit]:
        self.asked.append(question)
        words = set(re.findall(r"\w+", question.lower()))

        def score(chunk: Chunk) -> int:
            return len(words & set(re.findall(r"\w+", f"{chunk.metadata.get('company', '')} {chunk.text}".lower())))

        ranked = sorted(self.chunks, key=lambda chunk: -score(chunk))[:k]
        return [Hit(chunk, float(score(chunk)), rank, "memory") for rank, chunk in enumerate(ranked, start=1)]

    def chunks_on_page(self, document: str, page: int) -> list[Chunk]:
        return [chunk for chunk in self.chunks if chunk.document == document and chunk.page == page]


STATEMENT = """Acme Corporation
Consolidated Statements of Income
(in millions, except per share amounts)
2021 2020
Net sales $ 4,210 $ 3,900
Cost of sales 2,600 2,450
Gross profit 1,610 1,450
Research and development 210 190
Operating income 700 640
Interest expense (52) (49)
Income before income taxes 648 591
Net income $ 518 $ 470
Net income per share, basic $ 5.18 $ 4.70"""
CASH = """Acme Corporation
Consolidated Statements of Cash Flows
(in millions)
2021 2020
Net income $ 518 $ 470
Depreciation and amortization 120 111
Net cash provided by operating activities 655 602
Purchases of property, plant and equipment (189) (203)
Acquisitions of businesses, net of cash acquired — (70)
Dividends paid (120) (110)
Net change in cash 31 (12)
Cash at beginning of year 300 312
Cash at end of year $ 331 $ 300"""
PROSE = """Item 7. Discussion
Net sales increased 7.9% to $4,210 million in fiscal 2021.
The increase was driven by higher volumes and by prices.
We are a maker of pumps with plants in three states.
Competition is strong in all of our markets, and customers
choose on quality, price and service.
Our people are our strength. We train them well.
Risks include weather, prices of steel and cyber attacks.
We lease most of our sites for three to fifteen years.
None of our patents is material by itself.
We have paid dividends in every quarter.
The board approved a program to buy back shares.
Segments are managed by their own presidents."""
RIVAL = """Zenith Company
Consolidated Statements of Income
(in millions)
2021 2020
Net sales $ 9,876 $ 9,123
Cost of sales 5,555 5,111
Gross profit 4,321 4,012
Operating income 1,234 1,111
Net income $ 999 $ 888
Total assets of segments 7,000 6,500
Income tax expense 222 211
Selling, general and administrative expenses 2,345 2,222
Restructuring charges 12 14"""
ACME = make_document("ACME_2021_10K", PROSE, STATEMENT, CASH, company="Acme", fiscal_year=2021, form="10-K")
ZENITH = make_document("ZENITH_2021_10K", PROSE.replace("4,210", "9,876"), RIVAL, company="Zenith", fiscal_year=2021,
                       form="10-K")
