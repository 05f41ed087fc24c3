"""An assistant opened for serving: one index, one base model with its adapters, many questions at once."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Union

from ragtune.answering.answerer import Answerer, check_question, search_traced
from ragtune.answering.guardrails import Checked, Guardrails
from ragtune.answering.prompt import prompt_hash
from ragtune.documents.pack import in_recipe_pack, use_pack
from ragtune.errors import QuestionError, RecipeError, nearest
from ragtune.models.language import UNTUNABLE, open_generator
from ragtune.models.remote import is_remote
from ragtune.models.streaming import Wish, Written
from ragtune.recipe.places import index_folder
from ragtune.recipe.schema import Recipe
from ragtune.records import Answer, Hit, Passage, Trace
from ragtune.retrieval.index import Index
from ragtune.retrieval.search import IndexSearcher
from ragtune.retrieval.tenancy import OwnSearcher, check_tenant
from ragtune.seams import GREEDY, Sampling
from ragtune.server.batching import Batcher, Ticket
from ragtune.server.embedded import RememberingEmbedder, VectorCache
from ragtune.server.engines import open_streamer
from ragtune.server.runs import find_runs, name_run
from ragtune.server.turns import Turns
from ragtune.server.whole import hold_index, open_whole
from ragtune.training.run import check_run_fits, open_run

logger = logging.getLogger(__name__)
MAX_TENANTS = 128
"""So many tenants' sights of the index are kept ready."""
CLOSED_BOOK = "-closed-book"
"""What a model's id ends with where it answers without retrieval."""


class UnknownModel(QuestionError):
    """A model that is not served."""


@dataclass(frozen=True)
class Served:
    """A model that can be asked: the base (adapter None) or a run's adapter on it, with or without retrieval. ``warning``
    says what one should know of it, empty for nothing."""

    id: str
    adapter: Path | None
    has_retrieval: bool
    created: int
    warning: str = ""


@dataclass(frozen=True)
class Asking:
    """One question to a served model. ``where`` is the asker's filter, ``tenant`` the one their key brings: what does not
    pass it is not there. ``k`` None takes the recipe's; an answer has at most ``max_tokens`` tokens (None: the recipe's).
    ``is_seeded`` says that the sampling's seed was asked for."""

    question: str
    model: str | None = None
    k: int | None = None
    where: str | None = None
    tenant: str | None = None
    max_tokens: int | None = None
    sampling: Sampling = GREEDY
    is_seeded: bool = False


@dataclass(frozen=True)
class Found:
    """The passages that stand in the prompt, before anything is written."""

    passages: tuple[Passage, ...]
    trace: Trace
    seconds: float


@dataclass(frozen=True)
class Piece:
    """A piece of the draft, as the model writes it; what is given out in the end was checked and may differ."""

    text: str


@dataclass(frozen=True)
class Done:
    """The checked answer, how the draft was written, and what each part took in seconds."""

    answer: Answer
    written: Written
    trace: Trace
    timings_s: Mapping[str, float] = field(default_factory=dict)


Event = Union[Found, Piece, Done]


class Watch(Protocol):
    """Hears of all searches and questions, in the thread and context of the one who asks."""

    def searched(self, question: str, hits: int, seconds: float, trace: Trace) -> None:
        """A search was done."""
        ...

    def asked(self, asking: Asking, model: str) -> Callable[[Done | BaseException], None]:
        """A question is asked; what is returned hears how it ends, from another thread."""
        ...


