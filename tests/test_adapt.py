"""ragtune adapt from questions to a version beside the index: accepted, refused, held apart, one clear error each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ragtune.cli.adapting import print_adapted
from ragtune.cli.main import ragtune
from ragtune.cli.terminal import run_guarded
from ragtune.datasets.questions import save_questions
from ragtune.datasets.split import draw_folds, join_questions
from ragtune.documents.pack import current_pack
from ragtune.errors import QuestionError, RecipeError
from ragtune.recipe.schema import Recipe
from ragtune.records import Evidence, Question
from ragtune.retrieval.adapter import adapter_for, find_version, open_adapter
from ragtune.retrieval.gate import Verdict
from ragtune.retrieval.index import build_index, open_index
from ragtune.retrieval.rerank import open_ranker
from ragtune.retrieval.trial import Trial
from ragtune.stages.adapt import ALL, FITTERS, run_adapt
from ragtune.stages.material import Fitted, gather_material

torch.set_num_threads(1)
COMPANIES = ("Acme", "Bolt", "Cork", "Dent", "Ember", "Flint")
# What a page says, and how a question calls it: no word in common, so only what is learned connects them.
TOPICS = (
    ("purchases property plant equipment", "capex"), ("inventories finished goods", "stock"),
    ("trade receivables customers", "debtors"), ("shares repurchased treasury", "buybacks"),
    ("income taxes provision", "fiscus"), ("employees headcount wages", "staff"),
    ("goodwill impairment acquired", "takeovers"), ("borrowings notes debentures", "leverage"),
)


def make_questions(shift: int = 0) -> list[Question]:
    """Questions by other words than the pages'; a shift that differs by company makes the evidence senseless."""
    return [
        Question(f"{company}-{page}-{way}", f"{way} {called} {company}", "yes",
                 (Evidence(f"{company.upper()}_2021_10K", 1 + (page - 1 + shift * number) % len(TOPICS)),))
        for number, company in enumerate(COMPANIES) for page, (_, called) in enumerate(TOPICS, start=1)
        for way in ("tell", "show", "give")
    ]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    docs = tmp_path / "docs"
    docs.mkdir()
    for company in COMPANIES:
        (docs / f"{company.upper()}_2021_10K.txt").write_text("\f".join(f"{said} section {company}" for said, _ in TOPICS))
    build_index(make_recipe(tmp_path), tmp_path / "work/t/index")
    save_questions(tmp_path / "questions.jsonl", make_questions())
    return tmp_path


def make_recipe(home: Path, dataset: Any = None, **adapting: Any) -> Recipe:
    return Recipe.model_validate({
        "name": "t", "work": str(home / "work"), "documents": {"folder": str(home / "docs"), "workers": 1},
        "index": {"embedder": "hash", "context_line": False}, "retrieval": {"method": "dense", "rerank": "none"},
        "dataset": {"questions": str(home / "questions.jsonl"), "split_by": "company", **(dataset or {})},
        "adapting": {"k": 1, "lr": 0.01, "pull": 0.0, "epochs": 20, "folds": 3, **adapting},
    })


def test_what_raises_recall_is_written_as_a_version_and_used(home: Path) -> None:
    recipe, told = make_recipe(home), list[str]()
    summary = run_adapt(recipe, report=lambda task, done, total: told.append(task))
    part = summary.parts[0]
    assert summary.is_accepted
    assert (summary.questions, summary.groups, summary.left_out) == (144, 6, {})
    right = next(row for row in part.recall if (row.scope, row.k) == ("document", 1))
    assert right.after > right.before + 0.3
    assert (right.n, right.p < 0.001) == (144, True)
    assert part.facts["by_group"]["Acme"]["n"] == 24
    root = home / "work/t/adapter"
    assert Path(part.folder) == root / "v1" == find_version(root)
    assert {"asking the index by words", "mining negatives", "measuring linear", "fitting the adapter"} <= set(told)

    index = open_index(home / "work/t/index")
    manifest = json.loads((root / "v1/manifest.json").read_text())
    assert (manifest["index_id"], manifest["fingerprint"], manifest["adapter"]) == (index.id, "hash:256", "linear")
    assert manifest["questions"]["count"] == 144
    assert manifest["recall"] == [row.to_dict() for row in part.recall]
    adapter = adapter_for("auto", index.folder, index.embedder.fingerprint)
    assert adapter is not None
    pages = index.embedder.embed_passages([f"{said} section" for said, _ in TOPICS])
    questions = index.embedder.embed_questions([f"tell {called} Gale" for _, called in TOPICS])
    rights = [(vectors @ pages.T).argmax(axis=1) == range(len(TOPICS))
              for vectors in (questions, adapter.transform(questions))]
    assert rights[0].mean() < 0.5
    assert rights[1].mean() > 0.7


