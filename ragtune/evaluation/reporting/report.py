"""The report: one Markdown file, one self-contained HTML page, and plain rows for the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ragtune.evaluation.grounding.footing import HEADER as FOOTING_HEADER
from ragtune.evaluation.ladder.counts import MODELS, Rung
from ragtune.evaluation.ladder.graded import Graded
from ragtune.evaluation.ladder.references import HEADER as REFERENCE_HEADER
from ragtune.evaluation.ladder.trail import Asked
from ragtune.evaluation.losses.attribute import STAGES, label_of
from ragtune.evaluation.losses.waterfall import LostAnswer, Waterfall
from ragtune.evaluation.reporting.page import SETTING_NAMES, anchor_of, collect_answers, describe_questions, render_page
from ragtune.evaluation.reporting.plots import (
    draw_ladder,
    draw_learning_curve,
    draw_recall,
    draw_refusal_curve,
    draw_waterfall,
)
from ragtune.evaluation.reporting.summary import EvaluationSummary
from ragtune.evaluation.statistics.compare import p_text
from ragtune.files import installed_packages, read_jsonl
from ragtune.recipe.load import render_recipe
from ragtune.recipe.schema import Recipe
from ragtune.records import Passage

EXAMPLES_EACH = 3
TEMPLATE = "report.html.jinja"
HEADER = ("model", "setting", "n", "correct", "wrong", "refused", "correct %", "interval %")
CALCULATION_HEADER = (
    "model", "setting", "calculations shown", "right by the model", "corrected", "rows misquoted", "verdicts corrected",
    "answers this made correct", "made wrong")


def write_report(
    folder: Path, summary: EvaluationSummary, graded: Sequence[Graded], recipe: Recipe, run: Path | None = None,
    asked: Mapping[str, Asked] | None = None, passages: Mapping[str, Passage] | None = None,
) -> None:
    """Write ``report.md`` and ``report.html`` into an evaluation folder. ``run`` brings the learning curve, ``asked`` the
    questions' evidence, ``passages`` (by chunk id) the texts that prompts were made of.
    """
    metrics = read_metrics(run)
    (folder / "report.md").write_text(render_markdown(summary, graded, recipe), encoding="utf-8")
    page = render_html(summary, graded, recipe, metrics, asked or {}, passages or {})
    (folder / "report.html").write_text(page, encoding="utf-8")


def read_metrics(run: Path | None) -> list[dict[str, Any]]:
    """Return the rows of a run's ``metrics.jsonl`` (step, loss, eval_loss); none where there is no run or no such file."""
    path = run / "metrics.jsonl" if run else None
    rows = [row for _, row in read_jsonl(path)] if path and path.is_file() else []
    return [{key: value for key, value in row.items() if not (isinstance(value, float) and not math.isfinite(value))}
            for row in rows]  # a loss that became NaN is drawn as a gap


def table_rows(summary: EvaluationSummary) -> list[tuple[str, ...]]:
    """Return the ladder as text cells under HEADER."""
    return [_cells(rung) for rung in summary.ladder]


def _cells(rung: Rung) -> tuple[str, ...]:
    low, high = rung.interval
    share = f"{100 * rung.correct / rung.n:.0f}" if rung.n else "–"
    counts = (str(rung.n), str(rung.correct), str(rung.wrong), str(rung.refused))
    return (rung.model, SETTING_NAMES[rung.setting], *counts, share, f"{100 * low:.0f} – {100 * high:.0f}")


