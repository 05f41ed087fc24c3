"""The report's drawings: SVG text from matplotlib, the same bytes for the same figures."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ragtune.evaluation.ladder.counts import Rung
from ragtune.evaluation.losses.waterfall import Waterfall
from ragtune.records import SETTINGS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ragtune.evaluation.grounding.refusals import RefusalCurve

COLOURS = {"correct": "#1a7f5a", "wrong": "#c4513a", "refused": "#c3c8d0"}
STEP_COLOURS = {"level": "#2f5fa7", "gain": "#1a7f5a", "loss": "#8c4a3c", "lost": "#d99a3d"}
MAX_LABEL = 24
INK, FAINT, ACCENT = "#1d2733", "#6b7684", "#2f5fa7"
_STYLE = {
    "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9, "text.color": INK, "axes.labelcolor": FAINT,
    "axes.edgecolor": "#c3c8d0", "xtick.color": FAINT, "ytick.color": INK, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": "#e8ebef", "axes.axisbelow": True,
}  # fmt: skip


def _figure(height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5, height), layout="constrained")
    return figure, figure.add_subplot()


def _render(figure: Figure, name: str, title: str) -> str:
    """Return the figure as inline SVG with a title for screen readers; ids are made unique to the page by ``name``."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.StringIO()
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1, flags=re.DOTALL)
    label = html.escape(title, quote=True)
    svg = re.sub(r"<svg ", f'<svg role="img" aria-labelledby="{name}-title" ', svg, count=1)
    return re.sub(r"(<svg[^>]*>)", rf'\1<title id="{name}-title">{label}</title>', svg, count=1, flags=re.DOTALL)


def _styled(name: str) -> Mapping[str, object]:
    return {**_STYLE, "svg.hashsalt": name}


def draw_ladder(ladder: Sequence[Rung]) -> str:
    """Return stacked bars of the three outcomes, a bar a model and rung, with the interval of the share correct."""
    from matplotlib import rc_context

    with rc_context(_styled("ladder")):  # type: ignore[arg-type]
        rungs = sorted(ladder, key=lambda r: SETTINGS.index(r.setting))  # stable: models as they come
        places, at, previous = [], 0.0, ""
        for rung in rungs:
            at += 0.45 if previous and rung.setting != previous else 0.0
            places.append(at)
            at, previous = at + 1, rung.setting
        figure, axes = _figure(0.9 + 0.36 * at)
        for rung, place in zip(rungs, places):
            left = 0.0
            for outcome, count in (("correct", rung.correct), ("wrong", rung.wrong), ("refused", rung.refused)):
                share = count / rung.n if rung.n else 0.0
                axes.barh(place, share, 0.82, left=left, color=COLOURS[outcome])
                if share > 0.07:
                    ink = INK if outcome == "refused" else "white"
                    axes.text(left + share / 2, place, f"{100 * share:.0f}", ha="center", va="center", color=ink)
                left += share
            low, high = rung.interval
            axes.plot([low, high], [place + 0.29] * 2, color=INK, linewidth=1.4, marker="|", markersize=5)
        axes.set_yticks(places, [f"{r.setting.replace('_', ' ')}, {_plain(r.model)}" for r in rungs])
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        return _render(figure, "ladder", "Share of questions answered correctly, wrongly, or refused: " + "; ".join(
            f"{r.setting.replace('_', ' ')} {r.model}: {r.correct} correct, {r.wrong} wrong, {r.refused} refused of {r.n}"
            for r in rungs))


def _plain(label: str) -> str:
    """Return a name fit for a tick: cut in the middle where it is long, without what matplotlib takes for mathematics."""
    short = label if len(label) <= MAX_LABEL else f"{label[: MAX_LABEL // 2 - 1]}…{label[-MAX_LABEL // 2 :]}"
    return short.replace("$", r"\$")


