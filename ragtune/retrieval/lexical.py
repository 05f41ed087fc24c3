"""BM25 over the chunks: English stems, stop words left out, numbers and years kept as tokens.

The folder has the format of bm25s (method 'lucene'), which can open it; it is written and searched here with array
operations, six times as fast. Beside it lie the tokens of each text, so that a later build tokenises only new texts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragtune.errors import IndexFolderError
from ragtune.retrieval.dense import Found, best_rows

if TYPE_CHECKING:
    import numpy as np

FOLDER = "lexical"
TOKENS = "tokens-1"  # raise the number when texts are tokenised in another way: older tokens are then not taken over
K1, B = 1.5, 0.75
_BLOCK = 64
_SORTED = 1 << 23  # occurrences of words that are sorted at once while building
_WORD = re.compile(r"\d+(?:[.,]\d+)+|[^\W_]+(?:['’][^\W_]+)*")


@lru_cache(maxsize=1)
def _tools() -> tuple[Any, frozenset[str]]:
    """Return the stemmer and the stop words, among them the words questions are made of."""
    import Stemmer
    from bm25s.stopwords import STOPWORDS_EN_PLUS

    return Stemmer.Stemmer("english"), frozenset(STOPWORDS_EN_PLUS)


@lru_cache(maxsize=200_000)
def stem_of(word: str) -> str | None:
    """Return the stem of a word in small letters, None for a stop word; ``4,210`` gives 4210."""
    stemmer, stop_words = _tools()
    word = word.replace(",", "").replace("’", "'")
    return None if word in stop_words else str(stemmer.stemWord(word))


def tokenise(text: str) -> list[str]:
    """Return the text's stems: ``Net sales rose to $4,210 in 2021`` gives net, sale, rose, 4210, 2021."""
    return [stem for stem in map(stem_of, _WORD.findall(text.lower())) if stem is not None]


@dataclass(frozen=True)
class Lexical:
    """A BM25 index opened for search; row n is chunk row n. The names are those of bm25s."""

    vocab_dict: dict[str, int]
    scores: dict[str, Any]
    """'data' (float32) and 'indices' (rows, int32) of each token between 'indptr' of it and of the next; 'num_docs'."""
    tokens: np.ndarray | None
    """The tokens of all texts, one text after the other, int32; none in an index of another tokeniser."""
    ends: np.ndarray | None
    """Where each text ends in ``tokens``, int64, shape (chunks,)."""

    def tokens_of(self, row: int) -> np.ndarray:
        """Return the tokens of a text."""
        assert self.tokens is not None
        assert self.ends is not None
        return self.tokens[(self.ends[row - 1] if row else 0) : self.ends[row]]


def build_lexical(
    texts: Sequence[str], folder: Path, earlier: Lexical | None = None, taken: Sequence[int | None] | None = None
) -> None:
    """Write the BM25 index of the texts into ``folder/lexical``: arrays and JSON, no pickle.

    ``taken`` names for each text the row of ``earlier`` that holds the same text, None for a new one.
    """
    import numpy as np

    has_tokens = earlier is not None and earlier.tokens is not None
    vocabulary = {word: token for word, token in earlier.vocab_dict.items() if word} if earlier and has_tokens else {}
    parts: list[np.ndarray] = []
    for position, text in enumerate(texts):
        row = taken[position] if taken and has_tokens else None
        if earlier is not None and row is not None:
            parts.append(earlier.tokens_of(row))
        else:
            parts.append(np.array([vocabulary.setdefault(stem, len(vocabulary)) for stem in tokenise(text)], dtype=np.int32))
    tokens = np.concatenate(parts).astype(np.int32) if parts else np.zeros(0, dtype=np.int32)
    ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
    tokens, words = _renumber(tokens, list(vocabulary))
    _write(folder / FOLDER, tokens, ends, words)


def _renumber(tokens: np.ndarray, words: list[str]) -> tuple[np.ndarray, list[str]]:
    """Number the words in the order first seen, so that the same texts give the same bytes; leave out unused ones."""
    import numpy as np

    first = np.full(len(words), len(tokens), dtype=np.int64)
    first[tokens[::-1]] = np.arange(len(tokens))[::-1]
    order = np.argsort(first, kind="stable")[: int((first < len(tokens)).sum())]
    numbers = np.zeros(len(words), dtype=np.int32)
    numbers[order] = np.arange(len(order), dtype=np.int32)
    return numbers[tokens], [words[position] for position in order]


def _write(folder: Path, tokens: np.ndarray, ends: np.ndarray, words: list[str]) -> None:
    """Write postings with their scores as bm25s names them, and the tokens."""
    import bm25s
    import numpy as np

    lengths = np.diff(ends, prepend=0)
    texts = len(ends)
    mean = max(1e-9, float(lengths.mean())) if texts else 1.0
    norms = K1 * ((1 - B) + B * lengths / mean)
    spread, found_rows, found_scores = np.zeros(len(words) + 1, dtype=np.int64), [], []  # bm25s ends with an empty word
    for first, last in _token_ranges(tokens, len(words)):
        rows, counts, held = _count_pairs(tokens, ends, first, last)
        spread[first:last] = held
        idf = np.log(1 + (texts - held + 0.5) / (held + 0.5)).astype(np.float32)
        found_rows.append(rows)
        found_scores.append((np.repeat(idf, held) * counts / (norms[rows] + counts)).astype(np.float32))
    rows = np.concatenate([*found_rows, np.zeros(0, dtype=np.int32)])
    data = np.concatenate([*found_scores, np.zeros(0, dtype=np.float32)])
    folder.mkdir(exist_ok=True)
    for name, array in (("data.csc", data), ("indices.csc", rows),
                        ("indptr.csc", np.concatenate([[0], np.cumsum(spread)]).astype(np.int64))):
        np.save(folder / f"{name}.index.npy", array, allow_pickle=False)
    np.save(folder / f"{TOKENS}.npy", tokens, allow_pickle=False)
    np.save(folder / "ends.npy", ends.astype(np.int64), allow_pickle=False)
    vocabulary = {word: number for number, word in enumerate([*words, ""])}
    (folder / "vocab.index.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "params.index.json").write_text(json.dumps({
        "k1": K1, "b": B, "delta": 0.5, "method": "lucene", "idf_method": "lucene", "dtype": "float32", "int_dtype": "int32",
        "num_docs": texts, "version": bm25s.__version__, "backend": "numpy"}) + "\n", encoding="utf-8")


