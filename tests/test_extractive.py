"""The extractive reader: each kind of question, refusals, signs and units, two companies, the hint, any text at all."""

import dataclasses
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtune.answering.answerer import Answerer
from ragtune.answering.calculate import find_calculations
from ragtune.answering.guard import find_amounts, unsupported_numbers
from ragtune.answering.prompt import REFUSAL, number_passages, render_completion, render_prompt
from ragtune.documents.pack import open_pack, use_pack
from ragtune.errors import ModelError
from ragtune.files import building_folder, write_jsonl, write_manifest
from ragtune.models.asked import parse_question
from ragtune.models.extractive import ExtractiveGenerator, answer_prompt
from ragtune.models.language import open_counter, open_generator
from ragtune.models.rows import parse_prompt, stems
from ragtune.recipe.load import check_recipe
from ragtune.recipe.schema import Generator as Section
from ragtune.records import Chunk, Hit, Message, Question
from ragtune.seams import Generator

INCOME = """Consolidated Statements of Income
(In millions, except per share amounts)
2021 2020 2019
Net sales $ 4,210 $ 3,900 $ 4,000
Cost of sales 2,526 2,400 2,300
Gross profit 1,684 1,500 1,700
Operating income 421 380 390
Income before income taxes 400 350 360
Income taxes 84 70 72
Net loss (310) (57) 12
Operating margin 10.0% 9.7% 9.8%
Diluted earnings per share $ 3.05 $ 2.80 $ 2.70
Weighted average shares outstanding, diluted 101.5 102.5 103.5"""
CASH = """Consolidated Statements of Cash Flows
2021 2020 2019
Net cash provided by operating activities 601 580 550
Purchases of property, plant and equipment (234) (203) (189)
Accounts receivable (30) 12 (8)
Cash and cash equivalents, beginning of year 150 120 100
Cash and cash equivalents, end of year 210 150 120"""


def passage(text=INCOME, number=1, company="Acme Tools", year=2021, unit="millions", form="10-K"):
    metadata = {"company": company, "form": form, "fiscal_year": year, "unit": unit}
    return Hit(Chunk(f"c{number}", "d", f"D{number}", text, 7, 7, 0, len(text), metadata), 1.0 / number, number, "dense")


def ask(question, *hits, names_rows=True):
    messages = render_prompt(question, number_passages(hits or (passage(), passage(CASH, 2))), names_rows)
    return ExtractiveGenerator().generate([messages], 96)[0]


@pytest.mark.parametrize(("question", "said"), [
    ("What were Acme Tools' net sales in fiscal 2021?", "Net sales 2021: 4,210 [1]\nAnswer: $4,210 million"),
    ("What was the FY2019 net loss of Acme Tools, Inc. (in USD millions)?", "Net loss 2019: 12 [1]\nAnswer: $12 million"),
    ("What net loss did Acme Tools report for fiscal year 2020?", "Net loss 2020: (57) [1]\nAnswer: -$57 million"),
    ("What were Acme Tools' purchases of property, plant and equipment in 2021?",
     "Purchases of property, plant and equipment 2021: (234) [2]\nAnswer: $234 million"),
    ("What was Acme Tools' operating margin in FY2020?", "Operating margin 2020: 9.7% [1]\nAnswer: 9.7%"),
    ("What was the FY21 diluted EPS of Acme Tools?", "Diluted earnings per share 2021: 3.05 [1]\nAnswer: $3.05"),
    ("What were the weighted average diluted shares outstanding of Acme Tools in 2021?",
     "Weighted average shares outstanding, diluted 2021: 101.5 [1]\nAnswer: 101.5 million"),
    ("What were Acme Tools' cash and cash equivalents at the end of fiscal 2020?",
     "Cash and cash equivalents, end of year 2020: 150 [2]\nAnswer: $150 million"),
    ("What was Acme Tools' revenue for the fiscal year ended December 31, 2020?",
     "Net sales 2020: 3,900 [1]\nAnswer: $3,900 million"),
    ("By what percentage did Acme Tools' net sales change from fiscal 2020 to fiscal 2021?",
     "Net sales 2021: 4,210 [1]\nNet sales 2020: 3,900 [1]\n4,210 / 3,900 - 1 = 7.9%\nAnswer: 7.9%"),
    ("How much did Acme Tools' capex grow in fiscal 2021, in percent?",
     "Purchases of property, plant and equipment 2021: (234) [2]\n"
     "Purchases of property, plant and equipment 2020: (203) [2]\n"
     "234 / 203 - 1 = 15.3%\nAnswer: 15.3%"),
    ("What was the change in Acme Tools' net loss between FY2020 and FY2021?",
     "Net loss 2021: (310) [1]\nNet loss 2020: (57) [1]\n-310 - -57 = -253\nAnswer: -$253 million"),
    ("What was Acme Tools' gross margin (gross profit divided by revenue) in fiscal 2021?",
     "Gross profit 2021: 1,684 [1]\nNet sales 2021: 4,210 [1]\n1,684 / 4,210 = 40.0%\nAnswer: 40.0%"),
    ("What is the FY2021 ratio of net sales to cost of sales of Acme Tools?",
     "Net sales 2021: 4,210 [1]\nCost of sales 2021: 2,526 [1]\n4,210 / 2,526 = 1.67\nAnswer: 1.67"),
    ("What percentage of net sales was Acme Tools' operating income in fiscal 2021?",
     "Operating income 2021: 421 [1]\nNet sales 2021: 4,210 [1]\n421 / 4,210 = 10.0%\nAnswer: 10.0%"),
    ("Did Acme Tools' net sales decrease in fiscal 2021?",
     "Net sales 2021: 4,210 [1]\nNet sales 2020: 3,900 [1]\n"
     "Answer: No, net sales rose from $3,900 million to $4,210 million."),
    ("Was Acme Tools' gross profit lower in fiscal 2020 than in fiscal 2019?",
     "Gross profit 2020: 1,500 [1]\nGross profit 2019: 1,700 [1]\n"
     "Answer: Yes, gross profit fell from $1,700 million to $1,500 million."),
    ("Was Acme Tools' operating income greater than its gross profit in fiscal 2021?",
     "Operating income 2021: 421 [1]\nGross profit 2021: 1,684 [1]\n"
     "Answer: No, operating income of $421 million was below gross profit of $1,684 million."),
])
def test_each_kind_of_question(question, said):
    assert ask(question) == said