def test_versions_are_kept_and_out_takes_another_place(home: Path) -> None:
    recipe = make_recipe(home, kinds=["linear", "residual"])
    first, second = run_adapt(recipe, out=home / "out"), run_adapt(recipe, out=home / "out")
    assert [Path(s.parts[0].folder).name for s in (first, second)] == ["v1", "v2"]
    assert find_version(home / "out/adapter") == home / "out/adapter/v2"
    assert set(first.parts[0].facts["tried"]) == {"linear", "residual"}
    assert not (home / "work/t/adapter").exists()
    weights = [open_adapter(home / "out/adapter" / name, "hash:256").weights for name in ("v1", "v2")]
    assert all(weights[0][name].tobytes() == weights[1][name].tobytes() for name in weights[0])


def test_what_does_not_raise_recall_is_refused_and_leaves_nothing(home: Path) -> None:
    save_questions(home / "shuffled.jsonl", make_questions(shift=3))
    before = sorted(str(path) for path in home.rglob("*"))
    summary = run_adapt(make_recipe(home), questions=home / "shuffled.jsonl")
    part = summary.parts[0]
    assert not summary.is_accepted
    assert (part.is_accepted, part.folder) == (False, "")
    assert part.verdict.startswith("refused, recall on held-out questions")
    assert sorted(str(path) for path in home.rglob("*")) == before


def test_questions_left_out_are_counted_by_reason(home: Path) -> None:
    (home / "work/t/dataset").mkdir()
    save_questions(home / "work/t/dataset/questions_test.jsonl", [make_questions()[0]])
    more = [Question("none", "x", "y"), Question("gone", "x", "y", (Evidence("NOBODY", 1),)),
            Question("page", "x", "y", (Evidence("CORK_2021_10K", 99),))]
    save_questions(home / "all.jsonl", [*make_questions(), *more])
    recipe = make_recipe(home, {"questions": str(home / "all.jsonl"), "where": "company != 'Flint'",
                                "test_where": "company = 'Ember'"})
    material = gather_material(recipe, open_index(home / "work/t/index"))
    assert set(material.parts) == {"Bolt", "Cork", "Dent"}
    assert material.left_out == {"kept apart for evaluation": 48, "outside dataset.where": 24, "without evidence": 1,
                                 "document not in the index": 1, "page without text": 1}
    assert sorted(n for fold in material.folds for n in fold) == list(range(72))


def test_fused_search_is_judged_as_such_and_weights_are_tried(home: Path) -> None:
    recipe = make_recipe(home)
    fused = recipe.model_copy(update={"retrieval": recipe.retrieval.model_copy(update={"method": "fused"})})
    part = run_adapt(fused).parts[0]
    weights = part.facts["lexical_weights"]
    assert list(weights) == ["0.0", "0.1", "0.25", "0.5", "1.0"]
    assert weights["1.0"] == {row.scope: row.after for row in part.recall if row.k == 1}
    dense = {row.scope: row.after for row in run_adapt(recipe, out=home / "dense").parts[0].recall if row.k == 1}
    assert weights["0.0"] == dense