def render_table(summary: EvaluationSummary) -> str:
    """Return the ladder as aligned plain text, the paired tests, page recall and notes below it."""
    rows = [HEADER, *table_rows(summary)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = ["  ".join(cell.ljust(width) if column < 2 else cell.rjust(width)
                       for column, (cell, width) in enumerate(zip(row, widths))).rstrip() for row in rows]
    lines += ["", *summary.sentences()] if summary.sentences() else []
    lines += [_recall_line(summary)] if summary.recall else []
    lines += [f"Perplexity of the references, {row[0]} {row[1]}: {row[3]}, {row[4]} bits a character."
              for row in reference_rows(summary)]
    lines += [summary.set_right] if summary.set_right else []
    lines += [waterfall.sentence() for waterfall in summary.waterfalls]
    return "\n".join([*lines, *summary.notes])


def _recall_line(summary: EvaluationSummary) -> str:
    found = ", ".join(f"@{k} {value:.2f}" for k, value in summary.recall.items())
    ranked = "".join(f" {level.capitalize()}s: MRR {means['mrr']:.2f}, MAP {means['map']:.2f}, nDCG {means['ndcg']:.2f}."
                     for level, means in summary.ranking.items())
    return f"Page recall over {summary.recall_n} questions: {found}.{ranked}"


def calculation_rows(summary: EvaluationSummary) -> list[tuple[str, ...]]:
    """Return what the calculator did on each rung as text cells under CALCULATION_HEADER; rungs without any are left out."""
    return [
        (rung.model, SETTING_NAMES[rung.setting], *map(str, rung.calculations.to_dict().values()))
        for rung in summary.ladder if any(rung.calculations.to_dict().values())
    ]


def footing_rows(summary: EvaluationSummary) -> list[tuple[str, ...]]:
    """Return what answers stand on as text cells under FOOTING_HEADER."""
    return [(footing.model, SETTING_NAMES[footing.setting], *footing.cells()) for footing in summary.footing]


def reference_rows(summary: EvaluationSummary) -> list[tuple[str, ...]]:
    """Return the references' perplexity as text cells under REFERENCE_HEADER."""
    rows: list[tuple[str, ...]] = []
    for surprise in summary.references:
        c = surprise.comparison
        tested = (f"{c.difference:+.3f} ({c.interval[0]:+.3f} to {c.interval[1]:+.3f})", p_text(c.p)) if c else ("–", "–")
        rows.append((surprise.model, SETTING_NAMES[surprise.setting], str(surprise.n), f"{surprise.perplexity:,.2f}",
                     f"{surprise.bits_per_character:.3f}", *tested))
    return rows


def tests_heading(summary: EvaluationSummary) -> str:
    """Return what the paired tests answer, as a question."""
    rivals = list(dict.fromkeys(a for a, _, _, _ in summary.against_baselines))
    model = "tuned" if summary.comparisons or any(b == "tuned" for _, b, _, _ in summary.against_baselines) else "base"
    return f"Is {model} better than {' and '.join([*(['base'] if summary.comparisons else []), *rivals])}?"


def kind_rows(summary: EvaluationSummary) -> list[dict[str, Any]]:
    """Return one row a kind of question: its n and, for each rung, how many of how many are correct."""
    kinds = sorted({kind for rung in summary.ladder for kind in rung.by_kind})
    return [
        {"kind": kind, "cells": [dict(rung.by_kind.get(kind, {"n": 0, "correct": 0})) for rung in summary.ladder]}
        for kind in kinds
    ]


def pick_examples(graded: Sequence[Graded], each: int = EXAMPLES_EACH) -> list[dict[str, Any]]:
    """Return a few questions per outcome with every model's answer beside it.

    Taken from the rung and model that say most: retrieval where there is it, tuned before base. Questions on which the
    models differ come first.
    """
    settings, models = {row.setting for row in graded}, {row.model for row in graded}
    setting = next((s for s in ("retrieval", "oracle", "closed_book") if s in settings), None)
    model = "tuned" if "tuned" in models else "base"
    answers: dict[str, dict[str, Graded]] = {}
    for row in graded:
        if row.setting == setting:
            answers.setdefault(row.question_id, {})[row.model] = row
    examples = []
    for outcome in ("correct", "wrong", "refused"):
        found = [rows for rows in answers.values() if model in rows and rows[model].outcome == outcome]
        found.sort(key=lambda rows: len({row.outcome for row in rows.values()}), reverse=True)  # stable: else as asked
        examples += [{"outcome": outcome, "question": rows[model], "rows": [rows[m] for m in MODELS if m in rows]}
                     for rows in found[:each]]
    return examples


def render_markdown(summary: EvaluationSummary, graded: Sequence[Graded], recipe: Recipe) -> str:
    """Return the report as Markdown."""
    lines = [f"# Evaluation of {summary.name}", "", f"{summary.questions} questions, {summary.unanswerable} of them "
             f"unanswerable from the documents. Intervals are Wilson's at {summary.confidence:.0%}.", ""]
    lines += markdown_table(HEADER, table_rows(summary))
    if summary.sentences():
        lines += ["", f"## {tests_heading(summary)}", "", *(f"- {sentence}" for sentence in summary.sentences())]
    lines += _lost_lines(summary)
    if summary.recall:
        lines += ["", "## Is the page found?", "", _recall_line(summary)]
    if footing := footing_rows(summary):
        lines += ["", "## What do answers stand on?", "", *markdown_table(FOOTING_HEADER, footing)]
    if references := reference_rows(summary):
        lines += ["", "## How surprising are the references?", "", *markdown_table(REFERENCE_HEADER, references)]
    if calculated := calculation_rows(summary):
        lines += ["", "## What was set right?", "", *markdown_table(CALCULATION_HEADER, calculated)]
    kinds = kind_rows(summary)
    if kinds:
        head = ("kind", *(f"{r.model} {SETTING_NAMES[r.setting]}" for r in summary.ladder))
        lines += ["", "## By kind of question", "", *markdown_table(head, [
            (row["kind"], *(f"{cell['correct']}/{cell['n']}" for cell in row["cells"])) for row in kinds])]
    if summary.notes:
        lines += ["", "## Notes", "", *(f"- {note}" for note in summary.notes)]
    lines += ["", "## Examples", ""]
    for example in pick_examples(graded):
        asked = example["question"]
        lines += [f"### {example['outcome']}: {inline(asked.question)}", ""]
        lines.append(f"- reference: {inline(asked.gold) or 'none (unanswerable)'}")
        for row in example["rows"]:
            pages = ", ".join(f"{c.document} page {c.page}" for c in row.citations)
            lines.append(f"- {row.model}: {inline(row.answer) or '(empty)'}{f' ({pages})' if pages else ''}: "
                         f"{row.outcome}, {inline(row.reason)}")
        lines.append("")
    packages = ", ".join(f"{name} {version}" for name, version in installed_packages().items())
    lines += ["## Recipe", "", "```yaml", render_recipe(recipe).rstrip(), "```", "", f"Versions: {packages}"]
    return "\n".join(lines) + "\n"


def _lost_lines(summary: EvaluationSummary) -> list[str]:
    """Return where answers were lost, in Markdown; nothing where retrieval was not measured."""
    if not summary.waterfalls:
        return []
    head = ("stage", *(waterfall.model for waterfall in summary.waterfalls))
    cells = [(row["label"], *map(str, row["counts"])) for row in stage_rows(summary.waterfalls)]
    lines = ["", "## Where are answers lost?", ""]
    lines += [f"- {waterfall.sentence()}" for waterfall in summary.waterfalls]
    lines += ["", *markdown_table(head, cells)] if cells else []
    for waterfall in summary.waterfalls:
        for lost in waterfall.lost:
            told = "; ".join(f"{answer.question_id} ({answer.why})" for answer in lost.examples)
            lines += ["", f"{waterfall.model}, {label_of(lost.stage, waterfall.k)}: {inline(told)}"]
    return lines


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table's lines, every cell made harmless."""
    return [f"| {' | '.join(map(inline, head))} |", f"|{' --- |' * len(head)}",
            *(f"| {' | '.join(map(inline, row))} |" for row in rows)]


def inline(text: str) -> str:
    """Return the text on one line, with what would open a cell, a tag or a code span made harmless."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("`", "'")


def render_html(
    summary: EvaluationSummary, graded: Sequence[Graded], recipe: Recipe, metrics: Sequence[Mapping[str, Any]] = (),
    asked: Mapping[str, Asked] | None = None, passages: Mapping[str, Passage] | None = None,
) -> str:
    """Return the report as one HTML page that needs no other file and no network."""
    from markupsafe import Markup

    recall = draw_recall(summary.recall, summary.recall_every_page, summary.recall_n) if summary.recall else ""
    models = list(dict.fromkeys(row.model for row in graded))
    answers = collect_answers(graded)
    k = recipe.retrieval.k
    return render_page(
        TEMPLATE,
        summary=summary,
        header=HEADER,
        rows=table_rows(summary),
        headline=_headline(summary),
        tests_heading=tests_heading(summary),
        kinds=kind_rows(summary),
        footing_header=FOOTING_HEADER,
        footing=footing_rows(summary),
        refusal_svgs=[(footing.model, Markup(draw_refusal_curve(footing.curve))) for footing in summary.footing
                      if footing.setting == "retrieval" and len(footing.curve.points) > 1],
        reference_header=REFERENCE_HEADER,
        references=reference_rows(summary),
        calculation_header=CALCULATION_HEADER,
        calculations=calculation_rows(summary),
        waterfalls=_drawn_waterfalls(summary, list(answers), asked or {}),
        stages=stage_rows(summary.waterfalls),
        ladder_svg=Markup(draw_ladder(summary.ladder)),
        recall_svg=Markup(recall),
        curve_svg=Markup(draw_learning_curve(metrics)),
        recall_line=_recall_line(summary) if summary.recall else "",
        recipe=render_recipe(recipe),
        packages=installed_packages(),
        seconds_per_answer={model: _mean([row.seconds for row in graded if row.model == model]) for model in models},
        **describe_questions(answers, models, asked or {}, passages or {}, k),
    )


def _drawn_waterfalls(
    summary: EvaluationSummary, question_ids: Sequence[str], asked: Mapping[str, Asked]
) -> list[dict[str, Any]]:
    """Return each waterfall as a drawing with its stages' examples, which lead to their questions."""
    from markupsafe import Markup

    anchors = {question_id: anchor_of(number) for number, question_id in enumerate(question_ids, start=1)}

    def told(answer: LostAnswer) -> dict[str, str]:
        entry = asked.get(answer.question_id)
        text = entry.question.text if entry else answer.question_id
        return {"anchor": anchors.get(answer.question_id, ""), "text": text, "why": answer.why}

    return [
        {"model": waterfall.model, "svg": Markup(draw_waterfall(waterfall)), "lost": [
            {"label": label_of(lost.stage, waterfall.k), "examples": [told(answer) for answer in lost.examples]}
            for lost in waterfall.lost]}
        for waterfall in summary.waterfalls
    ]


def stage_rows(waterfalls: Sequence[Waterfall]) -> list[dict[str, Any]]:
    """Return one row a stage that lost an answer: its label, and how many it lost in each waterfall."""
    counts = [{lost.stage: lost.count for lost in waterfall.lost} for waterfall in waterfalls]
    k = waterfalls[0].k if waterfalls else 0
    return [{"label": label_of(stage, k), "counts": [count.get(stage, 0) for count in counts]}
            for stage in STAGES if any(stage in count for count in counts)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _headline(summary: EvaluationSummary) -> str:
    """Return the finding in one sentence: the test on retrieval where there is one, else the best rung's share."""
    for setting in ("retrieval", "oracle", "closed_book"):
        for (place, _), sentence in zip(summary.comparisons, summary.sentences()):
            if place == setting:
                return sentence
    best = max(summary.ladder, key=lambda rung: rung.correct / max(rung.n, 1), default=None)
    if best is None:
        return "No question was asked."
    where = SETTING_NAMES[best.setting]
    return f"{best.model.capitalize()} answers {best.correct} of {best.n} questions correctly at best ({where})."
