"""Questions through a chat model: a page is shown, and question, answer and quote are asked for in a fixed form."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass

from ragtune.datasets.admit import Proposal
from ragtune.datasets.facts import Pages
from ragtune.datasets.replies import Replies, Reply
from ragtune.documents.pack import current_pack
from ragtune.errors import ModelError
from ragtune.records import Document, Message, Page
from ragtune.retrieval.rephrase import strip_reply
from ragtune.seams import Generator

SYSTEM = """\
You write questions for testing readers of documents: questions that somebody asks who has not seen the page, and that the \
page answers.
Write {count} questions on the page below. Write each on a line of its own as JSON with these three keys:
{{"question": "...", "answer": "...", "quote": "..."}}
quote: one or two sentences or one row of a table, copied from the page word for word, with the whole answer in it.
answer: short, with the unit of an amount; nothing that does not stand in the quote. After "Yes" or "No" say the fact.
question: one thing asked, in other words than the page's where that is natural. It names who and which year it is about, \
does not contain the answer and does not speak of a page, a table, a text or a document.
Ask about different things, and in different ways: how much, what, why, how, who, when, whether. Nothing but the lines. If \
the page holds nothing worth asking, write NONE."""
TOKENS_EACH = 90
"""What a question with its answer and quote takes of a reply, about; it sets the reply's bound and the estimate."""
_LEAST_WORDS = 40  # or numbers; a page with fewer is a title or a separator
_LEAST_SHOWN = 200  # characters of a page
_MAX_REPLY = 40_000  # characters of a reply that are looked at
_MAX_OBJECTS = 200
_KEYS = {"question": "question", "q": "question", "query": "question", "answer": "answer", "a": "answer",
         "response": "answer", "quote": "quote", "evidence": "quote", "source": "quote", "context": "quote", "span": "quote"}
_STRING = r'"((?:[^"\\]|\\.){0,2000})"'
_FIELD = re.compile(rf'["\'“]?\b(question|answer|quote|evidence)["\'”]?\s*:\s*{_STRING}', re.IGNORECASE)
_PLAIN = re.compile(r"^\W*(question|answer|quote|evidence)\W{0,3}\s*\d*\W{0,3}:\W{0,3}(.+)$", re.IGNORECASE)


def count_reply_tokens(per_page: int) -> int:
    """Return the bound of a reply with so many questions, in tokens."""
    return 2 * TOKENS_EACH * per_page


def parse_proposals(reply: str) -> list[Proposal]:
    """Return the proposals in a model's reply, in order: JSON lines, one JSON value, or broken forms of either.

    What is no question with answer and quote is left out; any text gives a list, never an error.
    """
    bare = strip_reply(reply[:_MAX_REPLY])
    fields = [*_objects(bare)] or [*_grouped(_FIELD.findall(bare), is_escaped=True)]
    if not fields:
        plain = (_PLAIN.match(line) for line in bare.split("\n"))
        fields = [*_grouped([(match[1], match[2]) for match in plain if match], is_escaped=False)]
    found = dict.fromkeys(
        Proposal(values["question"], values["answer"], values["quote"]) for values in fields
        if all(values.get(key) for key in ("question", "answer", "quote")))
    return list(found)


def _objects(text: str) -> Iterator[dict[str, str]]:
    """Yield the fields of each JSON object that holds a question, wherever it stands."""
    decoder = json.JSONDecoder(strict=False)
    place = 0
    for _ in range(_MAX_OBJECTS):
        place = text.find("{", place)
        if place < 0:
            return
        try:
            value, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            place += 1
            continue
        fields = _fields(value)
        if "question" in fields:
            yield fields
            place = end
        else:
            place += 1  # an object around the others


def _fields(value: object) -> dict[str, str]:
    """Return the known fields of an object as text."""
    found: dict[str, str] = {}
    for key, inner in value.items() if isinstance(value, Mapping) else ():
        name = _KEYS.get(str(key).strip().lower())
        if name and isinstance(inner, (str, int, float)) and not isinstance(inner, bool):
            found.setdefault(name, str(inner).strip())
    return found


def _grouped(pairs: Sequence[tuple[str, str]], is_escaped: bool) -> Iterator[dict[str, str]]:
    """Yield fields in groups; each group begins with a question."""
    group: dict[str, str] = {}
    for key, said in pairs:
        name = _KEYS[key.lower()]
        if name == "question" and group:
            yield group
            group = {}
        if is_escaped:
            said = re.sub(r"\\(.)", lambda match: {"n": " ", "t": " "}.get(match[1], match[1]), said)
        group.setdefault(name, said.strip())
    if group:
        yield group


@dataclass(frozen=True)
class Place:
    """A page to be asked about."""

    document: str
    page: int