def test_weights_of_the_fusion_are_fitted_where_they_help(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_questions(home / "questions.jsonl", [
        Question(f"{company}-{page}", f"{said} {company}", "yes", (Evidence(f"{company.upper()}_2021_10K", page),))
        for company in COMPANIES for page, (said, _) in enumerate(TOPICS, start=1)])
    recipe = make_recipe(home)
    changed = {"method": "fused", "dense_weight": 2.0}
    fused = recipe.model_copy(update={"retrieval": recipe.retrieval.model_copy(update=changed)})
    part = run_adapt(fused, "weights").parts[0]
    assert not part.is_accepted  # both searchers find all: nothing to gain
    assert part.facts["settings"] == {"retrieval.dense_weight": 2.0, "retrieval.lexical_weight": 1.0}
    find = Trial.find_dense
    monkeypatch.setattr(Trial, "find_dense", lambda *arguments: [found[1:] for found in find(*arguments)])  # a bad one
    summary = run_adapt(fused, "weights")
    part = summary.parts[0]
    assert part.is_accepted
    assert part.facts["settings"]["retrieval.dense_weight"] < part.facts["settings"]["retrieval.lexical_weight"]
    assert (part.folder, (home / "work/t/weights").exists()) == ("", False)
    print_adapted(summary)


def test_a_ranked_search_is_judged_with_its_ranker(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By vectors alone the adapter would pass; a ranker that looks at words only sees nothing of it."""
    root = home / "ranker"
    root.mkdir()
    (root / "ranker.json").write_text(json.dumps({"weights": {"lexical": 1.0}, "fitted_on": {}}))
    recipe = make_recipe(home)
    ranked = {"rerank": "ranker", "ranker": str(root), "method": "lexical"}
    part = run_adapt(recipe.model_copy(update={"retrieval": recipe.retrieval.model_copy(update=ranked)})).parts[0]
    assert not part.is_accepted
    assert all((row.gained, row.lost) == (0, 0) for row in part.recall)
    (root / "ranker.json").write_text(json.dumps({"weights": {"dense": 1.0}, "fitted_on": {}}))
    open_ranker.cache_clear()
    part = run_adapt(recipe.model_copy(update={"retrieval": recipe.retrieval.model_copy(update=ranked)})).parts[0]
    assert part.is_accepted
    assert "lexical_weights" not in part.facts


@pytest.mark.parametrize(
    ("what", "changes", "error", "says"),
    [
        ("adaptor", {}, RecipeError, r"--what adaptor: allowed are adapter, .*and all\. Did you mean 'adapter'"),
        ("adapter", {"retrieval": {"method": "lexical"}}, RecipeError, "uses no vectors"),
        ("adapter", {"dataset": {"where": "company in ('Acme', 'Bolt')", "split_by": "company"}}, QuestionError,
         r"48 of 144 questions can be used \(96 outside dataset.where\), of 2 group\(s\) by 'company'; at least 3"),
        ("adapter", {"adapting": {"questions": "nowhere.jsonl"}}, QuestionError, "no question file nowhere.jsonl"),
    ],
)
def test_what_cannot_be_fitted(home: Path, what: str, changes: dict[str, Any], error: type[Exception], says: str) -> None:
    values = make_recipe(home).model_dump()
    for section, fields in changes.items():
        values[section].update(fields)
    with pytest.raises(error, match=says):
        run_adapt(Recipe.model_validate(values), what)
    assert not (home / "work/t/adapter").exists()


def test_fitting_is_done_in_the_pack_of_the_index(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_index(make_recipe(home).model_copy(update={"pack": "plain"}), home / "plain/index")
    seen = []
    monkeypatch.setitem(FITTERS, "adapter", lambda material, root: seen.append(current_pack().name) or Fitted(
        "adapter", Verdict(False, "refused", ()), None))
    run_adapt(make_recipe(home, {"split_by": "document"}), index=home / "plain/index")
    assert seen == ["plain"]


def test_all_takes_every_fitter_in_turn(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit, asked = FITTERS["adapter"], list[Path]()

    def record(material: Any, root: Path) -> Any:
        asked.append(root)
        return fit(material, root)

    for name in FITTERS:
        monkeypatch.setitem(FITTERS, name, record)
    summary = run_adapt(make_recipe(home), "all")
    assert [part.what for part in summary.parts] == list(ALL)
    assert asked == [home / "work/t" / name for name in ALL]


def test_folds_hold_whole_parts_and_joined_groups_are_one() -> None:
    parts = ["a"] * 5 + ["b"] * 4 + ["c"] * 3 + ["d"] * 1
    folds = draw_folds(parts, 3, 0)
    assert sorted(len(fold) for fold in folds) == [4, 4, 5]
    assert sorted(n for fold in folds for n in fold) == list(range(13))
    assert all(len({parts[n] for n in one} & {parts[n] for n in other}) == 0 for one in folds for other in folds
               if one is not other)
    assert len(draw_folds(parts, 9, 0)) == 4
    questions = [Question(str(n), "x", "y", tuple(Evidence(name, 1) for name in names))
                 for n, names in enumerate((["a"], ["a", "b"], ["b"], ["c"]))]
    assert join_questions(questions, lambda q: [e.document for e in q.evidence]) == ["a", "a", "a", "c"]


def test_command(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    (home / "r.yaml").write_text(json.dumps(make_recipe(home).model_dump(mode="json")))
    assert run_guarded(ragtune, ["adapt", "--recipe", "r.yaml"]) == 0
    out, err = capsys.readouterr()
    assert "right document        1" in out
    assert "Accepted, recall on held-out questions rises" in out
    assert "In the right document it rises in 6 of 6 groups." in out
    assert "Use it with retrieval.adapter=auto" in out
    assert "measuring linear" in err
    save_questions(home / "shuffled.jsonl", make_questions(shift=3))
    assert run_guarded(ragtune, ["adapt", "--recipe", "r.yaml", "--questions", "shuffled.jsonl", "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["is_accepted"] is False
    assert "the gate refused what was fitted, and nothing was written" in err
    assert [path.name for path in sorted((home / "work/t/adapter").iterdir()) if not path.name.startswith(".")] == [
        "current", "v1"]
