"""The evaluate stage on fakes: the ladder, the rungs, the log that goes on after a kill, the reports."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from ladder_fakes import COMPANIES, MemorySearcher, ReadingGenerator, chunks, questions

from ragtune.errors import QuestionError
from ragtune.evaluation.ladder.counts import CalculationCounts
from ragtune.evaluation.ladder.graded import Graded
from ragtune.evaluation.ladder.rungs import equals, keep_questions, open_rungs, oracle_hits
from ragtune.evaluation.reporting.report import render_table
from ragtune.evaluation.reporting.summary import EvaluationSummary
from ragtune.files import read_manifest
from ragtune.recipe.schema import Answering, Evaluation, Generator, Recipe, Retrieval
from ragtune.records import Chunk, Evidence, Question
from ragtune.stages.evaluate import NO_RUN, evaluate_models, open_baselines

RECIPE = Recipe(name="test", answering=Answering(guard="none"), retrieval=Retrieval(k=2))


def measure(
    folder: Path, recipe: Recipe = RECIPE, notes: tuple[str, ...] = (), **generators: ReadingGenerator
) -> EvaluationSummary:
    openers = {name: (lambda generator=generator: generator) for name, generator in generators.items()}
    return evaluate_models(recipe, questions(), MemorySearcher(), openers, folder, "index-1", notes=notes)


def rows_of(folder: Path) -> list[Graded]:
    return [Graded.from_dict(json.loads(line)) for line in (folder / "answers.jsonl").read_text().splitlines()]


def test_ladder_figures_and_shapes(tmp_path: Path) -> None:
    summary = measure(tmp_path / "e", base=ReadingGenerator(slip=2), tuned=ReadingGenerator()).to_dict()
    rungs = {(rung["model"], rung["setting"]): rung for rung in summary["ladder"]}
    assert list(rungs) == [(m, s) for m in ("base", "tuned") for s in ("closed_book", "retrieval", "oracle")]
    assert all(r["n"] == r["correct"] + r["wrong"] + r["refused"] for r in rungs.values())
    closed = rungs["base", "closed_book"]
    assert (closed["n"], closed["correct"], closed["refused"]) == (14, 1, 13)  # the unanswerable one is refused rightly
    tuned = rungs["tuned", "retrieval"]
    assert (tuned["n"], tuned["correct"]) == (13, 13)
    assert rungs["base", "oracle"]["wrong"] > 0
    assert tuned["interval"][0] < 1.0
    assert tuned["by_kind"]["flows"] == {"n": 4, "correct": 4, "wrong": 0, "refused": 0}
    test = {c["setting"]: c for c in summary["comparisons"]}["retrieval"]
    assert (test["a"], test["b"], test["test"]) == ("base", "tuned", "sign_flips")  # four documents
    assert test["only_b"] == rungs["base", "retrieval"]["wrong"]
    assert test["only_a"] == 0
    assert summary["recall"]["1"] == 1.0
    assert summary["recall_n"] == 12
    assert set(summary["ranking"]) == {"page", "document"}
    assert summary["ranking"]["page"]["recall@1"] <= summary["ranking"]["page"]["mrr"] <= 1.0
    assert summary["left_out"] == {"questions": ["q-lost"], "documents": ["LOST_2021_10K"]}
    json.dumps(summary)


def test_folder_explains_itself(tmp_path: Path) -> None:
    summary = measure(tmp_path / "e", base=ReadingGenerator(), notes=(NO_RUN,))
    manifest = read_manifest(tmp_path / "e", "evaluation")
    assert manifest["index_id"] == "index-1"
    assert manifest["recipe"]["name"] == "test"
    assert {"answers.jsonl", "summary.json", "report.md", "report.html"} <= set(manifest["files"])
    row = rows_of(tmp_path / "e")[14]
    assert (row.setting, row.question_id, row.outcome) == ("retrieval", "q01", "correct")
    first = row.passages[0]
    assert (first.number, first.document, first.page, first.rank) == (1, "ACME_2021_10K", 1, 1)
    assert (row.citations[0].document, row.citations[0].page) == ("ACME_2021_10K", 1)
    assert summary.comparisons == ()
    assert NO_RUN in render_table(summary)


def test_both_models_see_the_same_passages_and_the_search_runs_once(tmp_path: Path) -> None:
    searcher, base, tuned = MemorySearcher(), ReadingGenerator(), ReadingGenerator()
    evaluate_models(RECIPE, questions(), searcher, {"base": lambda: base, "tuned": lambda: tuned}, tmp_path / "e")
    assert base.prompts == tuned.prompts
    text = questions()[0].text
    assert searcher.searches.count(text) == 2  # once over all documents, once on the oracle page


def test_two_evaluations_are_the_same_but_for_the_clock(tmp_path: Path) -> None:
    texts = []
    for name in ("one", "two"):
        measure(tmp_path / name / "e", base=ReadingGenerator(slip=3), tuned=ReadingGenerator())
        page = (tmp_path / name / "e" / "report.html").read_text()
        texts.append(re.sub(r"[\d.]+ s an answer", "", page))
    assert texts[0] == texts[1]


def test_goes_on_after_ctrl_c(tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(update={"generator": RECIPE.generator.model_copy(update={"batch_size": 1})})
    with pytest.raises(KeyboardInterrupt):
        measure(tmp_path / "e", recipe, base=ReadingGenerator(die_after=18))
    assert not (tmp_path / "e").exists()
    again = ReadingGenerator()
    summary = measure(tmp_path / "e", recipe, base=again)
    assert 0 < again.asked <= 40 - 16  # batches of four: at least sixteen were kept
    assert [rung.n for rung in summary.ladder] == [14, 13, 13]
    whole = measure(tmp_path / "whole", recipe, base=ReadingGenerator())
    assert summary.to_dict()["ladder"] == whole.to_dict()["ladder"]
    rows, fresh = rows_of(tmp_path / "e"), rows_of(tmp_path / "whole")
    assert [(r.setting, r.question_id, r.answer) for r in rows] == [(r.setting, r.question_id, r.answer) for r in fresh]


def partial_of(tmp_path: Path) -> Path:
    (log,) = tmp_path.rglob("answers.jsonl")
    return log


def test_a_cut_off_line_is_asked_again(tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(update={"generator": RECIPE.generator.model_copy(update={"batch_size": 1})})
    with pytest.raises(KeyboardInterrupt):
        measure(tmp_path / "e", recipe, base=ReadingGenerator(die_after=18))
    log = partial_of(tmp_path)
    kept = log.read_text().count("\n")
    log.write_bytes(log.read_bytes()[:-20])  # a kill in the middle of a write
    again = ReadingGenerator()
    summary = measure(tmp_path / "e", recipe, base=again)
    assert again.asked == 40 - (kept - 1)
    assert [rung.n for rung in summary.ladder] == [14, 13, 13]


def test_another_recipe_starts_clean(tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(update={"generator": RECIPE.generator.model_copy(update={"batch_size": 1})})
    with pytest.raises(KeyboardInterrupt):
        measure(tmp_path / "e", recipe, base=ReadingGenerator(die_after=18))
    other = recipe.model_copy(update={"retrieval": Retrieval(k=1)})
    again = ReadingGenerator()
    measure(tmp_path / "e", other, base=again)
    assert again.asked == 40


def test_a_finished_evaluation_is_not_asked_again(tmp_path: Path) -> None:
    first = measure(tmp_path / "e", base=ReadingGenerator(slip=2)).to_dict()
    again = ReadingGenerator()
    second = measure(tmp_path / "e", base=again).to_dict()
    assert again.asked == 0
    assert {**first, "seconds": 0} == {**second, "seconds": 0}
    tuned = ReadingGenerator()
    measure(tmp_path / "e", base=again, tuned=tuned)  # a run has come: only it is asked
    assert (again.asked, tuned.asked) == (0, 40)
    other = ReadingGenerator()
    evaluate_models(RECIPE, questions(), MemorySearcher(), {"base": lambda: other}, tmp_path / "e", "another index")
    assert other.asked == 40
    changed = ReadingGenerator()
    evaluate_models(RECIPE, questions(), MemorySearcher(), {"base": lambda: changed}, tmp_path / "e", "another index",
                    {"base": "another model"})
    assert changed.asked == 40


def test_the_extractive_reader_is_a_row_with_its_own_test(tmp_path: Path) -> None:
    reader = ReadingGenerator(slip=2)
    summary = measure(tmp_path / "e", base=ReadingGenerator(slip=3), tuned=ReadingGenerator(), extractive=reader)
    assert [(r.model, r.setting) for r in summary.ladder[-3:]] == [
        ("extractive", "closed_book"), ("extractive", "retrieval"), ("extractive", "oracle")]  # fmt: skip
    told = summary.to_dict()
    assert [(c["a"], c["b"], c["setting"]) for c in told["against_baselines"]] == [
        ("extractive", "tuned", "retrieval"), ("extractive", "tuned", "oracle")]  # fmt: skip
    assert {(c["a"], c["b"]) for c in told["comparisons"]} == {("base", "tuned")}
    wrong = next(r.wrong for r in summary.ladder if (r.model, r.setting) == ("extractive", "oracle"))
    assert (told["against_baselines"][1]["only_b"], told["against_baselines"][1]["only_a"]) == (wrong, 0)
    sentence = next(s for s in summary.sentences() if "tuned against extractive" in s)
    for name in ("report.md", "report.html"):
        page = (tmp_path / "e" / name).read_text()
        assert sentence in page
        assert "Is tuned better than base and extractive?" in page
    assert sentence in render_table(summary)
    alone = measure(tmp_path / "alone", base=ReadingGenerator(), extractive=reader)
    assert {(a, b) for a, b, _, _ in alone.against_baselines} == {("extractive", "base")}
    assert "Is base better than extractive?" in (tmp_path / "alone" / "report.html").read_text()


def test_turning_the_baseline_on_asks_only_it(tmp_path: Path) -> None:
    off = RECIPE.model_copy(update={"evaluation": Evaluation(baselines=())})
    measure(tmp_path / "e", off, base=ReadingGenerator())
    again, reader = ReadingGenerator(), ReadingGenerator()
    measure(tmp_path / "e", RECIPE, base=again, extractive=reader)
    assert (again.asked, reader.asked) == (0, 40)


def test_a_recipe_names_its_baselines() -> None:
    assert list(open_baselines(RECIPE)) == ["extractive"]
    assert open_baselines(RECIPE)["extractive"]().name == "extractive"
    assert open_baselines(RECIPE.model_copy(update={"evaluation": Evaluation(baselines=())})) == {}
    assert open_baselines(RECIPE.model_copy(update={"generator": Generator(model="extractive")})) == {}


def test_one_index_from_files_to_ladder(tmp_path: Path) -> None:
    from ragtune.recipe.schema import Documents, Index
    from ragtune.retrieval.search import open_searcher
    from ragtune.stages.index import run_index

    folder = tmp_path / "documents"
    folder.mkdir()
    for company in COMPANIES:
        pages = [chunk.text for chunk in chunks() if chunk.document == company]
        (folder / f"{company}.txt").write_text("\f".join(pages))
    recipe = RECIPE.model_copy(update={"documents": Documents(folder=str(folder)), "index": Index(embedder="hash")})
    run_index(recipe, tmp_path / "index")
    searcher = open_searcher(tmp_path / "index", recipe.retrieval)
    summary = evaluate_models(recipe, questions(), searcher, {"base": ReadingGenerator}, tmp_path / "e", searcher.index.id)
    rungs = {rung.setting: rung for rung in summary.ladder}
    assert (rungs["oracle"].n, rungs["oracle"].correct) == (13, 13)
    assert summary.missing_documents == {"q-lost": ("LOST_2021_10K",)}
    assert summary.recall["5"] == 1.0
    oracle = {row.question_id: row for row in rows_of(tmp_path / "e") if row.setting == "oracle"}
    assert [(p.document, p.page) for p in oracle["q23"].passages] == [("COIL_2021_10K", 3)]


def test_oracle_shows_the_evidence_page_and_falls_back() -> None:
    asked = questions()[4]
    hits = oracle_hits(asked, MemorySearcher())
    assert [(h.chunk.document, h.chunk.page, h.rank, h.searcher) for h in hits] == [("BOLT_2021_10K", 2, 1, "oracle")]

    class Blind(MemorySearcher):
        def search(self, question: str, k: int, where: str | None = None) -> list:
            return []

    assert [h.chunk.page for h in oracle_hits(asked, Blind())] == [2]


def test_oracle_shows_the_best_of_every_page_first() -> None:
    asked = Question("q", "What were Net sales of ACME?", "5", (Evidence("ACME_2021_10K", 2), Evidence("ACME_2021_10K", 1)))
    assert [(h.chunk.page, h.rank) for h in oracle_hits(asked, MemorySearcher())] == [(2, 1), (1, 2)]


def test_unanswerable_questions_show_retrieval_on_the_oracle_rung() -> None:
    rungs = open_rungs(questions(), MemorySearcher(), ("retrieval", "oracle"), 2)
    assert rungs.shown["oracle"]["q-none"] == rungs.shown["retrieval"]["q-none"] != []
    assert set(rungs.shown["oracle"]) == set(rungs.shown["retrieval"])


def test_a_page_without_text_is_told(tmp_path: Path) -> None:
    stored = [chunk for chunk in chunks() if chunk.id != "ACME_2021_10K-1"]
    summary = evaluate_models(RECIPE, questions(), MemorySearcher(stored), {"base": ReadingGenerator}, tmp_path / "e")
    assert summary.pages_without_text == ("q01",)
    assert any("q01" in note for note in summary.notes)
    assert [rung.n for rung in summary.ladder] == [14, 13, 13]


def test_filter_and_limit_choose_questions() -> None:
    kept = keep_questions(questions(), MemorySearcher(), "document = 'BOLT_2021_10K'", 2)
    assert [question.id for question in kept] == ["q11", "q12"]
    assert equals("document", "O'Neil") == "document = 'O\\'Neil'"


def test_closed_book_alone_needs_no_index(tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(update={"evaluation": Evaluation(settings=("closed_book",))})
    summary = evaluate_models(recipe, questions(), None, {"base": ReadingGenerator}, tmp_path / "e")
    assert [(rung.setting, rung.n) for rung in summary.ladder] == [("closed_book", 14)]
    assert summary.recall == {}


def test_no_questions_and_double_ids_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(QuestionError, match="no questions"):
        evaluate_models(RECIPE, [], MemorySearcher(), {"base": ReadingGenerator}, tmp_path / "e")
    twice = [questions()[0]] * 2
    with pytest.raises(QuestionError, match="'q01' occurs 2 times"):
        evaluate_models(RECIPE, twice, MemorySearcher(), {"base": ReadingGenerator}, tmp_path / "e")
    assert not (tmp_path / "e").exists()


class Page(HTMLParser):
    """Collects ids, tags and outside references, and checks that tags close."""

    void = {"meta", "br", "link", "img", "path", "use", "rect", "line", "circle", "input"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.references: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.ids += [values["id"] or ""] if "id" in values else []
        self.references += [values[key] or "" for key in ("src", "href", "xlink:href", "data") if key in values]
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in self.void:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.void:
            assert self.open.pop() == tag


def test_html_is_self_contained_and_escapes_what_documents_say(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0, "eval_loss": 2.1}\n{"step": 9, "loss": 1.0}\n')
    evil = [Question("<script>alert(1)</script>", "What were <b>Net sales</b> of ACME_2021_10K | 2021?", "$4,210 million",
                     (Evidence("ACME_2021_10K", 1),), "<i>kind</i>")]
    openers = {"base": lambda: ReadingGenerator(), "tuned": lambda: ReadingGenerator()}
    evaluate_models(RECIPE, evil, MemorySearcher(), openers, tmp_path / "e", run=run)
    text = (tmp_path / "e" / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert all(reference.startswith("#") for reference in page.references)
    assert text.count("<script") == 1  # its own, whose hash the policy names
    assert "<b>Net" not in text
    assert "<i>kind" not in text
    for title in ("ladder-title", "recall-title", "curve-title"):
        assert title in page.ids
    assert "http://" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)
    assert "https://" not in text
    markdown = (tmp_path / "e" / "report.md").read_text()
    assert "<b>" not in markdown
    assert "ACME_2021_10K \\| 2021" in markdown


def test_table_for_the_terminal(tmp_path: Path) -> None:
    lines = render_table(measure(tmp_path / "e", base=ReadingGenerator(), tuned=ReadingGenerator())).split("\n")
    assert lines[0].split()[:3] == ["model", "setting", "n"]
    assert lines[2].split()[:4] == ["base", "retrieval", "13", "13"]
    assert any(line.startswith("Page recall over 12 questions: @1 1.00") for line in lines)
    assert any("LOST_2021_10K" in line for line in lines)


class CalculatingGenerator(ReadingGenerator):
    """Shows a growth calculation for each answer; ``result`` is what it takes it to be, ``read`` how it reads sales."""

    def __init__(self, result: str, read: str = "4,210") -> None:
        super().__init__()
        self.result = result
        self.read = read

    def _one(self, prompt: str) -> str:
        self.asked += 1
        return f"Net sales 2021: {self.read} [1]\n{self.read} / 3,900 - 1 = {self.result}\nAnswer: {self.result}"


def test_what_was_set_right_is_counted(tmp_path: Path) -> None:
    asked = [Question(f"q{n}", f"What was growth number {n}?", gold, (Evidence("ACME_2021_10K", 1),), "growth")
             for n, gold in enumerate(("7.9%", "7.9%", "12%", "8.5%"))]
    openers = {"base": lambda: CalculatingGenerator("8.5%"), "tuned": lambda: CalculatingGenerator("7.9%")}
    recipe = RECIPE.model_copy(update={"evaluation": Evaluation(settings=("oracle",), baselines=())})
    summary = evaluate_models(recipe, asked, MemorySearcher(), openers, tmp_path / "e")
    base, tuned = summary.ladder
    assert (base.correct, tuned.correct) == (2, 2)
    assert base.calculations == CalculationCounts(shown=4, right=0, corrected=4, rescued=2, spoiled=1)
    assert tuned.calculations == CalculationCounts(shown=4, right=4)
    rows = rows_of(tmp_path / "e")
    assert [(r.outcome, r.own_outcome) for r in rows[:4]] == [
        ("correct", "wrong"), ("correct", "wrong"), ("wrong", "wrong"), ("wrong", "correct")]
    assert {r.own_outcome for r in rows[4:]} == {""}
    line = ("Set right: base showed 4 calculations, 0 right by itself, 4 corrected; 0 misquoted rows and 0 verdicts put "
            "right; 2 answers correct only thanks to that. tuned showed 4 calculations, 4 right by itself, 0 corrected; "
            "0 misquoted rows and 0 verdicts put right; 0 answers correct only thanks to that.")
    assert line in render_table(summary).split("\n")
    assert summary.to_dict()["set_right"] == line
    assert summary.to_dict()["ladder"][0]["calculations"]["rescued"] == 2
    assert "| base | oracle page | 4 | 0 | 4 | 0 | 0 | 2 | 1 |" in (tmp_path / "e" / "report.md").read_text()
    assert 'id="h-set-right"' in (tmp_path / "e" / "report.html").read_text()


def test_misquoted_rows_are_counted_with_the_answers_they_decide(tmp_path: Path) -> None:
    asked = [Question("q0", "What was growth?", "7.9%", (Evidence("ACME_2021_10K", 1),), "growth")]
    openers = {"base": lambda: CalculatingGenerator("5.4%", read="4,110")}
    recipe = RECIPE.model_copy(update={"evaluation": Evaluation(settings=("oracle",), baselines=())})
    text = "Net sales 2021: 4,210\nNet sales 2020: 3,900"
    stored = [Chunk("c", "ACME_2021_10K", "ACME_2021_10K", text, 1, 1, 0, len(text))]
    (rung,) = evaluate_models(recipe, asked, MemorySearcher(stored), openers, tmp_path / "e").ladder
    assert rung.correct == 1
    assert rung.calculations == CalculationCounts(shown=1, right=1, corrected=0, misquoted=1, rescued=1)


def test_without_calculations_the_report_says_nothing_of_it(tmp_path: Path) -> None:
    summary = measure(tmp_path / "e", base=ReadingGenerator())
    assert "Set right" not in render_table(summary)
    assert "set right" not in (tmp_path / "e" / "report.md").read_text()
    assert "h-set-right" not in (tmp_path / "e" / "report.html").read_text()


def test_a_log_without_the_counts_is_read_and_counted(tmp_path: Path) -> None:
    asked = [Question("q", "What was growth?", "7.9%", (Evidence("ACME_2021_10K", 1),), "growth")]
    generator = CalculatingGenerator("8.5%")

    def measured() -> EvaluationSummary:
        return evaluate_models(RECIPE, asked, MemorySearcher(), {"base": lambda: generator}, tmp_path / "e")

    first = measured()
    log = tmp_path / "e" / "answers.jsonl"
    new = ("calculations", "calculations_right", "misquoted", "verdicts_corrected", "own_outcome")
    rows = [{key: value for key, value in json.loads(line).items() if key not in new}
            for line in log.read_text().splitlines()]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert {row.calculations for row in rows_of(tmp_path / "e")} == {0}
    again = measured()
    assert generator.asked == 3  # none was asked again
    assert again.ladder == first.ladder
    assert {row.calculations - row.calculations_right for row in rows_of(tmp_path / "e")} == {1}
