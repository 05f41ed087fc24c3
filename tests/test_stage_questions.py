"""ragtune questions as a whole: offline and through a chat model of LangChain, killed and resumed."""

from __future__ import annotations

import json
import re

import pytest
from dataset_fakes import CASH, PROSE, RIVAL, STATEMENT

from ragtune.cli.main import ragtune
from ragtune.cli.questions import show_time
from ragtune.cli.terminal import run_guarded
from ragtune.datasets.ask import ask_questions
from ragtune.datasets.questions import read_questions
from ragtune.errors import ModelError, QuestionError, RunError
from ragtune.recipe.load import load_recipe
from ragtune.stages.questions import Prices, run_questions

GOOD = {"question": "What was the net income of the company in fiscal 2021?", "answer": "$518 million",
        "quote": "Net income $ 518"}
WHY = {"question": "Why did net sales go up?", "answer": "Higher volumes and prices",
       "quote": "The increase was driven by higher volumes and by prices."}
PROPOSALS = (
    GOOD, WHY,
    {**GOOD, "question": "In fiscal 2021, what was the net income of the company?"},  # a duplicate
    {**GOOD, "answer": "$519 million"},
    {**GOOD, "question": "Was net income 518 in fiscal 2021?"},  # tells its answer
    {**WHY, "quote": "The rise was driven by volumes."},
    {**WHY, "question": "What does the passage above say of prices?"},
)


def write_reply(prompt: str) -> str:
    """Return what a good model and a bad one write about a page; broken forms for the cash flows."""
    if "Statements of Cash Flows" in prompt:
        return 'Sure! {"question": "What did Acme pay as dividends in 2020?", "answer": "$110 million", "quote": ' \
               '"Dividends paid (120) (110)"} {"question": "What'
    shown = [each for each in PROPOSALS if each["quote"].split(" $")[0] in prompt or each is PROPOSALS[5]]
    return "\n".join(map(json.dumps, shown))


def make_chat(asked: list[str], fails_at: int = 999):
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage
    from langchain_core.outputs import ChatGeneration, ChatResult

    class Fake(BaseChatModel):
        def _generate(self, messages, stop=None, run_manager=None, **kwargs):
            if len(asked) >= fails_at:
                raise ConnectionError("Connection refused")
            asked.append(messages[-1].content)
            return ChatResult(generations=[ChatGeneration(message=AIMessage(content=write_reply(messages[-1].content)))])

        @property
        def _llm_type(self):
            return "fake"

    return Fake()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with an index of two documents of three pages each, as the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "documents").mkdir()
    for name, statement in (("ACME_2021_10K", STATEMENT), ("ZENITH_2021_10K", RIVAL)):
        (tmp_path / f"documents/{name}.txt").write_text("\f".join((PROSE, statement, CASH)))
    (tmp_path / "r.yaml").write_text("name: t\nindex: {embedder: hash}\ngenerator: {model: echo, batch_size: 1}\n")
    assert run_guarded(ragtune, ["index", "--recipe", "r.yaml"]) == 0
    return tmp_path


@pytest.fixture
def chat(monkeypatch):
    """Let provider names open the fake; returns what it was asked, and lets it fail."""
    state = {"asked": [], "fails_at": 999}
    monkeypatch.setattr("langchain.chat_models.init_chat_model",
                        lambda *args, **kwargs: make_chat(state["asked"], state["fails_at"]))
    return state


def test_offline_questions_are_written_with_kinds_and_reasons(place, capsys) -> None:
    capsys.readouterr()
    assert run_guarded(ragtune, ["questions", "--recipe", "r.yaml", "--count", "40", "--out", "q.jsonl", "--json"]) == 0
    out, err = capsys.readouterr()
    summary = json.loads(out)
    questions = read_questions(place / "q.jsonl")
    assert len(questions) == summary["questions"] == sum(summary["kinds"].values()) == 40
    assert {"lookup", "unanswerable", "growth"} <= set(summary["kinds"])
    assert summary["documents"] == 2
    assert all(question.evidence[0].text for question in questions if question.is_answerable)
    rejected = [json.loads(line) for line in (place / "q.rejected.jsonl").read_text().splitlines()]
    assert sum(summary["rejected"].values()) == len(rejected)
    assert "checking questions" in err
    assert not (place / "q.replies.jsonl").exists()
    first = (place / "q.jsonl").read_bytes()
    assert run_guarded(ragtune, ["questions", "--recipe", "r.yaml", "--count", "40", "--out", "q.jsonl"]) == 0
    assert (place / "q.jsonl").read_bytes() == first
    assert re.search(r"kinds +lookup \d+, ", capsys.readouterr().out)