class Service:
    """What the HTTP routes ask. Safe to be used by many threads.

    ``search`` and ``ask`` keep a processor busy: a route calls them by ``await turns.run(service.search, ...)``, so that a
    crowd is told to come again (Busy). ``watchers`` hear of all of them; ``counters`` are counts that other parts keep, for
    the metrics: name -> kind -> count.
    """

    def __init__(self, recipe: Recipe, searcher: IndexSearcher, generator: Any, adapters: Mapping[str, Path],
                 tuned_with: Mapping[str, str] | None = None) -> None:
        """Serve a searcher's index and a generator with the adapters of this name; ``tuned_with`` is name -> the id of the
        index its run was tuned with, as far as it is known."""
        self.recipe = recipe
        self.generator = generator
        self.engine = open_streamer(generator)
        server = recipe.server
        # A provider answers many at once, each in its own time: none waits for the slowest of a batch, nor fails with it.
        batch, writers = (1, server.max_batch) if is_remote(recipe.generator.model) else (server.max_batch, 1)
        self.batcher = Batcher(self.engine, batch, server.max_waiting, server.batch_wait_ms / 1000, writers)
        self.turns = Turns(server.max_searches, server.max_waiting)
        self.watchers: list[Watch] = []
        self.counters: dict[str, Mapping[str, int]] = {}
        if prefixes := getattr(generator, "prefixes", None):
            self.counters["prompt_tokens"] = prefixes.counts
        self._adapters = dict(adapters)
        self._tuned_with = dict(tuned_with or {})
        self._created = int(time.time())
        self._lock = threading.Lock()
        self.vectors = VectorCache()
        self._searcher = self._held(searcher)
        self._tenants: dict[str, IndexSearcher] = {}
        self.guardrails = Guardrails(recipe.guardrails, lambda texts: self.index.embedder.embed_questions(texts))
        self.counters["guardrails"] = self.guardrails.counts

    @property
    def searcher(self) -> IndexSearcher:
        """The searcher of the index as it is now."""
        return self._searcher

    @property
    def index(self) -> Index:
        """The index as it is now."""
        return self._searcher.index

    @property
    def most_tokens(self) -> int:
        """The most tokens an answer may have."""
        return self.recipe.server.max_answer_tokens or self.recipe.generator.max_new_tokens

    def reload_index(self) -> None:
        """Open the index anew, after a job changed it; questions on their way keep the one they began with."""
        searcher = self._held(open_whole(self.index.folder, self.recipe))
        with self._lock:
            self._searcher, self._tenants = searcher, {}

    def searcher_for(self, tenant: str | None) -> IndexSearcher:
        """Return the searcher as a tenant's filter has it: what it does not pass is not there, in hits nor in errors.

        Its ``index`` is the one that routes open, list and cite documents from. None takes the whole. Raises QuestionError
        for a filter that cannot be a tenant's.
        """
        if tenant is None:
            return self._searcher
        with self._lock:
            whole, known = self._searcher, self._tenants
            own = known.pop(tenant, None)
            if own is not None:
                known[tenant] = own  # at the end: the first one is the one unused longest
                return own
        own = OwnSearcher(whole, check_tenant(tenant))
        with self._lock:
            known[tenant] = own
            if len(known) > MAX_TENANTS:
                del known[next(iter(known))]
        return own

    def index_for(self, tenant: str | None) -> Index:
        """Return the index as a tenant's filter has it; None takes the whole."""
        return self.searcher_for(tenant).index

    def _held(self, searcher: IndexSearcher) -> IndexSearcher:
        """Return the searcher with all of its index in hand, its embedder with a memory for questions."""
        hold_index(searcher.index)
        searcher.index.embedder = RememberingEmbedder(searcher.index.embedder, self.vectors)
        return searcher

    def add_adapter(self, name: str, adapter: Path, tuned_with: str = "") -> None:
        """Serve another run's adapter under this name; ``tuned_with`` is the id of the index it was tuned with."""
        with self._lock:
            self._adapters[name], self._tuned_with[name] = adapter, tuned_with

    def models(self) -> list[Served]:
        """Return what can be asked; the first is the default: the tuned model where there is one, with retrieval."""
        with self._lock:
            names: list[tuple[str, Path | None]] = [*self._adapters.items(), ("base", None)]
        return [Served(f"{self.recipe.name}-{name}{end}", adapter, not end, self._created, self._warn_of(name))
                for end in ("", CLOSED_BOOK) for name, adapter in names]

    def _warn_of(self, name: str) -> str:
        """Return what differs between the index that an adapter was tuned with and the one served; empty for nothing."""
        tuned, index = self._tuned_with.get(name, ""), self.index
        if not tuned or tuned == index.id:
            return ""
        if tuned in index.grown_from:
            return "documents were added or removed since it was tuned"
        return "it was tuned with another index"

    def find_model(self, name: str | None) -> Served:
        """Return the model of this id; None and the recipe's name take the default. Raises QuestionError otherwise."""
        models = {model.id: model for model in self.models()}
        if name in (None, "", self.recipe.name):
            return next(iter(models.values()))
        if name not in models:
            raise UnknownModel(f"the model '{name}' is not served. Allowed: {', '.join(models)}."
                               f"{nearest(str(name), models)}")
        return models[str(name)]

    def search(self, question: str, k: int, where: str | None = None, tenant: str | None = None) -> tuple[list[Hit], Trace]:
        """Return hits and how they were found. Raises QuestionError for an empty question or a bad filter."""
        begun = time.perf_counter()
        with use_pack(self.recipe.pack):
            hits, trace = search_traced(self.searcher_for(tenant), check_question(question), k,
                                        where if where and where.strip() else None)
        for watcher in self.watchers:
            watcher.searched(question, len(hits), time.perf_counter() - begun, trace)
        return hits, trace

    def warm(self) -> None:
        """Search once, so that all that search opens when first used is open. Nobody hears of it."""
        with use_pack(self.recipe.pack):
            search_traced(self._searcher, "What is reported?", self.recipe.retrieval.k, None)

    def ask(self, asking: Asking, on_event: Callable[[Event | BaseException], None]) -> Ticket:
        """Search, then have the answer written. Returns when it is queued; ``on_event`` is called from other threads with
        Found, Pieces and at last Done or an error. What a guardrail refuses is Done before this returns, and where answers
        are checked for more than their numbers no Pieces are said. Raises QuestionError, Busy."""
        model = self.find_model(asking.model)
        ends = [watcher.asked(asking, model.id) for watcher in self.watchers]
        self.batcher.check_room()  # before it is searched for

        def tell(end: Done | BaseException) -> None:
            for each in ends:
                try:
                    each(end)
                except Exception:  # whoever asked hears the end all the same
                    logger.exception("what watches questions failed")
            on_event(end)

        begun = time.perf_counter()
        checked = self.guardrails.check_question(check_question(asking.question))
        if checked.refusal:
            return _refuse(checked, on_event, tell, begun)
        question = checked.question
        hits: Sequence[Hit] = ()
        trace = Trace()
        if model.has_retrieval:
            hits, trace = self.search(question, asking.k or self.recipe.retrieval.k, asking.where, asking.tenant)
        found = time.perf_counter()
        answerer = Answerer(self.engine, self.searcher, self.recipe, self.guardrails)  # type: ignore[arg-type]
        (messages, passages), = answerer.fit_prompts([(question, hits)])
        fitted = time.perf_counter()
        on_event(Found(passages, trace, found - begun))

        def finish(end: Written | BaseException) -> None:
            if isinstance(end, BaseException):
                return tell(end)
            written = time.perf_counter()
            try:
                with use_pack(self.recipe.pack):
                    answer = answerer.read(question, end.text, passages)
            except Exception as error:
                return tell(error)
            searched = tuple(f"search: {reason}" for reason in trace.reasons) if trace.is_fallback else ()
            answer = dataclasses.replace(answer, problems=(*checked.problems, *searched, *answer.problems))
            if self.guardrails.holds_drafts:
                end = dataclasses.replace(end, text=answer.text)
            timings = {"search": found - begun, "prompt": fitted - found, "generate": written - fitted,
                       "check": time.perf_counter() - written, "total": time.perf_counter() - begun}
            timings = {name: round(seconds, 5) for name, seconds in timings.items()}
            tell(Done(dataclasses.replace(answer, timings_s=timings), end, trace, timings))

        most = self.most_tokens
        wish = Wish(messages, min(asking.max_tokens or most, most), asking.sampling, model.adapter,
                    asking.is_seeded and asking.sampling.temperature > 0)
        is_held = self.guardrails.holds_drafts
        return self.batcher.submit(Ticket(wish, lambda piece: None if is_held else on_event(Piece(piece)), finish))

    def close(self, drain_s: float | None = None) -> bool:
        """Take no more questions, finish those there are; return whether all were finished in time: server.drain_s, or
        what is left of it."""
        self.turns.close()
        return self.batcher.close(self.recipe.server.drain_s if drain_s is None else drain_s)


