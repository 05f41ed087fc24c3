"""A comparison of methods to be read: the table in Markdown, and share correct beside cost as a drawing."""

from __future__ import annotations

from collections.abc import Sequence

from ragtune.evaluation.statistics.compare import describe_comparison, p_text
from ragtune.stages.standing import BASE, MethodRow, Standing
from ragtune.training.search_report import BEST, COLOURS, FAINT, INK, STYLE, render_png

HEADINGS = ("method", "correct", "interval", "wrong", "refused", "− base, p", "− best, p", "trained", "share", "adapter",
            "memory", "time", "steps")


def tell_bytes(count: float) -> str:
    """Return a number of bytes in its unit."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def tell_share(share: float) -> str:
    """Return a share in per cent, with a digit or two."""
    return f"{100 * share:.0f}%" if share >= 0.1 else f"{100 * share:.2g}%"


def tell_seconds(seconds: float) -> str:
    """Return seconds as a person says them."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def tell_row(row: MethodRow, standing: Standing) -> tuple[str, ...]:
    """Return a row's cells in the order of HEADINGS; a failed one has its reason in the second."""
    if row.state != "finished":
        return (row.method, f"failed: {row.reason}", *[""] * (len(HEADINGS) - 2))
    low, high = row.interval
    marks = ("best" if row.method == standing.best else "", "cheapest" if row.method == standing.cheapest else "")
    name = row.method + (f" ({', '.join(mark for mark in marks if mark)})" if any(marks) else "")
    is_base = row.method == BASE
    tests = [f"{100 * test.difference * sign:+.0f}".replace("-", "−")
             + f", {p_text(test.p if test.adjusted_p is None else test.adjusted_p)}"
             if test else "" for test, sign in ((row.against_base, 1), (row.against_best, -1))]
    return (
        name, f"{100 * row.share:.0f}%", f"{100 * low:.0f}–{100 * high:.0f}", f"{100 * row.wrong / row.n:.0f}%",
        f"{100 * row.refused / row.n:.0f}%", *tests, "" if is_base else f"{row.trainable_parameters:,}",
        "" if is_base else tell_share(row.trainable_share), "" if is_base else tell_bytes(row.adapter_bytes),
        "" if is_base else tell_bytes(row.peak_memory_mb * (1 << 20)), "" if is_base else tell_seconds(row.seconds),
        "" if is_base else f"{row.steps}{'*' if row.is_out_of_time else ''}",
    )


def sum_up(standing: Standing) -> str:
    """Return best and cheapest in one or two sentences."""
    rows = {row.method: row for row in standing.rows}
    if not standing.best:
        return "No method finished."
    best, cheapest = rows[standing.best], rows[standing.cheapest]
    said = f"Most correct: {best.method} ({100 * best.share:.0f}% of {best.n} questions)."
    if best.method == cheapest.method:
        cheaper = [row for row in standing.rows if row.state == "finished" and row.cost < best.cost]
        return said + (" Every cheaper one is shown to be worse." if cheaper else " It is also the cheapest.")
    if cheapest.method == BASE:
        return said + " No test shows that it, or any other, is better than the base untuned."
    return said + (f" Cheapest that is not shown to be worse: {cheapest.method} ({100 * cheapest.share:.0f}%, "
                   f"{tell_seconds(cheapest.seconds)} against {tell_seconds(best.seconds)}).")


def render_comparison(
    standing: Standing, name: str, setting: str, questions: int, budget: str, notes: Sequence[str], confidence: float = 0.95
) -> str:
    """Return the report in Markdown."""
    lines = [f"# Methods compared: {name}", "", sum_up(standing), "",
             f"Each on the same rows and {questions} questions ({setting.replace('_', ' ')}), {budget}, in a process of its "
             f"own. Intervals are Wilson's at {confidence:.0%}; p is McNemar's on the same questions, corrected by "
             "Holm's method over the table; − base and − best are points. Cheap goes by seconds of tuning (with those of "
             "the run a method starts from), then weights trained, then bytes of the adapter; as good as the best is what p "
             "uncorrected does not show to be worse.", "",
             "![methods](methods.png)", "",
             "| " + " | ".join(HEADINGS) + " |", "| --- | " + "--: | " * (len(HEADINGS) - 1)]
    for row in standing.rows:
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in tell_row(row, standing)) + " |")
    lines += ["", *(f"- {note}" for note in notes), ""]
    for row in standing.rows:
        if row.against_base is not None:
            by = "" if row.p_by_documents is None else f" By whole documents p = {p_text(row.p_by_documents)}."
            lines.append(f"- {describe_comparison(row.against_base, setting, BASE, row.method)}{by}")
    return "\n".join([*lines, ""])


def draw_standing(standing: Standing, questions: int) -> bytes:
    """Return a PNG: each method's share correct with its interval, and beside it what it cost in seconds and memory."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    rows = [row for row in standing.rows if row.state == "finished"]
    with rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(8, 1.3 + 0.3 * max(len(rows), 1)), dpi=150, layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        for place, row in enumerate(rows):
            colour = _colour(row, standing)
            left.plot(row.interval, [place] * 2, color=colour, linewidth=2, solid_capstyle="butt", alpha=0.55)
            left.plot(row.share, place, "o", color=colour, markersize=6)
            if row.seconds:
                right.plot(row.seconds, place, "o", color=colour, markersize=6)
                right.annotate(f"{tell_seconds(row.seconds)}, {tell_bytes(row.adapter_bytes)}", (row.seconds, place),
                               xytext=(7, 0), textcoords="offset points", va="center", fontsize=7, color=FAINT)
        if base := next((row for row in rows if row.method == BASE), None):
            left.axvline(base.share, color=FAINT, linestyle="--", linewidth=1)
        left.set_yticks(range(len(rows)), [row.method.replace("_", " ") for row in rows])
        for text, row in zip(left.get_yticklabels(), rows):
            text.set_fontweight("bold" if row.method in (standing.best, standing.cheapest) else "normal")
        left.set_ylim(len(rows) - 0.4, -0.6)
        left.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
        left.set_xlabel(f"answered correctly, of {questions} questions")
        times = [row.seconds for row in rows if row.seconds]
        if times:
            right.set_xscale("log")
            right.set_xlim(min(times) / 1.5, max(times) * 6)
            right.xaxis.set_major_formatter(lambda value, _: tell_seconds(value))
            right.xaxis.set_minor_formatter(lambda value, _: "")
        right.set_xlabel("time to tune, size of the adapter")
        for axes in (left, right):
            axes.grid(axis="y", visible=False)
            axes.tick_params(axis="y", length=0)
        _draw_legend(figure)
        return render_png(figure)


def _colour(row: MethodRow, standing: Standing) -> str:
    if row.method == standing.cheapest:
        return BEST
    return COLOURS["finished"] if row.is_within_noise else COLOURS["pruned"]


def _draw_legend(figure: object) -> None:
    from matplotlib.lines import Line2D

    named = ((BEST, "cheapest not shown to be worse than the best"), (COLOURS["finished"], "the best, or not shown worse"),
             (COLOURS["pruned"], "shown to be worse"))
    marks = [Line2D([], [], color=colour, marker="o", linewidth=2, label=label) for colour, label in named]
    figure.legend(handles=marks, frameon=False, loc="outside lower center", ncols=3, fontsize=7,  # type: ignore[attr-defined]
                  labelcolor=INK)