@pytest.mark.parametrize("question", [
    "What were Acme Tools' goodwill impairments in fiscal 2021?",  # no such row
    "What was Acme Tools' deferred revenue in fiscal 2021?",
    "What was Acme Tools' interest income in FY2021?",
    "What were Acme Tools' net sales in fiscal 2014?",  # no such year
    "By what percentage did Acme Tools' net sales change from fiscal 2012 to fiscal 2013?",
    "What were Pellandor Chemicals' net sales in fiscal 2021?",  # no such company
    "What were the FY2021 net sales of Acme Chemicals?",
    "Why did Acme Tools' net sales increase in fiscal 2021?",  # no figure asked
    "What was Acme Tools' average inventory turnover in fiscal 2021?",
    "What was the growth rate of Acme Tools' net loss in fiscal 2021?",  # a loss has no growth rate
    "What were Acme Tools' accounts receivable at the end of fiscal 2021?",  # (30) is their change
    "What were Acme Tools' net sales in the second quarter of 2021?",
    "?",
])
def test_refuses_what_it_cannot_match(question):
    assert ask(question) == REFUSAL


def test_closed_book_refuses():
    assert ExtractiveGenerator().generate([render_prompt("What were net sales of Acme in 2021?")], 96) == [REFUSAL]


def test_the_passage_of_the_company_and_of_the_year_is_read():
    other = INCOME.replace("4,210", "9,999")
    hits = (passage(other, 1, "Bolt Motors"), passage(INCOME, 2), passage(other, 3, "Acme Tools", 2022))
    assert ask("What were Acme Tools' net sales in fiscal 2021?", *hits).startswith("Net sales 2021: 4,210 [2]")
    assert ask("What were Bolt Motors' net sales in fiscal 2021?", *hits).startswith("Net sales 2021: 9,999 [1]")
    assert ask("What were the net sales in fiscal 2021?", passage()).startswith("Net sales 2021: 4,210 [1]")


def test_company_names_however_they_are_spaced():
    hit = passage(company="", number=1)
    hit = dataclasses.replace(hit, chunk=dataclasses.replace(hit.chunk, document="COCACOLA_2021_10K", metadata={}))
    assert ask("What were Coca-Cola's net sales in 2021?", hit) == "Net sales 2021: 4,210 [1]\nAnswer: $4,210"


@pytest.mark.parametrize(("unit", "said"), [("thousands", "$421 thousand"), ("billions", "$421 billion"), ("", "$421")])
def test_the_unit_is_the_titles(unit, said):
    assert ask("What was Acme Tools' operating income in 2021?", passage(unit=unit)).endswith(f"Answer: {said}")


def test_the_hint_says_what_the_rows_call_it():
    prompt = ("[1] Acme Tools 10-K 2021, page 7 (in millions)\nSweetness of widgets 2021: 77\nOther 2021: 5\n\n"
              "Question: What was Acme Tools' zork in 2021?")
    assert answer_prompt(prompt) == REFUSAL
    hinted = f"{prompt}\nIn the passages, zork is called Bitter things or Sweetness of widgets; capex is called Purchases."
    assert answer_prompt(hinted) == "Sweetness of widgets 2021: 77 [1]\nAnswer: $77 million"
    assert parse_prompt(hinted).names[0] == ("zork", "Bitter things")
    assert parse_prompt(hinted).question == "What was Acme Tools' zork in 2021?"


