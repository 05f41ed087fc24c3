"""Splitting questions into train and test by what they are about, never by row, so that no document is on both sides."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence

from ragtune.errors import QuestionError
from ragtune.records import Metadata, Question

GroupOf = Callable[[Question], Sequence[str]]
"""Returns the groups a question belongs to: its documents, or the values of a metadata column."""


def group_by(by: str, documents: Mapping[str, Metadata]) -> GroupOf:
    """Return what tells a question's groups. ``documents`` maps the documents of the index to their metadata.

    A question's documents are those of its evidence, else the one its metadata name. For a column, the documents' value
    counts before the question's own.
    """

    def groups(question: Question) -> list[str]:
        named = [evidence.document for evidence in question.evidence]
        if not named and isinstance(question.metadata.get("document"), str):
            named = [str(question.metadata["document"])]
        if by == "document":
            return sorted(set(named)) or [f"question {question.id}"]
        values = [documents[name][by] for name in named if documents.get(name, {}).get(by) is not None]
        if not values and question.metadata.get(by) is not None:
            values = [question.metadata[by]]
        if not values:
            raise QuestionError(
                f"the question '{question.id}' has no '{by}' to split by, nor has its document. Split by 'document', or add "
                f"the column to documents.metadata. Do: --set dataset.split_by=document"
            )
        return sorted({str(value) for value in values})

    return groups


def split_questions(
    questions: Sequence[Question], by: str, test_share: float, seed: int, group_of: GroupOf
) -> tuple[list[Question], list[Question]]:
    """Return (train, test), each in the order given; ``test_share`` counts groups.

    A question about several groups joins them (union-find): they come to the same side. Raises QuestionError where
    everything hangs together, so that one side would be empty.
    """
    joined = _join([group_of(question) for question in questions])
    parts: dict[str, list[str]] = {}
    for group, root in joined.items():
        parts.setdefault(root, []).append(group)
    wanted = max(1, round(test_share * len(joined))) if test_share else 0
    if wanted and len(parts) < 2:
        raise QuestionError(
            f"found one group only when splitting {len(questions)} questions by '{by}' ({', '.join(sorted(joined)[:3])}), "
            "so none could be kept apart for evaluation. Split by another column (dataset.split_by), add documents, or set "
            "dataset.test_share=0"
        )
    order = sorted(parts)
    random.Random(f"{seed}:split").shuffle(order)
    tested: set[str] = set()
    for root in order[:-1]:  # at least one part stays for training
        if len(tested) + len(parts[root]) <= wanted + len(parts[root]) // 2:
            tested.update(parts[root])
    if wanted and not tested:
        tested.update(parts[min(order, key=lambda root: (len(parts[root]), root))])
    is_test = [bool(tested.intersection(group_of(question))) for question in questions]
    return ([q for q, test in zip(questions, is_test) if not test], [q for q, test in zip(questions, is_test) if test])


def split_by_groups(
    questions: Sequence[Question], tested: Collection[str], group_of: GroupOf
) -> tuple[list[Question], list[Question]]:
    """Return (train, test), each in the order given: the test side is what hangs together with the groups ``tested``.

    Raises QuestionError where that leaves a side empty.
    """
    joined = _join([group_of(question) for question in questions])
    roots = {joined[group] for group in tested if group in joined}
    sides: tuple[list[Question], list[Question]] = ([], [])
    for question in questions:
        sides[joined[group_of(question)[0]] in roots].append(question)
    if not all(sides):
        raise QuestionError(
            f"dataset.test_where puts {len(sides[1])} of {len(questions)} questions on the test side and leaves "
            f"{len(sides[0])} for training; each side needs some. Its groups: {', '.join(sorted(tested)[:5]) or 'none'}. "
            "Mend the filter, or drop it to draw the test side by dataset.test_share."
        )
    return sides


def join_questions(questions: Sequence[Question], group_of: GroupOf) -> list[str]:
    """Return for each question the name of the part it belongs to: groups that a question joins are one part."""
    groups = [group_of(question) for question in questions]
    joined = _join(groups)
    return [joined[members[0]] for members in groups]


def draw_folds(parts: Sequence[str], folds: int, seed: int) -> list[list[int]]:
    """Return up to ``folds`` lists of question numbers; ``parts`` names the part of each, and no part is in two folds.

    The largest parts are dealt first, each to the smallest fold. Empty folds are left out.
    """
    members: dict[str, list[int]] = {}
    for number, part in enumerate(parts):
        members.setdefault(part, []).append(number)
    order = sorted(members)
    random.Random(f"{seed}:folds").shuffle(order)
    dealt: list[list[int]] = [[] for _ in range(folds)]
    for part in sorted(order, key=lambda part: -len(members[part])):
        min(dealt, key=len).extend(members[part])
    return [sorted(fold) for fold in dealt if fold]


def _join(groups: Sequence[Sequence[str]]) -> dict[str, str]:
    """Return group -> the name of the part it belongs to (union-find with path halving)."""
    parent: dict[str, str] = {}

    def find(group: str) -> str:
        parent.setdefault(group, group)
        while parent[group] != group:
            parent[group] = parent[parent[group]]
            group = parent[group]
        return group

    for members in groups:
        for member in members:
            one, other = sorted((find(members[0]), find(member)))
            parent[other] = one
    return {group: find(group) for group in list(parent)}
