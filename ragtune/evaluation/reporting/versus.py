"""Several evaluations side by side: the ladder on their common questions, paired tests of every pair, lost answers."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragtune.evaluation.ladder.counts import Rung, build_ladder, compare_models
from ragtune.evaluation.ladder.graded import Graded
from ragtune.evaluation.ladder.trail import Asked
from ragtune.evaluation.losses.waterfall import Waterfall, build_waterfalls
from ragtune.evaluation.reporting.page import SETTING_NAMES, collect_answers, describe_questions, render_page
from ragtune.evaluation.reporting.plots import draw_ladder, draw_waterfall
from ragtune.evaluation.reporting.report import inline, markdown_table, stage_rows
from ragtune.evaluation.reporting.sides import Side, describe_settings, find_common, list_columns, settle
from ragtune.evaluation.reporting.summary import told_comparison, told_waterfall
from ragtune.evaluation.statistics.compare import Comparison, describe_comparison
from ragtune.evaluation.statistics.corrections import correct_comparisons
from ragtune.evaluation.statistics.samples import clusters_of
from ragtune.files import write_json
from ragtune.records import SETTINGS, Setting

TEMPLATE = "versus.html.jinja"
NOT_SHOWN = "No test shows a difference between any two of them."
TESTED = "Paired tests over the common questions, {how}; {many}an answer counts as right or not."


@dataclass(frozen=True)
class Tested:
    """The paired test of two columns on one rung, corrected as one of all in the report."""

    a: str
    b: str
    setting: Setting
    comparison: Comparison

    def sentence(self) -> str:
        """Return the test as one plain sentence."""
        return describe_comparison(self.comparison, self.setting, self.a, self.b)


@dataclass(frozen=True)
class Versus:
    """What a comparison of evaluations found. ``columns`` are (label, folder, model); ``graded`` the common answers, whose
    ``model`` is the column's label; ``common`` counts the questions.
    """

    columns: tuple[tuple[str, str, str], ...]
    common: int
    ladder: tuple[Rung, ...]
    tests: tuple[Tested, ...]
    waterfalls: tuple[Waterfall, ...]
    notes: tuple[str, ...]
    graded: tuple[Graded, ...]
    asked: Mapping[str, Asked]
    confidence: float

    @property
    def labels(self) -> list[str]:
        """The columns' labels, in order."""
        return [label for label, _, _ in self.columns]

    def headline(self) -> str:
        """Return what the tests with retrieval show, else on the best rung there is; one sentence a difference shown."""
        for setting in ("retrieval", "oracle", "closed_book"):
            if own := [test for test in self.tests if test.setting == setting]:
                shown = [test.sentence() for test in own if test.comparison.is_shown]
                return " ".join(shown) if shown else own[0].sentence() if len(own) == 1 else NOT_SHOWN
        return "No rung was measured by two of them."

    def how(self) -> str:
        """Return how was tested, in one sentence."""
        is_by_document = any(test.comparison.clusters > 1 for test in self.tests)
        by = "by whole documents (exact sign flips)" if is_by_document else "McNemar's exact test"
        many = f"p is corrected by Holm's method for {len(self.tests)} tests; " if len(self.tests) > 1 else ""
        return TESTED.format(how=by, many=many)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values: columns, ladder, tests, waterfalls, and the outcomes of each question."""
        answers = collect_answers(self.graded)
        return {
            "columns": [{"label": label, "folder": folder, "model": model} for label, folder, model in self.columns],
            "common": self.common,
            "headline": self.headline(),
            "ladder": [{**rung.to_dict(), "interval": [round(bound, 4) for bound in rung.interval]} for rung in self.ladder],
            "tests": [told_comparison(test.setting, test.comparison, test.a, test.b) for test in self.tests],
            "waterfalls": [told_waterfall(waterfall) for waterfall in self.waterfalls],
            "notes": list(self.notes),
            "confidence": self.confidence,
            "questions": [
                {"id": question_id, "question": _first(rungs).question, "gold": _first(rungs).gold, "outcomes": {
                    setting: {name: row.outcome for name, row in rows.items()} for setting, rows in rungs.items()}}
                for question_id, rungs in answers.items()
            ],
        }  # fmt: skip


def _first(rungs: Mapping[Setting, Mapping[str, Graded]]) -> Graded:
    return next(row for rows in rungs.values() for row in rows.values())


def compare_sides(sides: Sequence[Side], wanted: Sequence[str] = ()) -> Versus:
    """Compare evaluations on the questions that all of them asked, every pair of columns on every rung.

    ``wanted`` names the models to compare, the chief one of each side where none is named. Where the sides know their
    questions' documents the tests go by whole documents. Raises RunError where no question is common.
    """
    common = find_common(sides)
    columns = list_columns(sides, wanted)
    graded, asked = settle(sides, common, wanted)
    labels = [label for label, _, _ in columns]
    confidence = sides[0].recipe.evaluation.confidence
    is_known = len(asked) == len(common.ids)
    clusters = clusters_of(entry.question for entry in asked.values()) if is_known else None
    tests = [(a, b, setting, comparison) for a, b in itertools.combinations(labels, 2)
             for setting, comparison in compare_models(graded, a, b, confidence, clusters)]
    if len(tests) > 1:
        corrected = correct_comparisons([comparison for *_, comparison in tests])
        tests = [(a, b, setting, comparison) for (a, b, setting, _), comparison in zip(tests, corrected)]
    return Versus(
        tuple((label, str(sides[place].folder), model) for label, place, model in columns),
        len(common.ids), build_ladder(graded, confidence, labels), tuple(Tested(*test) for test in tests),
        build_waterfalls(graded, asked, sides[0].recipe.retrieval.k, labels),
        (*common.notes, *_answered_notes(graded, labels, len(common.ids)), *describe_settings(sides)),
        tuple(graded), asked, confidence,
    )  # fmt: skip


def _answered_notes(graded: Sequence[Graded], labels: Sequence[str], common: int) -> list[str]:
    """Return a sentence for each column and rung that lacks some of the common questions."""
    notes = []
    for setting in SETTINGS:
        counts = {label: sum(row.model == label and row.setting == setting for row in graded) for label in labels}
        notes += [f"{label} left out {common - count} of the common questions on the rung {SETTING_NAMES[setting]}: its "
                  "index lacks their documents." for label, count in counts.items() if 0 < count < common]
        if any(counts.values()) and not all(counts.values()):
            lacking = ", ".join(label for label, count in counts.items() if not count)
            notes.append(f"The rung {SETTING_NAMES[setting]} was not measured by {lacking}.")
    return notes


def ladder_rows(versus: Versus) -> list[tuple[str, ...]]:
    """Return one row a rung: its name and, for each column, right answers of n, the share and its interval."""
    rungs = {(rung.setting, rung.model): rung for rung in versus.ladder}

    def cell(setting: Setting, label: str) -> str:
        rung = rungs.get((setting, label))
        if rung is None:
            return "–"
        low, high = rung.interval
        return f"{rung.correct}/{rung.n} = {100 * rung.correct / rung.n:.0f}% ({100 * low:.0f} – {100 * high:.0f})"

    return [(SETTING_NAMES[setting], *(cell(setting, label) for label in versus.labels))
            for setting in SETTINGS if any(place == setting for place, _ in rungs)]


def write_versus(folder: Path, versus: Versus) -> None:
    """Write ``report.html``, ``report.md`` and ``report.json`` into a folder."""
    write_json(folder / "report.json", versus.to_dict())
    (folder / "report.md").write_text(render_versus_markdown(versus), encoding="utf-8")
    (folder / "report.html").write_text(render_versus_html(versus), encoding="utf-8")


def render_versus_markdown(versus: Versus) -> str:
    """Return the comparison as Markdown, with the outcomes of every question on which the columns differ."""
    lines = [f"# {inline(' against '.join(versus.labels))}", "", inline(versus.headline()), ""]
    lines += [f"- {inline(label)}: {inline(model)} of {inline(folder)}" for label, folder, model in versus.columns]
    lines += ["", "## The ladder", "", f"Right answers of the common questions, with {versus.confidence:.0%} intervals.", ""]
    lines += markdown_table(("rung", *versus.labels), ladder_rows(versus))
    lines += ["", "## Paired tests", "", versus.how(), "", *(f"- {inline(test.sentence())}" for test in versus.tests)]
    if versus.waterfalls:
        lines += ["", "## Where are answers lost?", ""]
        lines += markdown_table(("stage", *(waterfall.model for waterfall in versus.waterfalls)), [
            (row["label"], *map(str, row["counts"])) for row in stage_rows(versus.waterfalls)])
    lines += ["", "## Notes", "", *(f"- {inline(note)}" for note in versus.notes)] if versus.notes else []
    lines += ["", "## Questions with different outcomes", ""]
    differing = [(SETTING_NAMES[setting], f"{question_id}: {_first(rungs).question}",
                  *(rows[label].outcome if label in rows else "–" for label in versus.labels))
                 for question_id, rungs in collect_answers(versus.graded).items() for setting, rows in rungs.items()
                 if len({row.outcome for row in rows.values()}) > 1]
    lines += markdown_table(("rung", "question", *versus.labels), differing) if differing else ["None."]
    return "\n".join(lines) + "\n"


def render_versus_html(versus: Versus) -> str:
    """Return the comparison as one HTML page that needs no other file and no network."""
    from markupsafe import Markup

    figures = [{"model": w.model, "svg": Markup(draw_waterfall(w, f"waterfall-{number}"))}
               for number, w in enumerate(versus.waterfalls, start=1)]
    k = versus.waterfalls[0].k if versus.waterfalls else 0
    return render_page(
        TEMPLATE, versus=versus, rows=ladder_rows(versus), ladder_svg=Markup(draw_ladder(versus.ladder)), figures=figures,
        stages=stage_rows(versus.waterfalls),
        **describe_questions(collect_answers(versus.graded), versus.labels, versus.asked, {}, k),
    )  # fmt: skip
