"""Text metrics against their reference libraries, item by item."""

import re
import string
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtune.errors import MissingPackage, RunError
from ragtune.evaluation.metrics import text as text_metrics
from ragtune.evaluation.metrics.text import METRICS, find_metric, normalise_squad, score_corpus

ANSWERS = ["Net sales were $4,210 million.", "The margin fell.", "", "yes", "An apple, a day", "Über die Bücher"]
REFERENCES = ["$4,210 million", "Gross margin fell by 1.2 points", "5", "Yes.", "apple day", ""]
WORDS = ["the", "a", "An", "sales", "Sales,", "rose", "5%", "$4,210", "—", "net-of", "()"]
TEXTS = st.one_of(st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join), st.text(max_size=30))
NO_ROUGE = "the extra 'metrics' is not installed (rouge-score)"
NO_BLEU = "the extra 'metrics' is not installed (sacrebleu)"


def official(answer: str, reference: str) -> tuple[float, float]:
    """SQuAD 2.0's evaluation script, function by function."""

    def normalize_answer(s):
        def remove_articles(text):
            return re.sub(re.compile(r"\b(a|an|the)\b", re.UNICODE), " ", text)

        def remove_punc(text):
            exclude = set(string.punctuation)
            return "".join(ch for ch in text if ch not in exclude)

        return " ".join(remove_articles(remove_punc(s.lower())).split())

    gold, pred = (normalize_answer(s).split() if s else [] for s in (reference, answer))
    same = sum((Counter(gold) & Counter(pred)).values())
    exact = float(normalize_answer(reference) == normalize_answer(answer))
    if len(gold) == 0 or len(pred) == 0:
        return exact, float(gold == pred)
    if same == 0:
        return exact, 0.0
    precision, recall = same / len(pred), same / len(gold)
    return exact, 2 * precision * recall / (precision + recall)


@given(TEXTS, TEXTS)
def test_exact_match_and_f1_as_the_squad_script(answer: str, reference: str) -> None:
    exact, f1 = official(answer, reference)
    assert METRICS["exact_match"]([answer], [reference]) == [exact]
    assert METRICS["f1"]([answer], [reference]) == pytest.approx([f1], abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=3))
def test_exact_match_and_f1_as_torchmetrics(answer: str, references: list[str]) -> None:
    pytest.importorskip("torchmetrics", reason="the reference torchmetrics is not installed")
    from torchmetrics.functional.text import squad

    said = {"prediction_text": answer, "id": "q"}
    wanted = {"answers": {"answer_start": [0] * len(references), "text": references}, "id": "q"}
    found = squad([said], [wanted])
    assert METRICS["exact_match"]([answer], [references])[0] * 100 == pytest.approx(float(found["exact_match"]), abs=1e-9)
    assert METRICS["f1"]([answer], [references])[0] * 100 == pytest.approx(float(found["f1"]), abs=1e-5)  # theirs is float32