def _token_ranges(tokens: np.ndarray, words: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of tokens that stand ``_SORTED`` times together at most, if more than one: memory is bounded by them."""
    import numpy as np

    until = np.cumsum(np.bincount(tokens, minlength=words))
    first = 0
    while first < words:
        before = until[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(until, before + _SORTED, side="right")))
        yield first, last
        first = last


def _count_pairs(tokens: np.ndarray, ends: np.ndarray, first: int, last: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows of each token of a range, rising, and how often it stands there, then in how many rows each stands."""
    import numpy as np

    places = np.flatnonzero((tokens >= first) & (tokens < last))
    many = max(1, len(ends))
    keys = (tokens[places].astype(np.int64) - first) * many + np.searchsorted(ends, places, side="right")
    keys.sort()
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    counts = np.diff(starts, append=len(keys))
    keys = keys[starts]
    return (keys % many).astype(np.int32), counts, np.bincount(keys // many, minlength=last - first)


def open_lexical(folder: Path) -> Lexical:
    """Return the BM25 index of a folder, its arrays mapped and not loaded. Raises IndexFolderError where it is damaged."""
    import numpy as np

    def read(name: str) -> np.ndarray:
        # A plain view of the mapped bytes: each slice of a memmap object costs ten times that of an array.
        return np.asarray(np.load(folder / FOLDER / f"{name}.npy", mmap_mode="r", allow_pickle=False))

    try:
        vocabulary: dict[str, int] = json.loads((folder / FOLDER / "vocab.index.json").read_text(encoding="utf-8"))
        parameters = json.loads((folder / FOLDER / "params.index.json").read_text(encoding="utf-8"))
        scores = {name: read(f"{name}.csc.index") for name in ("data", "indices", "indptr")}
        has_tokens = (folder / FOLDER / f"{TOKENS}.npy").is_file()
        tokens, ends = (read(TOKENS), read("ends")) if has_tokens else (None, None)
    except (OSError, ValueError) as error:
        raise IndexFolderError(f"{folder / FOLDER} cannot be read ({error}). Build it again: ragtune index") from error
    return Lexical(vocabulary, {**scores, "num_docs": int(parameters["num_docs"])}, tokens, ends)


def _lowest(totals: np.ndarray, k: int) -> float:
    """Return a score above 0 that at least k rows reach: the k-th of the blocks' best, far cheaper than the k-th of all."""
    import numpy as np

    best = totals.reshape(-1, _BLOCK).max(axis=1)
    return max(float(np.partition(best, len(best) - k)[len(best) - k]) - 2e-6, 1e-12) if k < len(best) else 1e-12


def search_lexical(index: Lexical, questions: Sequence[str], k: int, keep: np.ndarray | None = None) -> list[Found]:
    """Return for each question the k rows of largest BM25 score among those ``keep`` marks; rows without a word of the
    question are no hits.
    """
    import numpy as np

    data, indices, indptr = (index.scores[name] for name in ("data", "indices", "indptr"))
    found: list[Found] = []
    for question in questions:
        spans = [(indptr[token], indptr[token + 1]) for stem in tokenise(question)
                 if (token := index.vocab_dict.get(stem)) is not None]
        if not spans:
            found.append([])
            continue
        rows = np.concatenate([indices[start:end] for start, end in spans])
        scores = np.concatenate([data[start:end] for start, end in spans])
        if keep is not None:
            kept = keep[rows]
            rows, scores = rows[kept], scores[kept]
        if 16 * len(rows) < index.scores["num_docs"]:
            rows, inverse = np.unique(rows, return_inverse=True)
            totals = np.bincount(inverse, scores, len(rows))
        else:
            totals = np.bincount(rows, scores, -(-index.scores["num_docs"] // _BLOCK) * _BLOCK)
            rows = np.flatnonzero(totals >= _lowest(totals, k))
            totals = totals[rows]
        found.append(best_rows(rows, totals, k))
    return found


def score_lexical(index: Lexical, text: str, rows: np.ndarray) -> np.ndarray:
    """Return the BM25 scores of these rows (rising) for a text's words, float64, shape (len(rows),)."""
    import numpy as np

    data, indices, indptr = (index.scores[name] for name in ("data", "indices", "indptr"))
    spans = [slice(indptr[token], indptr[token + 1]) for stem in tokenise(text)
             if (token := index.vocab_dict.get(stem)) is not None]
    totals = np.zeros(len(rows))
    if spans and 16 * len(rows) < index.scores["num_docs"]:  # few rows are looked up in each word's, which rise too
        for span in spans:
            places = np.minimum(np.searchsorted(indices[span], rows), span.stop - span.start - 1)
            totals += np.where(indices[span][places] == rows, data[span][places], np.float32(0))
    elif spans:
        found, scores = (np.concatenate([array[span] for span in spans]) for array in (indices, data))
        totals = np.bincount(found, scores, index.scores["num_docs"])[rows]
    return totals