def test_the_answer_has_the_form_that_models_learn():
    hits = (passage(), passage(CASH, 2))
    justification = "Net sales 2021: 4,210\nNet sales 2020: 3,900\n4,210 / 3,900 - 1 = 7.9%"
    text = "What was the growth rate of Acme Tools' net sales in FY2021?"
    question = Question("q", text, "7.9%", justification=justification)
    assert ask(question.text, *hits) == render_completion(question, number_passages(hits))


def test_it_is_a_generator_that_the_answerer_and_its_guard_take():
    recipe = check_recipe({"generator": {"model": "extractive"}}, "test")
    generator = open_generator(recipe.generator)
    assert isinstance(generator, Generator)
    assert isinstance(generator, ExtractiveGenerator)
    assert (generator.name, len(generator.fingerprint)) == ("extractive", 16)
    messages = [Message(role="user", content="one two three")]
    assert open_counter(Section(model="extractive"))(messages) == generator.count_tokens(messages) > 3
    seen = []
    question = "What were Acme Tools' net sales in 2021?"
    prompts = [render_prompt(question, number_passages([passage()]))] * 2
    assert generator.generate(prompts, 96, lambda *at: seen.append(at)) == [ask(question)] * 2
    assert seen == [(1, 2), (2, 2)]
    assert generator.generate([], 96) == []
    question = "Did Acme Tools' net loss increase in fiscal 2020?"
    answer = Answerer(generator, None, recipe).answer_prompts([(question, [passage()])])[0]
    assert answer.text == "No, net loss fell from $12 million to -$57 million."
    assert (answer.problems, [c.passage for c in answer.citations]) == ((), [1])


def test_it_cannot_be_tuned(tmp_path):
    from ragtune.answering.prompt import prompt_hash
    from ragtune.stages.train import run_train

    recipe = check_recipe({"generator": {"model": "extractive"}, "work": str(tmp_path)}, "test")
    row = {"prompt": [{"role": "user", "content": "?"}], "completion": [{"role": "assistant", "content": "."}]}
    with building_folder(tmp_path / "d") as folder:
        write_jsonl(folder / "train.jsonl", [row])
        write_manifest(folder, "dataset", prompt_hash=prompt_hash())
    with pytest.raises(ModelError, match="'extractive' cannot be tuned here. Set generator.model to bundled"):
        run_train(recipe, tmp_path / "run", tmp_path / "d")
    with pytest.raises(ModelError, match="'extractive' cannot take the adapter"):
        open_generator(recipe.generator, tmp_path)


@pytest.mark.parametrize(("question", "kind", "names", "years"), [
    ("What is the year-over-year change in net sales from FY2019 to FY20, in percent?", "growth", ("net sales",),
     ("2020", "2019")),
    ("By how much did total debt, less current portion change from 2017 to 2018?", "difference",
     ("total debt, less current portion",), ("2018", "2017")),
    ("What was the current ratio in 2018?", "ratio", ("total current assets", "total current liabilities"), ("2018",)),
    ("For 2018, what is net income divided by revenue?", "ratio", ("net income", "revenue"), ("2018",)),
    ("Were dividends paid higher in fiscal 2018 than in fiscal 2017?", "compare", ("dividends paid",), ("2018", "2017")),
    ("How did margins develop?", "", ("How did margins develop",), ()),
])
def test_what_a_question_asks(question, kind, names, years):
    asked = parse_question(question)
    assert (asked.kind, asked.names if kind else names, asked.years) == (kind, names, years)


PLANT = """Plant data
2021 2020
Total output 4,210 3,900
Water used (310) 57
Number of pumps 12 10
Flow rate at full load 3.05 2.80
Uptime 99.1% 98.7%"""


def ask_plain(question, **more):
    metadata = {"title": "Dorn Works", "version": "v2", "year": 2021, **more}
    hit = Hit(Chunk("c", "d", "D", PLANT, 7, 7, 0, len(PLANT), metadata), 1.0, 1, "dense")
    with use_pack("plain"):
        return ask(question, hit)


