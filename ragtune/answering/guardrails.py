"""The guardrails of a recipe: what is asked is checked before the search, what is answered after the numbers' check.

Each that stops something says so in its own words, as a refusal, and is counted.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ragtune.answering.injection import REMOVED, find_injection, remove_injection
from ragtune.answering.personal import mask_personal
from ragtune.recipe import schema
from ragtune.records import REFUSAL, Answer, Passage

if TYPE_CHECKING:
    import numpy as np

Embed = Callable[[Sequence[str]], "np.ndarray"]
"""Turns questions into unit vectors, float32, shape (len(texts), dimension)."""
COUNTED = (
    "length_refused", "topic_refused", "personal_question_refused", "personal_question_masked", "personal_passage_masked",
    "personal_answer_refused", "personal_answer_masked", "injection_question_refused", "injection_question_flagged",
    "injection_passage_neutralised", "injection_passage_flagged", "numbers_refused", "support_refused",
)
"""What is counted, in the order of the checks."""


@dataclass(frozen=True)
class Checked:
    """A question as it may be asked: perhaps masked, refused where ``refusal`` holds what to say instead."""

    question: str
    refusal: str = ""
    problems: tuple[str, ...] = ()

    def answer(self) -> Answer:
        """Return the refusal as an answer."""
        return Answer(self.question, self.refusal, is_refusal=True, problems=self.problems)


class Guardrails:
    """One recipe's guardrails; any thread may ask. ``counts`` has how often each stopped or changed something.

    ``on_trip`` is called with its name then. ``embed`` is needed for topics by example alone.
    """

    def __init__(self, section: schema.Guardrails, embed: Embed | None = None,
                 on_trip: Callable[[str], None] | None = None) -> None:
        self.section, self._embed, self._on_trip = section, embed, on_trip
        self.counts: Counter[str] = Counter(dict.fromkeys(COUNTED, 0))

    @property
    def holds_drafts(self) -> bool:
        """Whether a draft may hold what the answer must not, so that none is given out before it was checked."""
        return self.section.personal_data.answer != "none" or self.section.support.citation

    def check_question(self, question: str) -> Checked:
        """Return the question as it may be asked, or with what is said instead."""
        section, problems = self.section, []
        if len(question) > section.length.max_characters:
            self._trip("length_refused")
            return Checked(question[: section.length.max_characters], section.length.refusal, (
                f"guardrail length: {len(question)} characters, {section.length.max_characters} are allowed",))
        masked, kinds = mask_personal(question, section.personal_data.kinds)
        if kinds and section.personal_data.question == "refuse":
            self._trip("personal_question_refused")
            return Checked(masked, section.personal_data.refusal, (f"guardrail personal_data: {', '.join(kinds)}",))
        if kinds and section.personal_data.question == "mask":
            self._trip("personal_question_masked")
            problems.append(f"guardrail personal_data: {', '.join(kinds)} taken out of the question")
            question = masked
        if section.injection.question != "none" and (found := find_injection(question)):
            if section.injection.question == "refuse":
                self._trip("injection_question_refused")
                return Checked(question, section.injection.refusal, (*problems, f"guardrail injection: '{found}'"))
            self._trip("injection_question_flagged")
            problems.append(f"guardrail injection: the question says '{found}'")
        if reason := self._off_topic(question):
            self._trip("topic_refused")
            return Checked(question, section.topic.refusal, (*problems, f"guardrail topic: {reason}"))
        return Checked(question, problems=tuple(problems))

    def clean_passages(self, passages: Sequence[Passage]) -> tuple[Passage, ...]:
        """Return the passages as they may be read, shown and cited."""
        return tuple(self._clean_passage(passage) for passage in passages)

    @property
    def masks_passages(self) -> bool:
        """Whether personal data in documents is masked wherever they are shown."""
        return self.section.personal_data.passages == "mask"

    def mask_shown(self, text: str) -> str:
        """Return a text of a document as people may read it: what addresses a model does them no harm and stays."""
        return mask_personal(text, self.section.personal_data.kinds)[0] if self.masks_passages else text

    def clean_text(self, text: str) -> str:
        """Return a text of a document as it may be read and shown."""
        if self.masks_passages:
            text, kinds = mask_personal(text, self.section.personal_data.kinds)
            if kinds:
                self._trip("personal_passage_masked")
        if self.section.injection.passages == "neutralise":
            text, count = remove_injection(text)
            if count:
                self._trip("injection_passage_neutralised")
        return text

    def check_answer(self, answer: Answer) -> Answer:
        """Return the answer as it may be given, with a problem for what was found in it or in its passages."""
        section = self.section
        problems = [*answer.problems, *self._passage_problems(answer.passages)]
        if answer.is_refusal:
            text = section.support.refusal if answer.text == REFUSAL else answer.text
            return dataclasses.replace(answer, text=text, problems=tuple(problems))
        if section.personal_data.answer != "none":
            text, kinds = mask_personal(answer.text, section.personal_data.kinds)
            reasoning, more = mask_personal(answer.reasoning, section.personal_data.kinds)
            if kinds or more:
                said = f"guardrail personal_data: {', '.join(dict.fromkeys((*kinds, *more)))} in the answer"
                if section.personal_data.answer == "refuse":
                    return self._refused(answer, "personal_answer_refused", section.personal_data.refusal, (*problems, said))
                self._trip("personal_answer_masked")
                problems.append(said)
                cited = tuple(dataclasses.replace(one, quote=mask_personal(one.quote, section.personal_data.kinds)[0])
                              for one in answer.citations)
                answer = dataclasses.replace(answer, text=text, reasoning=reasoning, citations=cited, completion="")
        if section.support.citation and not answer.citations:
            return self._refused(answer, "support_refused", section.support.refusal,
                                 (*problems, "guardrail support: the answer cites no passage"))
        return dataclasses.replace(answer, problems=tuple(problems))

    def count_numbers(self) -> None:
        """Count an answer that answering.guard refused, its figures standing in no passage it cites."""
        self._trip("numbers_refused")

    def _refused(self, answer: Answer, name: str, refusal: str, problems: Sequence[str]) -> Answer:
        self._trip(name)
        return dataclasses.replace(answer, text=refusal, citations=(), is_refusal=True, reasoning="", completion="",
                                   problems=tuple(problems))

    def _clean_passage(self, passage: Passage) -> Passage:
        text, title = self.clean_text(passage.text), self.clean_text(passage.title)
        if (text, title) == (passage.text, passage.title):
            return passage
        return dataclasses.replace(passage, text=text, title=title)

    def _passage_problems(self, passages: Sequence[Passage]) -> list[str]:
        """Return a sentence for each passage that addresses the model, or did."""
        mode, problems = self.section.injection.passages, []
        for passage in passages:
            text = f"{passage.title}\n{passage.text}"
            if mode == "neutralise" and REMOVED in text:
                problems.append(f"guardrail injection: a text to the model was taken out of passage [{passage.number}]")
            elif mode == "flag" and (found := find_injection(text)):
                self._trip("injection_passage_flagged")
                problems.append(f"guardrail injection: passage [{passage.number}] says '{found}'")
        return problems

    def _off_topic(self, question: str) -> str:
        """Return why a question is none for this assistant, '' where it is one."""
        topic = self.section.topic
        if word := next((word for word in topic.denied_words if _holds(question, word)), None):
            return f"it names '{word}'"
        if any(_holds(question, word) for word in topic.allowed_words) or not (topic.allowed or topic.denied):
            return ""
        allowed, denied = self._likeness(question)
        if denied >= topic.denied_similarity and denied > allowed:
            return f"it is like what is not answered ({denied:.2f})"
        if topic.allowed and allowed < topic.min_similarity:
            return f"it is like none of what is answered ({allowed:.2f}, wanted {topic.min_similarity:g})"
        return ""

    def _likeness(self, question: str) -> tuple[float, float]:
        """Return the largest cosine to an allowed and to a denied example, -1 without."""
        assert self._embed is not None, "topics by example need an embedder"
        vector = self._embed([question])[0]
        allowed, denied = self._examples
        return tuple(float((part @ vector).max()) if len(part) else -1.0 for part in (allowed, denied))  # type: ignore[return-value]

    @cached_property
    def _examples(self) -> tuple[np.ndarray, np.ndarray]:
        """The vectors of allowed and of denied examples, embedded once."""
        assert self._embed is not None
        topic = self.section.topic
        vectors = self._embed([*topic.allowed, *topic.denied])
        return vectors[: len(topic.allowed)], vectors[len(topic.allowed) :]

    def _trip(self, name: str) -> None:
        self.counts[name] += 1
        if self._on_trip is not None:
            self._on_trip(name)


def _holds(question: str, word: str) -> bool:
    """Tell whether a question holds a word or phrase, whatever the case and the spaces between its words."""
    phrase = r"\s+".join(re.escape(part) for part in word.split())
    return bool(phrase) and re.search(rf"(?<!\w){phrase}(?!\w)", question, re.IGNORECASE) is not None