def test_questions_through_a_chat_model_are_checked_and_counted(place, chat, capsys) -> None:
    capsys.readouterr()
    arguments = ["questions", "--recipe", "r.yaml", "--count", "50", "--out", "q.jsonl", "--model", "openai:x",
                 "--price-in", "100", "--price-out", "1000", "--json"]
    assert run_guarded(ragtune, arguments) == 0
    out, err = capsys.readouterr()
    summary = json.loads(out)
    assert len(chat["asked"]) == summary["pages_asked"] == 6
    texts = {question.text: question for question in read_questions(place / "q.jsonl")}
    assert set(texts) == {
        "What was the net income of Acme in fiscal 2021?",
        "For Acme in fiscal 2021, why did net sales go up?", "For Zenith in fiscal 2021, why did net sales go up?",
        "What did Acme pay as dividends in 2020?", "For Zenith, what did Acme pay as dividends in 2020?",
    }
    income = texts["What was the net income of Acme in fiscal 2021?"]
    assert (income.answer, income.justification) == ("$518 million", "Net income 2021: 518")
    assert income.evidence[0].to_dict() == {"document": "ACME_2021_10K", "page": income.evidence[0].page,
                                            "text": "Net income $ 518 $ 470"}
    assert set(summary["rejected"]) == {"like another question", "the answer is not in the quote", "gives its answer away",
                                        "the quote is not on the page", "speaks of the page"}
    rejected = [json.loads(line) for line in (place / "q.rejected.jsonl").read_text().splitlines()]
    assert {row["reason"] for row in rejected} == set(summary["rejected"])
    assert summary["tokens_in"] > 6 * 300
    assert summary["cost"] == pytest.approx((100 * summary["tokens_in"] + 1000 * summary["tokens_out"]) / 1e6)
    assert re.search(r"about 6 pages to ask about: [\d,]+ tokens in, [\d,]+ out, costing 2\.\d\d\n", err)
    assert re.search(r"about \d pages.*at the rate so far", err)
    assert "Only 5 of 50" in err


def test_a_stopped_run_goes_on_where_it_stopped(place, chat) -> None:
    recipe, out = load_recipe("r.yaml"), place / "q.jsonl"
    whole = run_questions(recipe, 50, place / "whole.jsonl", "openai:x")
    chat["asked"].clear()
    out.write_text("what was there before\n")
    chat["fails_at"] = 4
    with pytest.raises(ModelError, match="run again"):
        run_questions(recipe, 50, out, "openai:x")
    assert out.read_text() == "what was there before\n"
    with (place / "q.replies.jsonl").open("ab") as file:
        file.write(b'{"document": "ZENITH_2021_10K", "pa')  # a kill in the middle of a line
    chat["fails_at"] = 999
    estimates = []
    summary = run_questions(recipe, 50, out, "openai:x", tell=estimates.append)
    assert len(chat["asked"]) == len(set(chat["asked"])) == 6
    assert (summary.pages_resumed, summary.pages_asked, estimates[0].pages) == (4, 6, 2)
    assert out.read_bytes() == (place / "whole.jsonl").read_bytes()
    assert (summary.rejected, summary.tokens_in) == (whole.rejected, whole.tokens_in)
    again = run_questions(recipe, 50, out, "openai:x", prices=Prices(1.0, 1.0))
    assert (len(chat["asked"]), again.pages_resumed) == (6, 6)


def test_asking_ends_with_the_count_and_a_larger_one_pays_for_the_rest_alone(place, chat) -> None:
    recipe = load_recipe("r.yaml")
    assert run_questions(recipe, 2, place / "q.jsonl", "openai:x").questions == 2
    before = len(chat["asked"])
    assert before < 6
    first = [question.text for question in read_questions(place / "q.jsonl")]
    assert run_questions(recipe, 4, place / "q.jsonl", "openai:x").questions == 4
    assert [question.text for question in read_questions(place / "q.jsonl")][:2] == first
    assert before < len(chat["asked"]) == len(set(chat["asked"])) <= 6


def test_side_by_side_gives_the_same_file(place, chat) -> None:
    one = run_questions(load_recipe("r.yaml"), 50, place / "one.jsonl", "openai:x")
    many = run_questions(load_recipe("r.yaml", ("generator.batch_size=4",)), 50, place / "many.jsonl", "openai:x")
    assert (place / "one.jsonl").read_bytes() == (place / "many.jsonl").read_bytes()
    assert one.rejected == many.rejected


