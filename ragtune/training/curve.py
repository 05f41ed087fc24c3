"""The drawn learning curve of a run: losses, accuracy or reward where measured, and the learning rate."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ragtune.files import read_jsonl

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Points = Sequence[Mapping[str, float]]
INK, FAINT, GREY, BLUE, GREEN, RED = "#1d2733", "#6b7684", "#9aa3ae", "#2f5fa7", "#1a7f5a", "#c4513a"
_STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "ragtune", "font.family": "sans-serif", "font.size": 9, "text.color": INK,
    "axes.labelcolor": FAINT, "axes.edgecolor": "#c3c8d0", "xtick.color": FAINT, "ytick.color": FAINT,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e8ebef", "axes.axisbelow": True,
}
_PANELS: tuple[tuple[str, tuple[tuple[str, str, str, str], ...]], ...] = (
    ("loss", (("loss", "training rows", GREY, ""), ("eval_loss", "test rows", BLUE, "o"))),
    ("accuracy", (("accuracy", "held-out answers", GREEN, "o"),)),
    ("reward", (("reward", "answers drawn", GREEN, ""),)),
    ("KL", (("kl", "divergence from the start", RED, ""),)),
    ("learning rate", (("learning_rate", "", FAINT, ""),)),
)
"""From top to bottom: the axis' name, and its lines as field, name, colour and marker."""


def write_curve(folder: Path) -> None:
    """Draw ``folder/metrics.jsonl`` as ``folder/curve.svg``; without a measured point nothing is written."""
    svg = draw_curve([point for _, point in read_jsonl(folder / "metrics.jsonl")])
    if svg:
        (folder / "curve.svg").write_text(svg, encoding="utf-8")


def draw_curve(points: Points) -> str:
    """Return a run's curve as SVG, a panel a kind of measure over optimizer steps; the same bytes for the same points.

    An empty string where no point has both a step and a measure.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    drawn = [(name, lines) for name, lines in _PANELS if any(_line(points, field) for field, *_ in lines)]
    if not any(name != "learning rate" for name, _ in drawn):
        return ""
    with rc_context(_STYLE):  # type: ignore[arg-type]
        heights = [1.0 if name == "learning rate" else 2.2 for name, _ in drawn]
        figure = Figure(figsize=(6.4, sum(heights) + 0.7), layout="constrained")
        axes = figure.subplots(len(drawn), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        for axis, (name, lines) in zip(axes, drawn):
            _draw_panel(axis, points, name, lines)
        axes[-1].set_xlabel("optimizer step")
        figure.align_ylabels(list(axes))
        buffer = io.StringIO()
        FigureCanvasSVG(figure).print_svg(
            buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None, "Title": describe_curve(points)})
    return buffer.getvalue()


def describe_curve(points: Points) -> str:
    """Return what the curve says in a line, for those who do not see it."""
    told = []
    for _, lines in _PANELS[:-1]:
        for field, name, *_ in lines:
            if line := _line(points, field):
                what = "loss of " + name if field.endswith("loss") else f"{field} ({name})"
                told.append(f"{what} from {line[0][1]:.3g} to {line[-1][1]:.3g}")
    return "Learning curve: " + ", ".join(told)


def _line(points: Points, field: str) -> list[tuple[float, float]]:
    return [(point["step"], point[field]) for point in points if point.get(field) is not None and "step" in point]


def _draw_panel(axis: Axes, points: Points, name: str, lines: Sequence[tuple[str, str, str, str]]) -> None:
    for field, label, colour, marker in lines:
        if line := _line(points, field):
            marker = marker or ("o" if len(line) == 1 else "")
            axis.plot(*zip(*line), label=label, color=colour, marker=marker, markersize=4, linewidth=1.4)
    axis.set_ylabel(name)
    if name == "accuracy":
        line = _line(points, "accuracy")
        best = max(line, key=lambda point: point[1])
        axis.annotate(f"{100 * best[1]:.0f}%", best, xytext=(0, 7), textcoords="offset points", ha="center", color=INK)
        axis.set_ylim(0, 1.12)
        axis.set_yticks([0, 0.5, 1], ["0%", "50%", "100%"])
    elif name != "reward":
        axis.set_ylim(bottom=0)
    if name == "learning rate":
        axis.yaxis.set_major_locator(_few_ticks())  # type: ignore[arg-type]
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    elif len(lines) > 1 or lines[0][1]:
        axis.legend(frameon=False, loc="best")


def _few_ticks() -> object:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(2)
