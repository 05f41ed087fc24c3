"""ragtune score."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ragtune.evaluation.scoring.score_file import ScoredRow

UNSURE = 0.75
MOST_UNSURE = 10
"""Answers that are listed as worth a look: less sure than UNSURE, the least sure first."""
KINDS = {"number": "a number", "yes_no": "yes or no", "text": "free text", "none": "no answer"}


@click.command()
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE.jsonl")
@click.option("--metric", "metrics", multiple=True, metavar="NAME",
              help="A text metric beside it, repeatable: exact_match, f1, rouge1, rouge2, rougeL, bleu, chrf, bertscore.")
@click.option("--json", "as_json", is_flag=True, help="Print each line with its outcome, confidence and reason as JSON.")
def score(file: Path, metrics: Sequence[str], as_json: bool) -> None:
    """Score answers against their references: correct, wrong or refused, how sure that is, and why.

    Each line of FILE.jsonl holds 'question', 'gold_answer' or 'reference', and 'model_answer' or 'answer'; other fields
    are kept. With an empty reference (a question that has no answer) a refusal is what is correct.
    """
    from ragtune.evaluation.metrics.text import CORPUS_METRICS, find_metric, score_corpus
    from ragtune.evaluation.scoring.score_file import read_answers, score_rows

    named = {name: find_metric(name) for name in dict.fromkeys(metrics)}
    rows = read_answers(file)
    texts = [answer for _, _, answer, _ in rows], [question.answer for _, question, _, _ in rows]
    said = {name: metric(*texts) for name, metric in named.items()} if rows else {}
    if as_json:
        for place, row in enumerate(score_rows(rows)):
            added = {name: round(scores[place], 4) for name, scores in said.items()}
            click.echo(json.dumps({**row.to_dict(), **added}, ensure_ascii=False))
    else:
        print_counts(tuple(score_rows(rows)))
        for name, scores in said.items():
            whole = f", {score_corpus(name, *texts):.4f} over the corpus" if name in CORPUS_METRICS else ""
            click.echo(f"{name}: mean {sum(scores) / len(scores):.4f} over {len(scores):,} answers{whole}")


def print_counts(rows: Sequence[ScoredRow]) -> None:
    """Print the outcomes by kind of reference, then the answers that are worth a look."""
    from ragtune.records import OUTCOMES

    click.echo(f"{'reference':12}{'answers':>9}" + "".join(f"{outcome:>9}" for outcome in OUTCOMES) + f"{'correct':>10}")
    for kind, name in {"": "all", **KINDS}.items():
        of_kind = [row for row in rows if kind in ("", row.kind)]
        if of_kind or not kind:
            counts = [sum(row.outcome == outcome for row in of_kind) for outcome in OUTCOMES]
            share = f"{counts[0] / len(of_kind):.1%}" if of_kind else "-"
            click.echo(f"{name:12}{len(of_kind):9,}" + "".join(f"{count:9,}" for count in counts) + f"{share:>10}")
    unsure = sorted((row for row in rows if row.confidence < UNSURE), key=lambda row: (row.confidence, row.line))
    if unsure:
        click.echo(f"\n{len(unsure):,} of {len(rows):,} are less sure than {UNSURE}; the least sure:")
    for row in unsure[:MOST_UNSURE]:
        click.echo(f"  line {row.line}: {row.outcome} ({row.confidence:.2f}): {row.reason}")
