"""An in-memory searcher and scripted generators for the tests of evaluation."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ragtune.records import Chunk, Evidence, Hit, Message, Question
from ragtune.seams import Progress

COMPANIES = ("ACME_2021_10K", "BOLT_2021_10K", "COIL_2021_10K", "DUNE_2021_10K")
ITEMS = (("Net sales", 4210), ("Inventories", 873), ("Capital expenditures", 1577))


def chunks() -> list[Chunk]:
    """One chunk a page: page n of a company holds item n; each number names its company."""
    found = []
    for c, company in enumerate(COMPANIES):
        for page, (item, amount) in enumerate(ITEMS, start=1):
            text = f"{company} {item} 2021: {amount + 1000 * c:,}\nIn millions."
            found.append(Chunk(f"{company}-{page}", company, company, text, page, page, 0, len(text)))
    return found


def questions() -> list[Question]:
    """A question an item and company, one without an answer, one whose document is nowhere."""
    found = [
        Question(f"q{c}{page}", f"What were {item} of {company} in 2021?", f"${amount + 1000 * c:,} million",
                 (Evidence(company, page),), "extraction" if page < 3 else "flows")
        for c, company in enumerate(COMPANIES) for page, (item, amount) in enumerate(ITEMS, start=1)
    ]  # fmt: skip
    found.append(Question("q-none", "How many unicorns does ACME_2021_10K own?", "", (), "unanswerable"))
    found.append(Question("q-lost", "What were sales of LOST?", "$5 million", (Evidence("LOST_2021_10K", 3),), "extraction"))
    return found


class MemorySearcher:
    """Ranks chunks by shared words; understands ``document = 'X'`` and ``page = n`` joined by and."""

    def __init__(self, stored: Sequence[Chunk] | None = None) -> None:
        self.stored = list(chunks() if stored is None else stored)
        self.searches: list[str] = []

    def search(self, question: str, k: int, where: str | None = None) -> list[Hit]:
        self.searches.append(question)
        kept = self.stored
        for column, quoted, number in re.findall(r"(\w+) = (?:['\"]([^'\"]*)['\"]|(\d+))", where or ""):
            kept = [chunk for chunk in kept if str(getattr(chunk, column)) == (quoted or number)]
        words = set(re.findall(r"\w+", question.lower()))
        ranked = sorted(kept, key=lambda chunk: (-len(words & set(re.findall(r"\w+", chunk.text.lower()))), chunk.id))
        return [Hit(chunk, 1.0 / rank, rank, "memory") for rank, chunk in enumerate(ranked[:k], start=1)]

    def search_many(self, texts: Sequence[str], k: int, where: str | None = None) -> list[list[Hit]]:
        return [self.search(text, k, where) for text in texts]

    def chunks_on_page(self, document: str, page: int) -> list[Chunk]:
        return [c for c in self.stored if c.document == document and c.page <= page <= c.last_page]


class ReadingGenerator:
    """Reads the number off the passage whose words the question shares most; refuses without passages.

    ``slip`` makes every so-manieth answer wrong (0: none); ``die_after`` raises KeyboardInterrupt at that prompt.
    """

    name = "reading"
    context_tokens = 4096

    def __init__(self, slip: int = 0, die_after: int = 0) -> None:
        self.slip, self.die_after, self.asked = slip, die_after, 0
        self.prompts: list[str] = []

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return sum(len(message["content"].split()) for message in messages)

    def generate(
        self, prompts: Sequence[Sequence[Message]], max_new_tokens: int, progress: Progress | None = None
    ) -> list[str]:
        return [self._one(messages[-1]["content"]) for messages in prompts]

    def _one(self, prompt: str) -> str:
        self.asked += 1
        self.prompts.append(prompt)
        if self.die_after and self.asked > self.die_after:
            raise KeyboardInterrupt
        question = prompt.rpartition("Question: ")[2]
        words = set(re.findall(r"\w+", question.lower()))
        lines = re.findall(r"^\[(\d+)\] .*\n(.*)$", prompt, re.MULTILINE)
        if not lines or "unicorns" in question:
            return "Not found in the documents."
        number, line = max(lines, key=lambda pair: len(words & set(re.findall(r"\w+", pair[1].lower()))))
        amount = line.rpartition(": ")[2]
        is_slip = self.slip and sum(map(ord, question)) % self.slip == 0
        return f"{line} [{number}]\nAnswer: ${amount.replace(',', '')[:2] if is_slip else amount} million [{number}]"
