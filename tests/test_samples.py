"""What is compared: common questions, their documents, and input that is said to be bad."""

import pytest

from ragtune.errors import RunError
from ragtune.evaluation.statistics.samples import check_scores, clusters_of, common_items, number_clusters, pair_texts
from ragtune.records import Evidence, Question


def test_common_questions_are_compared_and_the_rest_is_said() -> None:
    assert common_items({"q2": 1, "q1": 2}, {"q1": 0, "q2": 0}) == (("q2", "q1"), "")
    ids, said = common_items({"q1": 1, "q2": 2}, {"q2": 0, "q3": 1, "q4": 1})
    assert ids == ("q2",)
    assert said == "1 common questions are compared; 1 only of a and 2 only of b are left out."
    with pytest.raises(RunError, match="share no question"):
        common_items({"q1": 1}, {})


def question(name: str, *documents: str) -> Question:
    return Question(name, "text", "5", tuple(Evidence(document, 1) for document in documents))


def test_clusters_are_documents_joined_by_questions_about_several() -> None:
    found = clusters_of([question("1", "A"), question("2", "B", "A"), question("3", "C"), question("4"), question("5", "B"),
                         question("6", "C", "C")])
    assert found["1"] == found["2"] == found["5"] != found["3"] == found["6"]
    assert found["4"] == "question 4"
    assert len(set(found.values())) == 3


def test_scores_are_checked() -> None:
    assert check_scores([1, True, 0.5]).tolist() == [1.0, 1.0, 0.5]
    for bad, said in (([], "nothing to compare"), ([0.0, float("nan")], "nan at place 2"), ([[1.0], [2.0]], "the shape")):
        with pytest.raises(RunError, match=said):
            check_scores(bad)


def test_clusters_are_numbered_as_they_come() -> None:
    assert number_clusters(["b", "a", "b"], 3).tolist() == [0, 1, 0]
    assert number_clusters(None, 2).tolist() == [0, 1]


def test_texts_are_paired_with_one_or_several_references() -> None:
    assert pair_texts(["a", ""], ["b", ["c", "d"]]) == [("a", ("b",)), ("", ("c", "d"))]
    with pytest.raises(RunError, match="item 2 is 'b' against None"):
        pair_texts(["a", "b"], ["a", None])