def draw_waterfall(waterfall: Waterfall, name: str = "") -> str:
    """Return the bars from closed book through retrieval and the oracle page to all questions.

    ``name`` is the drawing's own on its page, made of letters, digits and '-'; that of the model where it is not given. The
    steps between them hang where the last one ended; each says how many answers it is.
    """
    from matplotlib import rc_context

    name, steps, n = name or f"waterfall-{waterfall.model}", waterfall.steps(), max(waterfall.n, 1)
    with rc_context(_styled(name)):  # type: ignore[arg-type]
        figure, axes = _figure(0.75 + 0.27 * len(steps))
        for place, step in enumerate(steps):
            low, high = sorted((step.start, step.end))
            axes.barh(place, high - low, 0.72, left=low, color=STEP_COLOURS[step.kind])
            told = str(step.end) if step.kind == "level" else f"{step.end - step.start:+d}".replace("-", "−")
            beside, at, offset, ink = ("left", high, 4, INK)
            if high >= 0.88 * n:  # no room on the right: before a short bar, inside a long one
                beside, at, offset, ink = ("right", low, -4, INK) if low >= 0.12 * n else ("right", high, -5, "white")
            axes.annotate(told, (at, place), xytext=(offset, 0), textcoords="offset points", ha=beside, va="center",
                          color=ink)
            if place + 1 < len(steps):
                axes.plot([step.end] * 2, [place + 0.36, place + 0.64], color=FAINT, linewidth=0.8)
        axes.set_yticks(range(len(steps)), [step.label for step in steps])
        for text, step in zip(axes.get_yticklabels(), steps):
            text.set_fontweight("bold" if step.kind == "level" else "normal")
        axes.invert_yaxis()
        axes.set_xlim(0, n)
        axes.set_xlabel("answerable questions, right answers")
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        return _render(figure, name, f"Waterfall of {waterfall.model}: " + ", ".join(
            f"{step.label} {step.end if step.kind == 'level' else format(step.end - step.start, '+d')}" for step in steps))


def draw_recall(recall: Mapping[str, float], every_page: Mapping[str, float], n: int) -> str:
    """Return page recall over k."""
    from matplotlib import rc_context

    with rc_context(_styled("recall")):  # type: ignore[arg-type]
        figure, axes = _figure(2.5)
        ks = [int(k) for k in recall]
        axes.plot(range(len(ks)), list(recall.values()), marker="o", color=ACCENT, label="any evidence page")
        if list(every_page.values()) != list(recall.values()):
            axes.plot(range(len(ks)), list(every_page.values()), "s--", color=FAINT, label="every evidence page")
            axes.legend(frameon=False, loc="lower right")
        for place, value in enumerate(recall.values()):
            axes.annotate(f"{value:.2f}", (place, value), xytext=(0, 6), textcoords="offset points", ha="center")
        axes.set_xticks(range(len(ks)), [str(k) for k in ks])
        axes.set_ylim(0, 1.12)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
        axes.set_xlabel("first k hits")
        return _render(figure, "recall", f"Page recall over {n} questions: " + ", ".join(
            f"at {k} {value:.2f}" for k, value in recall.items()))


def draw_learning_curve(metrics: Sequence[Mapping[str, float]]) -> str:
    """Return training and test loss over optimizer steps; an empty string where neither is recorded."""
    from matplotlib import rc_context

    curves = {key: [(row["step"], row[key]) for row in metrics if row.get(key) is not None and row.get("step") is not None]
              for key in ("loss", "eval_loss")}
    if not any(curves.values()):
        return ""
    with rc_context(_styled("curve")):  # type: ignore[arg-type]
        figure, axes = _figure(2.5)
        for key, label, colour, marker in (("loss", "training rows", FAINT, ""), ("eval_loss", "test rows", ACCENT, "o")):
            if curves[key]:
                steps, values = zip(*curves[key])
                axes.plot(steps, values, label=label, color=colour, marker=marker, markersize=4)
        axes.set_xlabel("optimizer step")
        axes.set_ylabel("loss of the completion")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)
        ends = [f"{label} from {curves[key][0][1]:.2f} to {curves[key][-1][1]:.2f}"
                for key, label in (("loss", "training loss"), ("eval_loss", "test loss")) if curves[key]]
        return _render(figure, "curve", "Learning curve: " + ", ".join(ends))


def draw_refusal_curve(curve: RefusalCurve) -> str:
    """Return what surer answers cost: share wrong, wrong answers without evidence and needless refusals over the share
    of questions answered; the model's own refusals at the right end.
    """
    from matplotlib import rc_context

    lines = (("risk", "answers that are wrong", COLOURS["wrong"], "-"),
             ("over_answering", "answers when it should not", INK, "--"),
             ("over_refusal", "refuses when it need not", ACCENT, "-."))
    with rc_context(_styled("refusals")):  # type: ignore[arg-type]
        figure, axes = _figure(2.8)
        told = []
        for name, label, colour, line in lines:
            places = [(point.coverage, value) for point in curve.points if (value := getattr(point, name)) is not None]
            if places:
                axes.plot(*zip(*places), color=colour, label=label, linestyle=line, clip_on=False)
                axes.plot(*places[-1], "o", color=colour, markersize=4, clip_on=False)
                told.append(f"{label} {100 * places[-1][1]:.0f}%")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
        axes.set_xlabel("share of questions answered, the surest first")
        if told:
            figure.legend(frameon=False, loc="outside lower center", ncols=1)
        end = f"as the model refuses itself, answering {100 * curve.points[-1].coverage:.0f}% of {curve.n} questions"
        return _render(figure, "refusals", f"Refusals, {end}: " + ", ".join(told))
