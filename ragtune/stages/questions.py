"""The questions stage: an index goes in, a question file comes out, asked offline from tables or through a chat model."""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ragtune.datasets.admit import Admission, Rejected, check_proposal
from ragtune.datasets.ask import ask_questions, documents_kept
from ragtune.datasets.propose import SYSTEM, TOKENS_EACH, Asker, Place, count_reply_tokens, parse_proposals, plan_pages
from ragtune.datasets.questions import read_asked, save_questions
from ragtune.datasets.replies import Replies, Reply, open_replies
from ragtune.documents.pack import in_recipe_pack
from ragtune.errors import QuestionError, RunError
from ragtune.files import hash_text, write_jsonl
from ragtune.models.language import open_generator
from ragtune.models.remote import is_remote
from ragtune.recipe.places import index_folder
from ragtune.recipe.schema import Generator as Section
from ragtune.recipe.schema import Recipe
from ragtune.records import Question, Record
from ragtune.retrieval.index import Index, open_index
from ragtune.seams import Generator, Report, progress_of

PER_PAGE = 4
"""Most questions a chat model is asked for on a page, where no other number is given."""
_YIELD = 0.6  # share of what is asked for that is let in, until it is measured
_SAMPLE = 16  # pages whose prompts are counted for the estimate
_PATIENCE = 40  # pages without any question let in after which a model is given up
_SPARE = 1.03  # asked offline beyond what is wanted, for the near-duplicates
_HAS_MORE = 0.97  # of what is wanted, from which on the asker is taken to have more; it rounds by document and kind
_ROUNDS = 3
_BATCH = 5000
_SIDE_BY_SIDE = 8  # most requests a provider is sent at a time; generator.batch_size sets fewer


@dataclass(frozen=True)
class Prices(Record):
    """What a provider takes for a million tokens read and written; None where it was not said."""

    per_million_in: float | None = None
    per_million_out: float | None = None

    def cost(self, tokens_in: int, tokens_out: int) -> float | None:
        """Return the price of so many tokens, None where no price is known."""
        if self.per_million_in is None and self.per_million_out is None:
            return None
        return (tokens_in * (self.per_million_in or 0) + tokens_out * (self.per_million_out or 0)) / 1e6


@dataclass(frozen=True)
class Estimate(Record):
    """What is still to be done: pages, tokens, seconds at the rate so far (None before the first page) and the cost."""

    pages: int
    tokens_in: int
    tokens_out: int
    seconds: float | None = None
    cost: float | None = None


Tell = Callable[[Estimate], None]
"""Called with the estimate before the first page, and again when the rate is known."""


@dataclass(frozen=True)
class QuestionsSummary(Record):
    """What was asked: questions by kind, those rejected by reason, and what a chat model read and wrote in all runs."""

    out: str
    questions: int
    wanted: int
    kinds: Mapping[str, int]
    documents: int
    pages: int
    rejected: Mapping[str, int] = field(default_factory=dict)
    rejected_file: str = ""
    model: str = ""
    pages_asked: int = 0
    pages_resumed: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float | None = None
    seconds: float = 0.0


@in_recipe_pack
def run_questions(
    recipe: Recipe, count: int, out: Path, model: str | None = None, not_in: Path | None = None, per_page: int = 0,
    index: Path | None = None, prices: Prices | None = None, report: Report | None = None, tell: Tell | None = None,
) -> QuestionsSummary:
    """Write up to ``count`` questions on the documents that dataset.where keeps to ``out``, whole or not at all.

    Without ``model`` they are asked offline; with one (as generator.model names it) page by page through it, and what it
    said is kept beside ``out``, so that the same call goes on from there. ``per_page`` 0: 4 for a model, the asker's own
    share offline. Questions like those of ``not_in`` are left out; its rows' texts alone are looked at. What was rejected
    stands in ``OUT.rejected.jsonl``.

    Raises QuestionError where nothing can be asked or nothing is let in, ModelError for the model, RunError for ``out``.
    """
    started = time.perf_counter()
    if count < 1:
        raise QuestionError(f"--count is {count}. Ask for at least one question.")
    check_place(out)
    kept_apart = read_asked(not_in) if not_in else []
    opened = open_index(index or index_folder(recipe))
    job = _Job(recipe, opened, count, out, per_page or (PER_PAGE if model else 0), kept_apart, report)
    replies: Sequence[Reply] = ()
    resumed = 0
    if model:
        admission, replies, resumed = job.ask_model(model, prices or Prices(), tell)
    else:
        admission = job.ask_offline()
    rejected_file = _beside(out, "rejected")
    _write(rejected_file, [_tell_rejected(each) for each in admission.rejected])
    questions = admission.admitted[:count]
    if not questions:
        raise _nothing(admission, f"{model or 'the offline asker'}", rejected_file)
    temporary = out.with_name(out.name + ".tmp")
    save_questions(temporary, questions)
    os.replace(temporary, out)
    tokens_in, tokens_out = (sum(getattr(reply, name) for reply in replies) for name in ("tokens_in", "tokens_out"))
    places = {(evidence.document, evidence.page) for question in questions for evidence in question.evidence}
    return QuestionsSummary(
        str(out), len(questions), count, dict(Counter(question.kind for question in questions).most_common()),
        len({question.metadata.get("document") for question in questions}), len(places), admission.reasons,
        str(rejected_file), model or "", len(replies), resumed, tokens_in, tokens_out,
        (prices or Prices()).cost(tokens_in, tokens_out), round(time.perf_counter() - started, 1))


