"""What a search leaves to be read: its history and the fields' importance as drawings, and a report in Markdown."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ragtune.training.search import TrialRow

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {"finished": "#2f5fa7", "pruned": "#d99a3d", "failed": "#c4513a"}
INK, FAINT, BEST = "#1d2733", "#6b7684", "#1a7f5a"
STYLE = {
    "font.size": 9, "text.color": INK, "axes.labelcolor": FAINT, "axes.edgecolor": "#c3c8d0", "xtick.color": FAINT,
    "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e8ebef",
    "axes.axisbelow": True,
}  # fmt: skip
NAMES = {"correct": "share correct", "correct_less_wrong": "share correct less share wrong", "loss": "minus loss"}
SHOWN = 30
"""Trials the report lists, the best first."""


def draw_history(rows: Sequence[TrialRow], default: TrialRow, objective: str) -> bytes:
    """Return a PNG: what each trial reached, the best so far, and the recipe's own setting."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(6, 3), dpi=150, layout="constrained")
        axes = figure.add_subplot()
        finished = [(place, row.value) for place, row in enumerate(rows, start=1) if row.value is not None]
        if finished:
            axes.plot(*zip(*finished), "o", color=COLOURS["finished"], markersize=4, label="trial")
            best, reached = [], float("-inf")
            for place, value in finished:
                reached = max(reached, value)
                best.append((place, reached))
            axes.step(*zip(*best), where="post", color=BEST, label="best so far")
        for state in ("pruned", "failed"):
            places = [place for place, row in enumerate(rows, start=1) if row.state == state]
            if places:
                axes.plot(places, [0.02] * len(places), "x", color=COLOURS[state], markersize=5, label=state,
                          transform=axes.get_xaxis_transform(), clip_on=False)
        if default.value is not None:
            axes.axhline(default.value, color=FAINT, linestyle="--", linewidth=1, label="the recipe's own setting")
        axes.set_xlabel("trial, measured on held-out questions")
        axes.set_ylabel(NAMES[objective])
        axes.locator_params(axis="x", integer=True)
        figure.legend(frameon=False, loc="outside lower center", ncols=3)
        return render_png(figure)


def draw_importances(importances: Mapping[str, float]) -> bytes:
    """Return a PNG: how much of the difference between trials each field explains."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(6, 0.8 + 0.32 * len(importances)), dpi=150, layout="constrained")
        axes = figure.add_subplot()
        axes.barh(list(importances), list(importances.values()), 0.7, color=COLOURS["finished"])
        for place, value in enumerate(importances.values()):
            axes.annotate(f"{100 * value:.0f}%", (value, place), xytext=(4, 0), textcoords="offset points", va="center")
        axes.invert_yaxis()
        axes.set_xlim(0, max(1e-9, 1.15 * max(importances.values())))
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
        axes.set_xlabel("share of the difference between trials (PED-ANOVA)")
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        return render_png(figure)


def render_png(figure: Figure) -> bytes:
    """Return the figure as PNG, the same bytes for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def render_report(summary: Mapping[str, Any], rows: Sequence[TrialRow], default: TrialRow, pictures: Sequence[str]) -> str:
    """Return the report of a search in Markdown. ``summary`` is TuneSummary's dictionary."""
    counts = ", ".join(f"{count} {state}" for state, count in summary["counts"].items())
    lines = [f"# Settings searched for: {summary['name']}", "", summary["sentence"], ""]
    lines += [f"Chosen by {NAMES[summary['objective']]} on {summary['validation_questions']} questions held out from the "
              f"training side ({summary['setting'].replace('_', ' ')}). Trials: {counts or 'none'}. The test questions were "
              "asked at the end alone.", ""]
    if summary["finals"]:
        lines += ["On the test questions, trained on the whole training side:", "", "| setting | n | correct | wrong | "
                  "refused | interval |", "| --- | --: | --: | --: | --: | --- |"]
        for final in summary["finals"]:
            rung, (low, high) = final["rung"], final["rung"]["interval"]
            lines.append(f"| {final['name']} | {rung['n']} | {rung['correct']} | {rung['wrong']} | {rung['refused']} | "
                         f"{100 * low:.0f}–{100 * high:.0f}% |")
        lines.append("")
    lines += [f"![{name.removesuffix('.png')}]({name})" for name in pictures]
    lines += ["", "Trials, the best first:", "", "| trial | " + " | ".join(default.setting) + " | reached | loss | state |",
              "| --- |" + " --: |" * (len(default.setting) + 2) + " --- |"]
    ranked = sorted([default, *rows], key=lambda row: (row.value is None, -(row.value or 0.0), row.number))
    for row in ranked[:SHOWN]:
        cells = [tell_value(row.setting.get(key)) for key in default.setting]
        reached = "" if row.value is None else f"{row.value:.3f}"
        loss = "" if row.measured is None or row.measured.loss is None else f"{row.measured.loss:.3f}"
        state = row.state + (f": {row.reason}" if row.reason else "")
        lines.append(f"| {'own' if row.is_default else row.number} | {' | '.join(cells)} | {reached} | {loss} | "
                     f"{state.replace('|', '/')} |")
    if len(ranked) > SHOWN:
        lines += ["", f"{len(ranked) - SHOWN} more stand in summary.json."]
    lines += ["", *summary["notes"], "",
              "`best.yaml` is the recipe with the best setting: `ragtune train --recipe best.yaml`.", ""]
    return "\n".join(lines)


def tell_value(value: Any) -> str:
    """Return a field's value as it is read: null as 'auto'."""
    return "auto" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
