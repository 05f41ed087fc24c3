"""Page recall from hits and evidence."""

from ragtune.evaluation.ranking import first_rank, full_rank, score_page_recall
from ragtune.records import Chunk, Evidence, Hit, Question


def hit(document: str, page: int, rank: int, last_page: int | None = None) -> Hit:
    return Hit(Chunk(f"{document}{page}", document, document, "text", page, last_page or page, 0, 4), 1 / rank, rank, "test")


HITS = [hit("A", 1, 1), hit("B", 7, 2), hit("A", 7, 3, last_page=8), hit("A", 9, 4)]


def question(*evidence: tuple[str, int]) -> Question:
    return Question("q", "text", "5", tuple(Evidence(document, page) for document, page in evidence))


def test_page_must_be_of_the_right_document() -> None:
    assert first_rank(question(("A", 7)), HITS) == 3
    assert first_rank(question(("C", 7)), HITS) is None


def test_a_chunk_over_two_pages_holds_both() -> None:
    assert first_rank(question(("A", 8)), HITS) == 3


def test_every_page_is_asked_for_full_recall() -> None:
    asked = question(("A", 1), ("A", 9))
    assert (first_rank(asked, HITS), full_rank(asked, HITS)) == (1, 4)
    assert full_rank(question(("A", 1), ("A", 99)), HITS) is None


def test_recall_at_k() -> None:
    asked = [question(("A", 1)), question(("A", 1), ("A", 9)), question(("C", 1)), question()]
    items = [(one, HITS) for one in asked]
    recall = score_page_recall(items, (1, 4))
    assert recall.n == 3
    assert recall.any_page == {"1": 2 / 3, "4": 2 / 3}
    assert recall.every_page == {"1": 1 / 3, "4": 2 / 3}
    assert score_page_recall([], (1,)).any_page == {"1": 0.0}