def check_place(out: Path) -> None:
    """Raise RunError where a question file cannot be written."""
    if out.is_dir():
        raise RunError(f"{out} is a folder. Name a file: --out {out / 'questions.jsonl'}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot write to {out.parent}: {error.strerror}. Choose another place with --out.") from error


def _beside(out: Path, what: str) -> Path:
    """Return the name of a file that belongs to a question file: q.jsonl has q.rejected.jsonl."""
    return out.with_name(f"{out.stem}.{what}.jsonl")


def _write(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    temporary = path.with_name(path.name + ".tmp")
    write_jsonl(temporary, rows)
    os.replace(temporary, path)


def _tell_rejected(rejected: Rejected) -> dict[str, object]:
    """Return the row of a rejected question."""
    like = {"like": rejected.like} if rejected.like else {}
    return {"reason": rejected.reason, **like, **rejected.question.to_dict()}


def _nothing(admission: Admission, source: str, file: Path) -> QuestionError:
    reasons = ", ".join(f"{count} {reason}" for reason, count in admission.reasons.items()) or "nothing was asked"
    return QuestionError(f"no question of {source} was let in: {reasons}. Look at {file}; use a larger model (--model), "
                         "or none to ask offline.")


@dataclass
class _Job:
    """One call of the stage."""

    recipe: Recipe
    index: Index
    count: int
    out: Path
    per_page: int
    kept_apart: Sequence[Question]
    report: Report | None

    def admission(self) -> Admission:
        """Return an empty admission."""
        return Admission(lambda texts: self.index.embedder.embed_questions(texts), self.per_page, self.kept_apart)

    def ask_offline(self) -> Admission:
        """Ask a few more than wanted, and more again where too many were turned away and the asker has more."""
        section = self.recipe.dataset
        wanted = math.ceil(self.count * _SPARE) + 5
        for _ in range(_ROUNDS):
            asked = ask_questions(self.index, wanted, section.seed, section.where, progress_of(self.report, "asking"))
            admission = self.admission()
            for start in range(0, len(asked), _BATCH):
                admission.admit(asked[start : start + _BATCH])
                if self.report:
                    self.report("checking questions", min(start + _BATCH, len(asked)), len(asked))
            if len(admission.admitted) >= self.count or len(asked) < _HAS_MORE * wanted:
                break
            share = max(0.1, len(admission.admitted) / len(asked))
            wanted = math.ceil(1.1 * self.count / share)
        return admission

    def ask_model(self, model: str, prices: Prices, tell: Tell | None) -> tuple[Admission, list[Reply], int]:
        """Ask the model page by page until there are enough; return also its replies and how many were known before."""
        section = self.recipe.dataset
        documents = documents_kept(self.index, section.where)
        plan = plan_pages(self.index, documents, section.seed)
        if not plan:
            raise QuestionError(f"no page of {len(documents)} document(s) has enough text to ask about. Index others, or "
                                "mend dataset.where.")
        settings = self.recipe.generator.model_copy(
            update={"model": model, "max_new_tokens": count_reply_tokens(self.per_page)})
        asked_with = {"model": model, "prompt": hash_text(SYSTEM), "per_page": self.per_page, "index": self.index.id,
                      "max_prompt_tokens": settings.max_prompt_tokens}
        with open_replies(_beside(self.out, "replies"), asked_with) as replies:
            asker = self._open_asker(settings, replies)
            return self._go(asker, plan, model, prices, tell)

    def _open_asker(self, settings: Section, replies: Replies) -> Asker:
        generator: Generator = open_generator(settings)
        side_by_side = min(settings.batch_size, _SIDE_BY_SIDE) if is_remote(settings.model) else 1
        together = settings.batch_size if _is_on_gpu(generator) else 1
        return Asker(generator, self.index, replies, self.per_page, settings.max_prompt_tokens, settings.max_new_tokens,
                     together, side_by_side)

    def _go(
        self, asker: Asker, plan: Sequence[Place], model: str, prices: Prices, tell: Tell | None
    ) -> tuple[Admission, list[Reply], int]:
        admission, used, new = self.admission(), list[Reply](), list[Reply]()
        meter = _Meter(asker, plan, self.count, self.per_page, prices)
        if tell:
            tell(meter.estimate(admission, used, new))
        is_told, resumed = False, 0
        started = time.perf_counter()
        for start in range(0, len(plan), asker.batch):
            places = plan[start : start + asker.batch]
            known = {place for place in places if asker.replies.get(place.document, place.page)}
            replies = asker.ask(places)
            resumed += len(known)
            used += replies
            new += [reply for place, reply in zip(places, replies) if place not in known]
            for reply in replies:
                self._admit(admission, reply, model)
            if tell and not is_told and len(new) >= min(4, asker.batch * 2):
                is_told = True
                tell(meter.estimate(admission, used, new, time.perf_counter() - started))
            if self.report:
                self.report("questions", min(len(admission.admitted), self.count), self.count)
            if len(admission.admitted) >= self.count:
                break
            if len(used) >= _PATIENCE and not admission.admitted:
                break  # the caller says why
        return admission, used, resumed

    def _admit(self, admission: Admission, reply: Reply, model: str) -> None:
        """Check what a reply proposes; a reply without any proposal counts as one rejected question."""
        document = self.index.document(reply.document)
        page = next(page for page in document.pages if page.number == reply.page)
        proposals = parse_proposals(reply.text)[: 2 * self.per_page]
        if not proposals and reply.text.strip(" .\n").upper() != "NONE":
            admission.reject(Rejected("the reply holds no question", Question(
                f"{reply.document}-{reply.page}", reply.text[:500], metadata={"document": reply.document,
                                                                               "page": reply.page})))
        checked = [check_proposal(proposal, document, page, model) for proposal in proposals]
        for each in checked:
            if isinstance(each, Rejected):
                admission.reject(each)
        admission.admit([each for each in checked if isinstance(each, Question)])


@dataclass
class _Meter:
    """Says what is still to be done."""

    asker: Asker
    plan: Sequence[Place]
    count: int
    per_page: int
    prices: Prices

    def __post_init__(self) -> None:
        step = max(1, len(self.plan) // _SAMPLE)
        sample = [self.asker.render(place) for place in self.plan[::step][:_SAMPLE]]
        self.tokens_a_page = sum(map(self.asker.generator.count_tokens, sample)) / len(sample)

    def estimate(
        self, admission: Admission, used: Sequence[Reply], new: Sequence[Reply], seconds: float | None = None
    ) -> Estimate:
        """Return the estimate of what is left; pages with a known reply cost nothing."""
        a_page = len(admission.admitted) / len(used) if used else _YIELD * self.per_page
        ahead = self.plan[len(used):]
        ahead = ahead[: math.ceil(max(0, self.count - len(admission.admitted)) / max(a_page, 0.1))]
        pages = sum(self.asker.replies.get(place.document, place.page) is None for place in ahead)
        written = sum(reply.tokens_out for reply in new) / len(new) if new else TOKENS_EACH * self.per_page
        tokens_in, tokens_out = round(pages * self.tokens_a_page), round(pages * written)
        return Estimate(pages, tokens_in, tokens_out, round(pages * seconds / len(new), 1) if seconds and new else None,
                        self.prices.cost(tokens_in, tokens_out))


def _is_on_gpu(generator: Generator) -> bool:
    """Tell whether a local model runs on a graphics card, where several prompts cost little more than one."""
    device = getattr(getattr(generator, "model", None), "device", None)
    return getattr(device, "type", "cpu") != "cpu"