def test_the_filter_and_what_is_kept_apart_hold(place, chat) -> None:
    recipe = load_recipe("r.yaml", ("dataset.where=company = 'Acme'",))
    apart = place / "eval.jsonl"
    apart.write_text(json.dumps({"id": "e", "question": "How much were the dividends that Acme paid in FY2020?"}) + "\n"
                     + json.dumps({"id": "f", "question": "What was Acme's net income in FY2021?"}) + "\n")
    summary = run_questions(recipe, 50, place / "q.jsonl", "openai:x", not_in=apart)
    assert summary.documents == 1
    assert summary.rejected["kept apart for evaluation"] == 2
    assert not any("income" in question.text for question in read_questions(place / "q.jsonl"))


def test_offline_does_not_ask_again_what_is_kept_apart(place) -> None:
    recipe = load_recipe("r.yaml")
    run_questions(recipe, 60, place / "o.jsonl")
    before = [question.text for question in read_questions(place / "o.jsonl")]
    apart = place / "eval.jsonl"
    apart.write_text("".join(
        json.dumps({"id": text, "question": f"{text} Say it in figures."}) + "\n" for text in before[:5]))
    summary = run_questions(recipe, 60, place / "o.jsonl", not_in=apart)
    assert not set(before[:5]) & {question.text for question in read_questions(place / "o.jsonl")}
    rejected = [json.loads(line) for line in (place / "o.rejected.jsonl").read_text().splitlines()]
    rows = [row for row in rejected if row["reason"] == "kept apart for evaluation"]
    assert set(before[:5]) <= {row["text"] for row in rows}
    assert all(row["like"].endswith("Say it in figures.") for row in rows)
    assert summary.rejected["kept apart for evaluation"] == len(rows)


def test_more_is_asked_where_near_duplicates_took_too_many_and_the_asker_rounds(place, monkeypatch) -> None:
    calls: list[int] = []

    def ask_some(index, wanted, *rest):
        asked = list(ask_questions(index, wanted, *rest))
        calls.append(wanted)
        few = asked[: wanted // 2] * 2 if len(calls) == 1 else asked
        return few[: wanted - 1]  # never quite what is wanted

    monkeypatch.setattr("ragtune.stages.questions.ask_questions", ask_some)
    assert run_questions(load_recipe("r.yaml"), 40, place / "q.jsonl").questions == 40
    assert len(calls) == 2
    assert calls[1] > calls[0]


def test_a_share_a_page_bounds_both_ways(place, chat) -> None:
    recipe = load_recipe("r.yaml")
    summary = run_questions(recipe, 50, place / "q.jsonl", "openai:x", per_page=1)
    assert summary.rejected
    pages = [(q.evidence[0].document, q.evidence[0].page) for q in read_questions(place / "q.jsonl")]
    assert len(set(pages)) == len(pages)
    offline = run_questions(recipe, 50, place / "o.jsonl", per_page=2)
    assert offline.rejected["more than 2 a page"] > 0
    with pytest.raises(RunError, match="per_page was 1, is 4"):
        run_questions(recipe, 50, place / "q.jsonl", "openai:x")


def test_a_model_that_asks_nothing_is_said_and_nothing_is_overwritten(place) -> None:
    recipe, out = load_recipe("r.yaml"), place / "q.jsonl"
    out.write_text("before")
    with pytest.raises(QuestionError, match=r"no question of echo was let in: 6 the reply holds no question.*larger model"):
        run_questions(recipe, 5, out, "echo")
    assert out.read_text() == "before"
    assert len((place / "q.rejected.jsonl").read_text().splitlines()) == 6


@pytest.mark.parametrize(("arguments", "code", "says"), [
    (("--count", "0"), 2, "--count"),
    (("--count", "3", "--out", "documents"), 1, "documents is a folder. Name a file"),
    (("--count", "3", "--not-in", "nothing.jsonl"), 1, "no question file nothing.jsonl"),
    (("--count", "3", "--model", "opnai:x"), 1, "Did you mean 'openai'"),
    (("--count", "3", "--index", "nowhere"), 1, "no index folder at nowhere"),
    (("--count", "3", "--model", "echo", "--set", "dataset.where=company = 'Nobody'"), 1, "keeps none of 2 documents"),
    (("--count", "3", "--out", "r.yaml/q.jsonl"), 1, "cannot write to r.yaml"),
])
def test_what_cannot_be_done_is_said(place, capsys, arguments, code, says) -> None:
    out = () if "--out" in arguments else ("--out", "q.jsonl")
    assert run_guarded(ragtune, ["questions", "--recipe", "r.yaml", *arguments, *out]) == code
    assert says in capsys.readouterr().err


def test_times_are_said_as_people_do() -> None:
    assert [show_time(seconds) for seconds in (3.2, 89, 200, 7800)] == ["3 s", "89 s", "3 min", "2 h 10 min"]