def plan_pages(pages: Pages, documents: Sequence[Document], seed: int) -> list[Place]:
    """Return the pages with enough text in the order of asking: documents in turn, the pages of each drawn by the seed."""
    drawn = []
    for document in documents:
        numbers = [page.number for page in pages.document(document.name).pages
                   if len(page.text.split()) >= _LEAST_WORDS]
        random.Random(f"{seed}:propose:{document.name}").shuffle(numbers)
        drawn.append([Place(document.name, number) for number in numbers])
    longest = max(map(len, drawn), default=0)
    return [places[turn] for turn in range(longest) for places in drawn if turn < len(places)]


def render_page(document: Document, page: Page, per_page: int, count_tokens: Callable[[Sequence[Message]], int],
                max_tokens: int) -> list[Message]:
    """Return the prompt for a page, its text cut to the budget, at the end of a line where there is one.

    Raises ModelError where hardly any text fits.
    """
    title = current_pack().describe(document.metadata) or document.name.replace("_", " ")
    text = page.text.strip()

    def render(length: int) -> list[Message]:
        # Chat-template tokens inside a page must not take effect.
        shown = re.sub(r"<(?=\|)|\[(?=/?INST\])", lambda match: match[0] + " ", text[:length])
        return [Message(role="system", content=SYSTEM.format(count=per_page)),
                Message(role="user", content=f"Document: {title}\nPage {page.number}:\n{shown}")]

    if count_tokens(render(len(text))) <= max_tokens:
        return render(len(text))
    fits, over = 0, len(text)
    while over - fits > 16:
        middle = (fits + over) // 2
        fits, over = (middle, over) if count_tokens(render(middle)) <= max_tokens else (fits, middle)
    if fits < min(_LEAST_SHOWN, len(text)):
        raise ModelError(f"only {fits} characters of page {page.number} of '{document.name}' fit a prompt of {max_tokens} "
                         "tokens beside the instruction. Do: --set generator.max_prompt_tokens=3000")
    line_end = text.rfind("\n", 0, fits)
    return render(line_end if line_end > fits // 2 else fits)


@dataclass
class Asker:
    """Asks a model about pages; each reply is kept as soon as it is there.

    ``together`` prompts are given to the model at once; ``in_flight`` such requests run side by side, as a provider
    allows. A kill loses what is being written: one page, where both are 1.
    """

    generator: Generator
    pages: Pages
    replies: Replies
    per_page: int
    max_prompt_tokens: int
    max_new_tokens: int
    together: int = 1
    in_flight: int = 1

    @property
    def batch(self) -> int:
        """How many pages are being asked about at a time."""
        return self.together * self.in_flight

    def render(self, place: Place) -> list[Message]:
        """Return the prompt for a page."""
        document = self.pages.document(place.document)
        page = next(page for page in document.pages if page.number == place.page)
        return render_page(document, page, self.per_page, self.generator.count_tokens, self.max_prompt_tokens)

    def ask(self, places: Sequence[Place]) -> list[Reply]:
        """Return the replies to pages in their order; those that are known are not asked for. Raises ModelError."""
        new = [place for place in places if self.replies.get(place.document, place.page) is None]
        # Prompts are rendered here, not in the threads: the pack in force is this thread's.
        prompts = [(place, self.render(place)) for place in new]
        groups = [prompts[start : start + self.together] for start in range(0, len(prompts), self.together)]
        if self.in_flight == 1:
            for group in groups:
                self._ask_group(group)
        else:
            self._ask_side_by_side(groups)
        return [self.replies.done[place.document, place.page] for place in places]

    def _ask_side_by_side(self, groups: Sequence[Sequence[tuple[Place, list[Message]]]]) -> None:
        with ThreadPoolExecutor(self.in_flight) as pool:
            futures = [pool.submit(self._ask_group, group) for group in groups]
            _, waiting = wait(futures, return_when=FIRST_EXCEPTION)
            for future in waiting:
                future.cancel()
        for future in futures:
            if not future.cancelled():
                future.result()

    def _ask_group(self, group: Sequence[tuple[Place, list[Message]]]) -> None:
        started = time.perf_counter()
        texts = self.generator.generate([prompt for _, prompt in group], self.max_new_tokens)
        seconds = round((time.perf_counter() - started) / len(group), 3)
        for (place, prompt), text in zip(group, texts):
            read, written = self.generator.count_tokens(prompt), self._count_text(text)
            self.replies.add(Reply(place.document, place.page, text, read, written, seconds))

    def _count_text(self, text: str) -> int:
        """Return the tokens of a reply, without what frames a message."""
        said, empty = (self.generator.count_tokens([Message(role="user", content=each)]) for each in (text, ""))
        return max(0, said - empty)
