"""How long the rows of a dataset are in tokens, and the drawing of it beside the card."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence

from ragtune.records import Example, Message

FILE = "lengths.png"
_COLOURS = {"train": "#2f5fa7", "test": "#c4513a"}
_BINS = 40


def count_lengths(examples: Sequence[Example], count_tokens: Callable[[Sequence[Message]], int]) -> list[int]:
    """Return the tokens of each example's prompt and completion together, as the chat template renders them.

    The few tokens that open the next turn are counted too, so that a trainer's limit set to the longest is enough.
    """
    return [count_tokens([*example.prompt, Message(role="assistant", content=example.completion)]) for example in examples]


def render_lengths(lengths: Mapping[str, Sequence[int]], unit: str) -> list[str]:
    """Return the figures of each side as lines of a card; ``unit`` says whose tokens they are."""
    lines = []
    for side, counts in lengths.items():
        if counts:
            ranked = sorted(counts)
            shares = ", ".join(f"{share}% up to {ranked[min(len(ranked) - 1, len(ranked) * share // 100)]:,}"
                               for share in (50, 90, 99))
            lines.append(f"- {side}: {ranked[0]:,} to {ranked[-1]:,} {unit} a row; {shares}")
    return lines


def draw_lengths(lengths: Mapping[str, Sequence[int]], max_prompt_tokens: int) -> bytes:
    """Return a histogram of each side's lengths as a PNG, the same bytes for the same figures; b'' without rows.

    A line marks the most a prompt may have.
    """
    drawn = {side: counts for side, counts in lengths.items() if counts}
    if not drawn:
        return b""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    low, high = (find(count for counts in drawn.values() for count in counts) for find in (min, max))
    width = max(1, -(-(high - low + 1) // _BINS))
    edges = [low + width * number for number in range((high - low) // width + 2)]
    with rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True}):
        figure = Figure(figsize=(6.4, 1.9 * len(drawn)), layout="constrained", dpi=110)
        for place, (side, counts) in enumerate(drawn.items(), start=1):
            axes = figure.add_subplot(len(drawn), 1, place)
            axes.hist(counts, bins=edges, color=_COLOURS.get(side, "#6b7684"))
            if low <= max_prompt_tokens <= high + width:
                axes.axvline(max_prompt_tokens, color="#1d2733", linewidth=1, linestyle="--")
            axes.set_xlim(edges[0], edges[-1])
            axes.set_ylabel(f"{side} rows")
            axes.grid(axis="y", color="#e8ebef")
            axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.set_xlabel("tokens of prompt and completion")
        buffer = io.BytesIO()
        FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()
