"""Vectors: exact whatever the kind under a filter, equal scores by row, what is refused; BM25 against bm25s."""

from __future__ import annotations

from pathlib import Path

import bm25s
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtune.errors import IndexFolderError, ModelError
from ragtune.retrieval import dense, lexical
from ragtune.retrieval.codes import MANY, choose_kind, encode, make_flat
from ragtune.retrieval.dense import Dense, build_dense, open_dense, read_vectors, search_dense
from ragtune.retrieval.lexical import build_lexical, open_lexical, score_lexical, search_lexical, tokenise

DIMENSION = 32


def clustered(rows: int, seed: int = 0) -> np.ndarray:
    """Unit vectors around a few centres, some of them equal."""
    centres = np.random.default_rng(99).normal(size=(12, DIMENSION))
    draws = np.random.default_rng(seed)
    vectors = centres[draws.integers(0, 12, rows)] + 0.6 * draws.normal(size=(rows, DIMENSION))
    equal = min(20, rows // 2)
    vectors[rows // 2 : rows // 2 + equal] = vectors[:equal]
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module", params=["flat", "ivf", "hnsw"])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dense:
    folder = tmp_path_factory.mktemp(request.param)
    build_dense(clustered(6000), folder, request.param)
    index = open_dense(folder, 6000)
    assert index.kind == request.param
    return index


def brute(index: Dense, question: np.ndarray, k: int, keep: np.ndarray) -> list[int]:
    scores = np.round(np.asarray(read_vectors(index)) @ question, 6)
    return sorted(np.flatnonzero(keep).tolist(), key=lambda row: (-scores[row], row))[:k]


@given(seed=st.integers(0, 10**6), share=st.sampled_from([0.001, 0.01, 0.2, 0.6, 0.99, 1.0]), k=st.sampled_from([1, 7, 60]))
@settings(max_examples=30)
def test_exact_under_every_filter(opened: Dense, seed: int, share: float, k: int) -> None:
    keep = np.random.default_rng(seed).random(opened.ntotal) < share
    question = clustered(1, seed)
    found = search_dense(opened, question, k, keep)[0]
    wanted = brute(opened, question[0], k, keep)
    scores = np.asarray(read_vectors(opened)) @ question[0]
    assert len(found) == len(wanted)
    assert np.allclose([score for _, score in found], scores[wanted], atol=2e-6)
    assert all(keep[row] for row, _ in found)


def test_a_filter_changes_no_score(opened: Dense) -> None:
    question = clustered(1, 5)
    without = dict(search_dense(opened, question, 50)[0])
    for share in (0.02, 0.9):
        kept = dict(search_dense(opened, question, 50, np.random.default_rng(1).random(opened.ntotal) < share)[0])
        assert all(without[row] == score for row, score in kept.items() if row in without)


def test_without_a_filter(opened: Dense) -> None:
    questions = clustered(50, 9)
    every = np.ones(opened.ntotal, dtype=bool)
    shares = []
    for question, found in zip(questions, search_dense(opened, questions, 10)):
        wanted = brute(opened, question, 10, every)
        shares.append(len({row for row, _ in found} & set(wanted)) / 10)
        if opened.kind == "flat":
            assert np.allclose([s for _, s in found], (np.asarray(read_vectors(opened)) @ question)[wanted], atol=2e-6)
    assert np.mean(shares) >= (1 if opened.kind == "flat" else 0.9)


def test_many_equal_vectors_come_in_the_order_of_rows(tmp_path: Path) -> None:
    """More equal scores than are looked at first: the scan goes on until none is left out."""
    vectors = np.repeat(clustered(3), 2000, axis=0)
    build_dense(vectors, tmp_path)
    found = search_dense(open_dense(tmp_path, 6000), vectors[:1], 5)[0]
    assert [row for row, _ in found] == [0, 1, 2, 3, 4]
    assert [row for row, _ in search_dense(open_dense(tmp_path, 6000), vectors[-1:], 3)[0]] == [4000, 4001, 4002]


def test_more_asked_for_than_there_is(opened: Dense) -> None:
    assert len(search_dense(opened, clustered(1), 100_000, np.ones(opened.ntotal, dtype=bool))[0]) == opened.ntotal
    assert search_dense(opened, clustered(1), 5, np.zeros(opened.ntotal, dtype=bool)) == [[]]


def test_codes_stay_within_their_residual() -> None:
    vectors = clustered(500)
    vectors[:, 3] = 0
    scale, residual = encode(vectors, "flat")
    flat = make_flat(vectors, scale)
    apart = np.linalg.norm(vectors - flat.reconstruct_n(0, 500) * scale, axis=1)
    assert 0 < apart.max() <= residual + 1e-6 < 0.05
    question = clustered(1, 3)
    scores, rows = flat.search(question * scale, 500)
    assert np.abs(scores[0] - (vectors @ question[0])[rows[0]]).max() <= residual


def test_exact_vectors_for_rebuilds(opened: Dense) -> None:
    wanted = clustered(6000)
    assert np.array_equal(opened.reconstruct(17), wanted[17])
    assert np.array_equal(opened.reconstruct_batch([5, 2]), wanted[[5, 2]])
    assert np.array_equal(read_vectors(opened), wanted)
    assert not read_vectors(opened).flags.owndata  # mapped, not loaded


def test_an_index_written_in_float32_still_opens(tmp_path: Path) -> None:
    faiss = dense.import_faiss()
    old = faiss.IndexFlatIP(DIMENSION)
    old.add(clustered(3000))
    faiss.write_index(old, str(tmp_path / dense.FILE))
    index = open_dense(tmp_path, 3000)
    assert np.array_equal(read_vectors(index), clustered(3000))
    assert [row for row, _ in search_dense(index, clustered(3000)[40:41], 1)[0]] == [40]


def test_kinds() -> None:
    assert [choose_kind("auto", rows) for rows in (0, MANY - 1, MANY)] == ["flat", "flat", "hnsw"]
    assert [choose_kind("hnsw", rows) for rows in (10, 5000)] == ["flat", "hnsw"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 0.0])
def test_vectors_that_are_none(tmp_path: Path, bad: float) -> None:
    vectors = clustered(100)
    vectors[70] = bad
    with pytest.raises(ModelError, match=r"1 vectors, the first of row 70, are not numbers or of length 0"):
        build_dense(vectors, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_question_of_another_dimension(opened: Dense) -> None:
    with pytest.raises(IndexFolderError, match="the question's vector has 8 numbers, those of the index have 32"):
        search_dense(opened, np.ones((1, 8), dtype=np.float32), 3)


def test_codes_of_other_vectors_are_refused(tmp_path: Path) -> None:
    build_dense(clustered(50), tmp_path)
    np.save(tmp_path / dense.EXACT, clustered(49))
    with pytest.raises(IndexFolderError, match="50 codes of 32 numbers for 49 vectors of 32"):
        open_dense(tmp_path, 49)


WORDS = st.lists(st.sampled_from("sales sale cost 2021 4,210 the equipment equipments what's naïve".split()), max_size=12)


@given(texts=st.lists(WORDS, min_size=1, max_size=30), question=WORDS, k=st.integers(1, 40))
@settings(max_examples=60)
def test_bm25_against_bm25s(tmp_path_factory: pytest.TempPathFactory, texts: list, question: list, k: int) -> None:
    folder = tmp_path_factory.mktemp("lexical")
    build_lexical([" ".join(words) for words in texts], folder)
    index = open_lexical(folder)
    found = search_lexical(index, [" ".join(question)], k)[0]
    rival = bm25s.BM25.load(str(folder / "lexical"), allow_pickle=False, show_progress=False)
    known = [stem for stem in tokenise(" ".join(question)) if stem in index.vocab_dict]
    scores = rival.get_scores(known) if known else np.zeros(len(texts))
    wanted = sorted(np.flatnonzero(scores > 0).tolist(), key=lambda row: (-round(float(scores[row]), 5), row))[:k]
    assert len(found) == len(wanted)
    assert np.allclose([score for _, score in found], scores[wanted], atol=1e-5)

    own = bm25s.BM25(backend="numpy")
    if any(map(tokenise, map(" ".join, texts))):
        own.index(([[index.vocab_dict[s] for s in tokenise(" ".join(t))] for t in texts], dict(index.vocab_dict)),
                  create_empty_token=False, show_progress=False)
        for name in ("data", "indices", "indptr"):
            assert np.array_equal(own.scores[name], index.scores[name]), name


def test_tokens_are_taken_over(tmp_path: Path) -> None:
    """Rows in another order, one left out, one new: the same bytes as from the texts alone."""
    first = ["Net sales rose to 4,210.", "Cost of sales fell.", "", "Equipment was bought."]
    second = [first[3], "Something new about sales.", first[0], ""]
    for name, texts, rows in (("old", first, None), ("fresh", second, None), ("merged", second, [3, None, 0, 2])):
        (tmp_path / name).mkdir()
        build_lexical(texts, tmp_path / name, open_lexical(tmp_path / "old") if rows else None, rows)
    for path in (tmp_path / "fresh" / "lexical").iterdir():
        assert path.read_bytes() == (tmp_path / "merged" / "lexical" / path.name).read_bytes(), path.name


@pytest.mark.parametrize("share", [0.001, 0.05, 0.9, None])
def test_bm25_under_a_filter(tmp_path: Path, share: float | None) -> None:
    draws = np.random.default_rng(3)
    words = [f"word{number}" for number in range(40)]
    texts = [" ".join(draws.choice(words, 8)) for _ in range(5000)]
    build_lexical(texts, tmp_path)
    index = open_lexical(tmp_path)
    keep = None if share is None else draws.random(5000) < share
    every = search_lexical(index, ["word1 word2 word2 word7"], 5000)[0]
    wanted = [(row, score) for row, score in every if keep is None or keep[row]][:10]
    found = search_lexical(index, ["word1 word2 word2 word7"], 10, keep)[0]
    assert [row for row, _ in found] == [row for row, _ in wanted]
    assert np.allclose([s for _, s in found], [s for _, s in wanted])
    kept = np.arange(5000) if keep is None else np.flatnonzero(keep)
    totals = score_lexical(index, "word1 word2 word2 word7", kept)
    assert {int(row): total for row, total in zip(kept, totals) if total} == {
        row: score for row, score in every if keep is None or keep[row]}


def test_words_sorted_in_parts_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draws = np.random.default_rng(2)
    texts = [" ".join(f"w{word}x" for word in draws.zipf(1.3, draws.integers(0, 30)) % 200) for _ in range(300)]
    for name, most in (("whole", 1 << 23), ("parts", 50)):
        monkeypatch.setattr(lexical, "_SORTED", most)
        (tmp_path / name).mkdir()
        build_lexical(texts, tmp_path / name)
    names = sorted(path.name for path in (tmp_path / "whole" / "lexical").iterdir())
    assert len(names) == 7
    for name in names:
        assert (tmp_path / "whole" / "lexical" / name).read_bytes() == (tmp_path / "parts" / "lexical" / name).read_bytes()


def test_damaged_words_are_refused(tmp_path: Path) -> None:
    build_lexical(["a word"], tmp_path)
    (tmp_path / "lexical" / "vocab.index.json").write_text("{")
    with pytest.raises(IndexFolderError, match="cannot be read"):
        open_lexical(tmp_path)


@given(rows=st.sets(st.integers(0, 299), max_size=300), steps=st.integers(1, 3))
@settings(deadline=None, max_examples=60)
def test_rows_are_scored_wherever_they_lie(tmp_path_factory: pytest.TempPathFactory, rows: set[int], steps: int) -> None:
    folder = tmp_path_factory.getbasetemp() / "scored"
    vectors = clustered(300)
    if not folder.exists():
        folder.mkdir()
        build_dense(vectors, folder)
    wanted = np.array(sorted({row // steps * steps for row in rows} | set(range(40, 40 + len(rows)))), dtype=np.int64)
    found = open_dense(folder, 300).score_rows(wanted, vectors[7])
    assert found.shape == wanted.shape
    assert np.allclose(found, vectors[wanted] @ vectors[7], atol=1e-6)
