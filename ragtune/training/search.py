"""A search for settings with Optuna: trials in an SQLite file, so that a killed search goes on where it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragtune.errors import MissingPackage, RagtuneError
from ragtune.recipe.schema import Span, Tune
from ragtune.recipe.space import is_whole
from ragtune.records import Record

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial, Trial

FILE = "search.db"
STUDY = "search"
MOST_KILLS = 2
"""A setting whose trial was killed so often (out of memory, most likely) counts as failed and is not redone again."""


@dataclass(frozen=True)
class Measured(Record):
    """What a setting reached on held-out questions. ``value`` is what is raised; ``loss`` that of held-out rows."""

    value: float
    loss: float | None = None
    n: int = 0
    correct: int = 0
    wrong: int = 0
    refused: int = 0
    trainable_parameters: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class TrialRow(Record):
    """One trial. ``state`` is 'finished', 'pruned', 'failed' or 'killed' (redone under another number)."""

    number: int
    state: str
    setting: Mapping[str, Any]
    measured: Measured | None = None
    reason: str = ""
    losses: Mapping[int, float] = field(default_factory=dict)
    """Loss of held-out rows by percent of the steps."""
    is_default: bool = False

    @property
    def value(self) -> float | None:
        """What was reached; None where the trial did not finish."""
        return self.measured.value if self.measured and self.state == "finished" else None


ReportLoss = Callable[[int, float], None]
"""Called with (percent of the steps done, loss of held-out rows); raises optuna.TrialPruned where the trial is given up."""
Measure = Callable[[Mapping[str, Any], ReportLoss], Measured]


def import_optuna() -> Any:
    """Return the package. Raises MissingPackage naming the pip line."""
    try:
        import optuna
    except ImportError:
        raise MissingPackage("searching for settings needs the package optuna, which is not installed. "
                             "Do: pip install 'ragtune[tune]'") from None
    return optuna


def distribution_of(key: str, span: Span) -> BaseDistribution:
    """Return Optuna's form of a field's values."""
    distributions = import_optuna().distributions
    if span.choices:
        return distributions.CategoricalDistribution(span.choices)
    if span.low is None or span.high is None:
        raise ValueError(f"{key} has no ends")  # the schema refuses it
    if is_whole(key):
        return distributions.IntDistribution(int(span.low), int(span.high), log=span.log, step=int(span.step or 1))
    return distributions.FloatDistribution(float(span.low), float(span.high), log=span.log, step=span.step)


class Search:
    """The trials of one search, kept in ``folder/search.db``.

    Trial n is drawn with a seed of its own: what is tried does not depend on how often the search was stopped.
    """

    def __init__(self, folder: Path, tune: Tune, prunes: bool = True) -> None:
        optuna = import_optuna()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._optuna, self._tune = optuna, tune
        self.space = {key: distribution_of(key, span) for key, span in tune.space.items()}
        pruners = optuna.pruners
        pruner = pruners.NopPruner()
        if prunes and tune.pruner == "median":
            pruner = pruners.MedianPruner(n_startup_trials=tune.startup_trials)
        elif prunes and tune.pruner == "hyperband":
            pruner = pruners.HyperbandPruner(min_resource=10, max_resource=100)
        self._storage = optuna.storages.RDBStorage(f"sqlite:///{folder / FILE}")
        self.study = optuna.create_study(storage=self._storage, study_name=STUDY, direction="maximize", pruner=pruner,
                                         load_if_exists=True)
        self._redo()

    def _redo(self) -> None:
        """Mark trials that a kill cut short and put their settings in line again."""
        state = self._optuna.trial.TrialState
        for trial in self.study.get_trials(deepcopy=False, states=(state.RUNNING,)):
            kills = int(trial.user_attrs.get("kills", 0)) + 1
            is_over = kills >= MOST_KILLS or len(trial.params) < len(self.space)
            self.study.set_user_attr(f"reason {trial.number}", f"killed {kills} times" if kills >= MOST_KILLS else "killed")
            self.study.tell(trial.number, state=state.FAIL)
            if not is_over:
                self.study.enqueue_trial(dict(trial.params), user_attrs={"kills": kills})

    def add_default(self, setting: Mapping[str, Any], measured: Measured) -> None:
        """Tell the search what the recipe's own setting reached, where it lies within the space; once."""
        if any(row.is_default for row in self.rows()):
            return
        self.study.add_trial(self._optuna.trial.create_trial(
            params=dict(setting), distributions=self.space, value=measured.value,
            user_attrs={"measured": measured.to_dict(), "is_default": True}))

    def run(self, measure: Measure, trials: int, timeout_s: float | None = None,
            told: Callable[[int], None] | None = None) -> None:
        """Try settings until ``trials`` of them are done, those of earlier starts counted, or the time is over.

        A trial that fails (out of memory, a loss that is no number) is counted and the search goes on; KeyboardInterrupt
        and a full disk end it.
        """
        begun = time.monotonic()
        for done in self._due(trials):
            if timeout_s is not None and time.monotonic() - begun > timeout_s:
                return
            if told:
                told(done)
            number = len(self.study.get_trials(deepcopy=False))
            self.study.sampler = self._optuna.samplers.TPESampler(
                n_startup_trials=self._tune.startup_trials, seed=self._tune.seed * 1_000_003 + number)
            self._try(self.study.ask(self.space), measure)

    def _due(self, trials: int) -> Iterator[int]:
        while (done := sum(row.state != "killed" and not row.is_default for row in self.rows())) < trials:
            yield done

    def _try(self, trial: Trial, measure: Measure) -> None:
        state = self._optuna.trial.TrialState

        def report_loss(percent: int, loss: float) -> None:
            trial.report(-loss, percent)
            if trial.should_prune():
                raise self._optuna.TrialPruned(f"loss {loss:.4f} at {percent}% of the steps")

        try:
            measured = measure(dict(trial.params), report_loss)
        except self._optuna.TrialPruned as stop:
            self.study.set_user_attr(f"reason {trial.number}", str(stop))
            self.study.tell(trial, state=state.PRUNED)
        except (RagtuneError, RuntimeError, MemoryError, ValueError) as error:
            if "disk is full" in str(error):
                raise
            self.study.set_user_attr(f"reason {trial.number}", describe_failure(error))
            self.study.tell(trial, state=state.FAIL)
        else:
            trial.set_user_attr("measured", measured.to_dict())
            self.study.tell(trial, measured.value)

    def rows(self) -> list[TrialRow]:
        """Return all trials in their order, those in work left out."""
        reasons = self.study.user_attrs
        return [row for trial in self.study.get_trials(deepcopy=False)
                if (row := _row_of(trial, str(reasons.get(f"reason {trial.number}", "")))) is not None]

    def close(self) -> None:
        """Let go of the file."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    def importances(self) -> dict[str, float]:
        """Return how much of the difference between trials each field explains, largest first; {} where too few finished.

        PED-ANOVA (arXiv 2304.10255), over finished trials.
        """
        values = {row.value for row in self.rows() if row.value is not None}
        if len(values) < 2 or sum(row.value is not None for row in self.rows()) < 4:
            return {}
        found = self._optuna.importance.get_param_importances(self.study)
        return {key: float(value) for key, value in found.items()}


def describe_failure(error: BaseException) -> str:
    """Return why a trial or method failed, in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, MemoryError) or "out of memory" in text.lower() or "can't allocate memory" in text.lower():
        text = f"out of memory ({text})"
    return text[:300] if isinstance(error, RagtuneError) else f"{type(error).__name__}: {text}"[:300]


def _row_of(trial: FrozenTrial, reason: str) -> TrialRow | None:
    names = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed"}
    state = names.get(trial.state.name)
    if state is None:
        return None
    if state == "failed" and reason == "killed":
        state = "killed"
    measured = trial.user_attrs.get("measured")
    return TrialRow(trial.number, state, dict(trial.params), Measured.from_dict(measured) if measured else None, reason,
                    {percent: -value for percent, value in trial.intermediate_values.items()},
                    bool(trial.user_attrs.get("is_default")))


def choose_best(rows: list[TrialRow]) -> TrialRow | None:
    """Return the finished trial that reached most; of equals the one whose held-out rows lose least, then the first."""
    finished = [row for row in rows if row.value is not None]

    def rank(row: TrialRow) -> tuple[float, float, int]:
        loss = row.measured.loss if row.measured and row.measured.loss is not None else float("inf")
        return -(row.value or 0.0), loss, row.number

    return min(finished, key=rank, default=None)