@pytest.mark.parametrize(("question", "said"), [
    ("What was the output of Dorn Works in 2020?", "Total output 2020: 3,900 [1]\nAnswer: 3,900"),
    ("What was the water used at the end of 2021?", "Water used 2021: (310) [1]\nAnswer: -310"),
    ("What was the number of pumps in 2021?", "Number of pumps 2021: 12 [1]\nAnswer: 12"),
    ("What was the uptime of Dorn Works in 2021?", "Uptime 2021: 99.1% [1]\nAnswer: 99.1%"),
    ("By what percentage did Dorn Works' total output change from 2020 to 2021?",
     "Total output 2021: 4,210 [1]\nTotal output 2020: 3,900 [1]\n4,210 / 3,900 - 1 = 7.9%\nAnswer: 7.9%"),
    ("What is the ratio of total output to number of pumps in 2021?",
     "Total output 2021: 4,210 [1]\nNumber of pumps 2021: 12 [1]\n4,210 / 12 = 350.83\nAnswer: 350.83"),
    ("Did the flow rate at full load increase in 2021?",
     "Flow rate at full load 2021: 3.05 [1]\nFlow rate at full load 2020: 2.80 [1]\n"
     "Answer: Yes, flow rate at full load rose from 2.80 to 3.05."),
    ("What was the current ratio in 2021?", REFUSAL),
    ("What was the output of Brill Works in 2021?", REFUSAL),
    ("What was the turnover in 2021?", REFUSAL),
])
def test_a_plain_table_is_read_without_a_field(question, said):
    assert ask_plain(question) == said


def test_what_words_mean_changes_with_the_pack():
    finance = stems("Shareholders' operations"), parse_question("What was the current ratio in 2021?").kind
    assert finance == (("shareholder", "operat"), "ratio")
    with use_pack("plain"):
        assert stems("Stockholders' operations") == ("stockholder", "operation")
        assert parse_question("What was the current ratio in 2021?").kind == "lookup"
    assert stems("Stockholders' operations") == ("shareholder", "operat")
    assert ask_plain("What was the output of Dorn Works in 2021?", unit="thousands").endswith("Answer: 4,210 thousand")
    assert ask("What were Acme Tools' net sales in fiscal 2021?").endswith("Answer: $4,210 million")


@pytest.mark.parametrize(("question", "needs"), [
    ("What was the gross profit margin in 2021?", ("gross profit", "revenue")),  # the longest name, not profit margin
    ("What were the operating margins in 2021?", ("operating income", "revenue")),
    ("What was the ROA in 2021?", ("net income", "total assets")),
    ("What was the working capital in 2021?", ("working capital",)),  # no quotient
])
def test_quotients_are_the_packs(question, needs):
    assert parse_question(question).names == needs
    quotients = [m.entry for m in open_pack().measures if m.entry.quotient]
    assert needs in [entry.needs[:2] for entry in quotients] or needs == ("working capital",)


ROW = st.tuples(
    st.sampled_from(["Net sales", "Cost of sales", "Net income (loss)", "Capital expenditures", "Total assets", "Rate"]),
    st.sampled_from(["2021", "2020", "2019"]),
    st.sampled_from(["4,210", "(310)", "12.5%", "(1.5)%", "0", "3.05", "—", "99"]),
)
ASKED = st.sampled_from([
    "What were Acme's net sales in 2021?", "Did Acme's capex rise in 2020?", "What was Acme's net margin in 2021?",
    "What is the ratio of net income to total assets of Acme in 2020?",
    "By how much did net sales change from 2019 to 2021?",
    "Was Acme's net income greater than its cost of sales in 2020?", "What was the growth rate of cost of sales in FY2020?",
])


@settings(max_examples=200, deadline=None)
@given(st.lists(ROW, max_size=12), ASKED, st.text(max_size=60))
def test_every_number_said_is_shown_or_calculated(rows, question, noise):
    shown = "\n".join(f"{label} {year}: {amount}" for label, year, amount in rows)
    text = f"[1] Acme 10-K 2021, page 3 (in millions)\n{shown}\n{noise}\n\nQuestion: {question}"
    said = answer_prompt(text)
    if said == REFUSAL:
        return
    reasoning, _, answer = said.partition("\nAnswer: ")
    assert unsupported_numbers(answer, reasoning, question, [shown]) == []
    results = {amount for c in find_calculations(reasoning) for amount in find_amounts(c.computed)}
    known = {*find_amounts(shown), *results, "1"}
    lines = [line for line in reasoning.split("\n") if " = " not in line]
    assert all(re.sub(r" \[1\]$", "", line) in shown for line in lines)
    assert set(find_amounts(answer)) <= known
    assert all(calculation.is_right for calculation in find_calculations(said))


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(max_size=300), st.text("[]1 2Question:\n()%,.;FY'sNet sales2021is called or", max_size=300)))
def test_no_text_makes_it_fail(text):
    said = answer_prompt(text)
    assert said == REFUSAL or "\nAnswer: " in said
    assert ExtractiveGenerator().generate([[], [Message(role="user", content=text)]], 96) == [REFUSAL, said]
