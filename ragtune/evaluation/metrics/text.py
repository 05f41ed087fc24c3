"""The text metrics of the field, item by item, so that two runs can be compared by a paired test.

Exact match and F1 are SQuAD's and computed here; ROUGE is rouge-score's, BLEU and chrF are sacrebleu's (the extra
``metrics``), BERTScore is bertscore.py's. All run from 0 to 1 (BERTScore may fall a little below). They compare words: a
wrong figure in the right sentence scores high, the right figure in another scale low. Whether an answer is right is for
answers.score_answer to say.

A refusal is compared as an empty answer, and an unanswerable question has an empty reference, as SQuAD 2.0 has it.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from ragtune.errors import MissingPackage, RunError, nearest
from ragtune.evaluation.metrics.bertscore import score_bertscore
from ragtune.evaluation.statistics.samples import References, pair_texts

TextMetric = Callable[..., "list[float]"]
"""Takes answers and references, both of one length; returns one score an item, 0 to 1."""
_PUNCTUATION = frozenset(string.punctuation)
_ARTICLE = re.compile(r"\b(a|an|the)\b")


def normalise_squad(text: str) -> str:
    """Return the text as SQuAD compares it: lower case, without punctuation and articles, single spaces."""
    kept = "".join(character for character in text.lower() if character not in _PUNCTUATION)
    return " ".join(_ARTICLE.sub(" ", kept).split())


def score_exact_match(answers: Sequence[str], references: References) -> list[float]:
    """Return 1.0 where the normalised answer equals a reference (SQuAD), else 0.0."""
    return [float(any(normalise_squad(answer) == normalise_squad(text) for text in several))
            for answer, several in pair_texts(answers, references)]


def score_f1(answers: Sequence[str], references: References) -> list[float]:
    """Return SQuAD's F1 of the normalised words against the best reference; an empty side meets only an empty one (2.0)."""
    return [max(_f1(answer, text) for text in several) for answer, several in pair_texts(answers, references)]


def _f1(answer: str, reference: str) -> float:
    said, wanted = normalise_squad(answer).split(), normalise_squad(reference).split()
    if not said or not wanted:
        return float(said == wanted)
    shared = sum((Counter(said) & Counter(wanted)).values())
    return 2 * shared / (len(said) + len(wanted))


def score_rouge1(answers: Sequence[str], references: References) -> list[float]:
    """Return ROUGE-1's F measure, unstemmed."""
    return _rouge("rouge1", answers, references)


def score_rouge2(answers: Sequence[str], references: References) -> list[float]:
    """Return ROUGE-2's F measure, unstemmed."""
    return _rouge("rouge2", answers, references)


def score_rouge_l(answers: Sequence[str], references: References) -> list[float]:
    """Return ROUGE-L's F measure over the whole text, unstemmed."""
    return _rouge("rougeL", answers, references)


@lru_cache(maxsize=4)
def _rouge_scorer(kind: str) -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise _missing("rouge-score", "ROUGE") from error
    return RougeScorer([kind], use_stemmer=False)


def _rouge(kind: str, answers: Sequence[str], references: References) -> list[float]:
    pairs, scorer = pair_texts(answers, references), _rouge_scorer(kind)
    return [float(scorer.score_multi(several, answer)[kind].fmeasure) for answer, several in pairs]


@lru_cache(maxsize=4)
def _sacrebleu(kind: str, is_sentence: bool) -> Any:
    try:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
    except ImportError as error:
        raise _missing("sacrebleu", "BLEU and chrF") from error
    return CHRF() if kind == "chrf" else BLEU(effective_order=is_sentence)


def score_bleu(answers: Sequence[str], references: References) -> list[float]:
    """Return sacrebleu's sentence BLEU / 100 (13a tokens, exponential smoothing, effective order)."""
    scorer = _sacrebleu("bleu", True)
    return [scorer.sentence_score(answer, list(several)).score / 100 for answer, several in pair_texts(answers, references)]


def score_chrf(answers: Sequence[str], references: References) -> list[float]:
    """Return sacrebleu's chrF2 / 100 (characters up to 6, no words)."""
    scorer = _sacrebleu("chrf", True)
    return [scorer.sentence_score(answer, list(several)).score / 100 for answer, several in pair_texts(answers, references)]


CORPUS_METRICS = ("bleu", "chrf")
"""Those that are defined over a corpus, which is not the mean of its items."""


def score_corpus(metric: str, answers: Sequence[str], references: References) -> float:
    """Return the one score, 0 to 1, of a metric of CORPUS_METRICS over all answers together."""
    pairs = pair_texts(answers, references)
    widest = max(len(several) for _, several in pairs)
    streams = [[several[i] if i < len(several) else None for _, several in pairs] for i in range(widest)]
    return float(_sacrebleu(metric, False).corpus_score([answer for answer, _ in pairs], streams).score) / 100


METRICS: dict[str, TextMetric] = {
    "exact_match": score_exact_match,
    "f1": score_f1,
    "rouge1": score_rouge1,
    "rouge2": score_rouge2,
    "rougeL": score_rouge_l,
    "bleu": score_bleu,
    "chrf": score_chrf,
    "bertscore": score_bertscore,
}
"""Name -> function(answers, references) -> one score an item. bertscore takes ``model`` and ``layer`` as well."""


def find_metric(name: str) -> TextMetric:
    """Return the metric of this name. Raises RunError naming those there are."""
    if name not in METRICS:
        raise RunError(f"no text metric '{name}'. Allowed: {', '.join(METRICS)}.{nearest(name, METRICS)}")
    return METRICS[name]


def _missing(package: str, what: str) -> MissingPackage:
    return MissingPackage(f"{what} needs the package {package}, which is not installed. Do: pip install 'ragtune[metrics]'")
