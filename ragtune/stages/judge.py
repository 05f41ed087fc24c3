"""The judge stage: answers go in, verdicts by a rubric come out, beside how far they agree with the scorer and people."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections import Counter
from pathlib import Path

from ragtune.errors import ModelError, RunError
from ragtune.evaluation.judging.intake import own_labels, pair_to_judge, read_labels, read_to_judge
from ragtune.evaluation.judging.judge import AnyJudge, ModelJudge, open_judge
from ragtune.evaluation.judging.rubric import Rubric, load_rubric
from ragtune.evaluation.judging.tally import JudgingSummary, count_wins, measure_agreements, tally_verdicts, tell_apart
from ragtune.evaluation.judging.verdict_log import VerdictLog
from ragtune.evaluation.judging.verdicts import ToJudge, render_judging
from ragtune.files import building_folder, hash_text, write_json, write_jsonl, write_manifest
from ragtune.recipe.schema import Generator as Section
from ragtune.seams import Report

ROWS = 32
"""Items between two writes of the log."""
FAILED = "No reply for {}: the judge failed on them. The same command asks for these again."
VERSION = 1
"""Raise it when verdicts are read in another way: earlier logs are then not gone on with."""


def run_judge(
    source: Path,
    judge: str,
    rubric: str | None = None,
    against: str | None = None,
    labels: Path | None = None,
    model: str | None = None,
    setting: str | None = None,
    limit: int = 0,
    out: Path | None = None,
    section: Section | None = None,
    timeout_s: float = 120.0,
    max_new_tokens: int = 512,
    report: Report | None = None,
) -> JudgingSummary:
    """Judge an evaluation folder or a file of answers and write the folder of verdicts; goes on where it was stopped.

    ``against`` names a second source, or another model of the same evaluation folder, for pairs. Raises RunError for
    sources, rubrics and labels that cannot be used, ModelError for a judge that cannot be asked (what it said is kept).
    """
    begun = time.perf_counter()
    asked = load_rubric(rubric or ("better" if against else "correctness"))
    if (asked.asks == "pair") != bool(against):
        wants = "one answer: leave --against out, or use --rubric better" if against else (
            "the better of two answers: name the others with --against")
        raise RunError(f"the rubric '{asked.name}' asks for {wants}.")
    items, notes = _gather(source, asked, against, labels, model, setting, limit)
    opened = open_judge(judge, asked, section, timeout_s, max_new_tokens)
    target = out or _place(source, opened.name, asked.name, *((model or "a", against) if against else ()))
    fingerprint = str(getattr(opened, "fingerprint", opened.name))
    key = hash_text(json.dumps([fingerprint, asked.hash, max_new_tokens, VERSION]))
    keyed = {hash_text(repr(render_judging(asked, item)) + item.id): item for item in items}
    with building_folder(target, keep_partial=True) as partial:
        log = VerdictLog(partial, key, list(keyed), target)
        _judge_all(opened, keyed, log, report)
        if failed := sum(verdict.state == "failed" for verdict in log.verdicts.values()):
            notes.append(FAILED.format(failed))
        verdicts = {item.id: dataclasses.replace(log.verdicts[name], id=item.id) for name, item in keyed.items()}
        states = Counter(verdict.state for verdict in verdicts.values())
        summary = JudgingSummary(
            judge=opened.name, rubric=asked.name, folder=str(target), n=len(items), read=states["read"],
            unparsed=states["unparsed"], failed=states["failed"],
            tallies=() if asked.asks == "pair" else tally_verdicts(items, verdicts, asked),
            wins=count_wins(items, verdicts) if asked.asks == "pair" else None,
            agreements=measure_agreements(items, verdicts, asked, opened.name),
            apart=tell_apart(items, verdicts, asked), labelled=sum(bool(item.label) for item in items),
            notes=tuple(notes), seconds=round(time.perf_counter() - begun, 1),
        )
        write_json(partial / "summary.json", summary.to_dict())
        write_jsonl(partial / "judged.jsonl", (_told(item, verdicts[item.id].to_dict()) for item in items))
        write_manifest(partial, "judged", judge=opened.name, judge_fingerprint=fingerprint, key=key, rubric=asked.to_dict(),
                       source=str(source), against=against or "", n=len(items), read=summary.read)
    return summary


def _gather(
    source: Path, rubric: Rubric, against: str | None, labels: Path | None, model: str | None, setting: str | None,
    limit: int,
) -> tuple[list[ToJudge], list[str]]:
    """Return what is to be judged, with labels, and notes on what is left out."""
    notes: list[str] = []
    if against is None:
        items = read_to_judge(source, model, setting)
    else:
        is_place = Path(against).exists()
        if not is_place and not source.is_dir():
            raise RunError(f"no file or folder {against}. --against names other answers to the same questions.")
        first = model or (None if is_place else "tuned")
        theirs = setting if Path(against).is_dir() else None
        others = read_to_judge(Path(against), None, theirs) if is_place else read_to_judge(source, against, setting)
        items, note = pair_to_judge(read_to_judge(source, first, setting), others)
        notes += [note] if note else []
    if rubric.asks == "answer" and "passages" in rubric.shows and not any(item.passages for item in items):
        raise RunError(f"the rubric '{rubric.name}' shows passages, and {source} holds none. Give each line 'passages', or "
                       "judge an evaluation folder that keeps them.")
    items = items[:limit] if limit else items
    if labels:
        return read_labels(labels, items, rubric), notes
    return own_labels(items, rubric), notes


def _judge_all(judge: AnyJudge, keyed: dict[str, ToJudge], log: VerdictLog, report: Report | None) -> None:
    """Judge what the log lacks, then once more what failed earlier. Raises ModelError where the provider is gone."""
    fresh = [name for name in keyed if name not in log.verdicts]
    failed = [name for name in keyed if name in log.verdicts and log.verdicts[name].state == "failed"]
    total = len(fresh) + len(failed)
    for names in (fresh, failed):
        for start in range(0, len(names), ROWS):
            batch = names[start : start + ROWS]
            found = judge.judge([dataclasses.replace(keyed[name], id=name) for name in batch])
            log.append(found)
            if report:
                report(f"judging with {judge.name}", start + len(batch) + (len(fresh) if names is failed else 0), total)
            if isinstance(judge, ModelJudge) and judge.has_given_up:
                if names is fresh:
                    raise ModelError(f"the judge failed too often in a row and was left: {judge.last_problem} What it said "
                                     "is kept; the same command goes on from there.")
                break  # these failed before: they are counted, and the rest is told
    if not any(verdict.state != "failed" for verdict in log.verdicts.values()):
        raise ModelError(f"the judge gave no verdict at all. {next(iter(log.verdicts.values())).problem}")


def _told(item: ToJudge, verdict: dict[str, object]) -> dict[str, object]:
    """Return a line for people and programs: the item, then what was said of it."""
    kept = {name: value for name, value in item.to_dict().items() if name != "passages" and value not in (None, "", False)}
    return {**kept, **verdict}


def _place(source: Path, *names: str) -> Path:
    """Return where the verdicts lie: beside the answers, in a folder named after judge, rubric and what is compared."""
    slug = "-".join(re.sub(r"[^A-Za-z0-9._-]+", "_", Path(name).name if "/" in name else name).strip("._") for name in names)
    return source.with_name(f"{source.name if source.is_dir() else source.stem}-judged") / slug