def test_known_f1() -> None:
    assert normalise_squad(" The  U.S. dollar, an asset! ") == "us dollar asset"
    # said: net sales were 4210 million (5); wanted: 4210 million (2); shared 2
    assert METRICS["f1"](ANSWERS[:1], REFERENCES[:1]) == pytest.approx([4 / 7])
    assert METRICS["f1"](["", "", "5"], ["", "5", ""]) == [1.0, 0.0, 0.0]
    assert METRICS["exact_match"](ANSWERS, REFERENCES) == [0.0, 0.0, 0.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize("kind", ["rouge1", "rouge2", "rougeL"])
def test_rouge_as_rouge_score(kind: str) -> None:
    rouge_scorer = pytest.importorskip("rouge_score.rouge_scorer", reason=NO_ROUGE)
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"])
    expected = [scorer.score(reference, answer)[kind].fmeasure for answer, reference in zip(ANSWERS, REFERENCES)]
    assert METRICS[kind](ANSWERS, REFERENCES) == pytest.approx(expected, abs=1e-9)
    best = METRICS[kind](["net sales rose"], [["margin fell", "net sales rose in 2021"]])
    assert best == pytest.approx([scorer.score("net sales rose in 2021", "net sales rose")[kind].fmeasure], abs=1e-9)
    assert best[0] > 0.6


def test_known_rouge() -> None:
    pytest.importorskip("rouge_score", reason=NO_ROUGE)
    one = (["police kill the gunman"], ["police killed the gunman"])  # Lin (2004): ROUGE-L 3/4
    assert METRICS["rougeL"](*one) == pytest.approx([0.75])
    assert METRICS["rouge2"](*one) == pytest.approx([1 / 3])


def test_bleu_and_chrf_as_sacrebleu() -> None:
    sacrebleu = pytest.importorskip("sacrebleu", reason=NO_BLEU)
    bleu = [sacrebleu.sentence_bleu(a, [r], use_effective_order=True).score for a, r in zip(ANSWERS, REFERENCES)]
    chrf = [sacrebleu.sentence_chrf(a, [r]).score for a, r in zip(ANSWERS, REFERENCES)]
    assert [100 * score for score in METRICS["bleu"](ANSWERS, REFERENCES)] == pytest.approx(bleu, abs=1e-9)
    assert [100 * score for score in METRICS["chrf"](ANSWERS, REFERENCES)] == pytest.approx(chrf, abs=1e-9)
    assert METRICS["bleu"](["net sales rose by a tenth"], ["net sales rose by a tenth"]) == pytest.approx([1.0])


def test_corpus_scores_are_sacrebleus_own_and_means_elsewhere() -> None:
    sacrebleu = pytest.importorskip("sacrebleu", reason=NO_BLEU)
    answers, references = ["net sales rose by a tenth", "the margin fell"], ["net sales rose by a fifth", "a margin fell"]
    assert score_corpus("bleu", answers, references) * 100 == pytest.approx(
        sacrebleu.corpus_bleu(answers, [references]).score, abs=1e-9)
    assert score_corpus("chrf", answers, references) * 100 == pytest.approx(
        sacrebleu.corpus_chrf(answers, [references]).score, abs=1e-9)
    ragged = score_corpus("bleu", answers, [["net sales rose by a tenth", "sales rose"], "the margin fell"])
    assert ragged == pytest.approx(1.0)


@pytest.mark.parametrize("name", [name for name in METRICS if name != "bertscore"])
def test_every_metric_gives_one_score_an_item(name: str) -> None:
    pytest.importorskip("rouge_score", reason=NO_ROUGE)
    pytest.importorskip("sacrebleu", reason=NO_BLEU)
    found = METRICS[name](ANSWERS, REFERENCES)
    assert len(found) == len(ANSWERS)
    assert all(type(score) is float and 0 <= score <= 1 for score in found)
    long = "net sales rose by a tenth"
    assert METRICS[name]([long, long], [long, "xyz"]) == pytest.approx([1.0, 0.0], abs=0.1)
    for bad in (([], []), (["a"], []), (["a"], [[]]), ([None], ["a"])):
        with pytest.raises(RunError, match="Give|Allowed"):
            METRICS[name](*bad)


@pytest.mark.parametrize(("name", "package"), [("rougeL", "rouge_score"), ("bleu", "sacrebleu"), ("chrf", "sacrebleu")])
def test_a_missing_package_names_the_pip_line(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [module for module in sys.modules if module.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    text_metrics._rouge_scorer.cache_clear()
    text_metrics._sacrebleu.cache_clear()
    with pytest.raises(MissingPackage, match=r"pip install 'ragtune\[metrics\]'"):
        METRICS[name](["a"], ["a"])


def test_an_unknown_metric_is_said() -> None:
    with pytest.raises(RunError, match="Did you mean 'rougeL'"):
        find_metric("rouge_L")