def _refuse(
    checked: Checked, on_event: Callable[[Event | BaseException], None], tell: Callable[[Done], None], begun: float
) -> Ticket:
    """Say what a guardrail says instead of an answer, and return a ticket that nothing is written for."""
    ticket = Ticket(Wish((), 1), lambda piece: None, lambda end: None)
    seconds = round(time.perf_counter() - begun, 5)
    answer = dataclasses.replace(checked.answer(), timings_s={"check": seconds, "total": seconds})
    on_event(Found((), Trace(), seconds))
    tell(Done(answer, Written(answer.text, 0, 0, "stop"), Trace(), answer.timings_s))
    return ticket


def check_answer_tokens(recipe: Recipe, context_tokens: int) -> None:
    """Raise RecipeError where the longest answer does not fit beside the longest prompt into what the model reads: who asks
    for no less would get an error, and with them all whose answers are written in the same batch."""
    most, prompt = recipe.server.max_answer_tokens, recipe.generator.max_prompt_tokens
    if most is not None and prompt + most > context_tokens:
        raise RecipeError(f"server.max_answer_tokens {most} + generator.max_prompt_tokens {prompt} is more than the model "
                          f"reads: {context_tokens} tokens. Lower server.max_answer_tokens to at most "
                          f"{context_tokens - prompt}.")


@in_recipe_pack
def open_service(recipe: Recipe, runs: Sequence[Path] = (), allow_mismatch: bool = False) -> Service:
    """Open a recipe's index and model for serving, with the adapters of its runs, or of ``runs``.

    A run that was tuned before documents were added or removed is served, with a warning. Raises IndexFolderError where
    there is no index, RunError for a run that was tuned with another index, prompt or base, RecipeError where answers of
    server.max_answer_tokens do not fit beside the prompt.
    """
    searcher = open_whole(index_folder(recipe), recipe)
    generator = open_generator(recipe.generator)
    adapters: dict[str, Path] = {}
    tuned_with: dict[str, str] = {}
    if not is_remote(recipe.generator.model) and recipe.generator.model not in UNTUNABLE:
        check_answer_tokens(recipe, generator.context_tokens)
        for folder in runs or find_runs(recipe):
            run = open_run(folder)
            warning = check_run_fits(run, searcher.index.id, prompt_hash(recipe.answering.names_rows),
                                     getattr(generator, "fingerprint", ""), allow_mismatch, searcher.index.grown_from)
            if warning:
                logger.warning("%s", warning)
            name = name_run(folder)
            adapters[name], tuned_with[name] = run.adapter, str(run.manifest.get("index_id") or "")
    return Service(recipe, searcher, generator, adapters, tuned_with)
