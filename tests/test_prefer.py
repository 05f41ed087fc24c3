"""Preference pairs: each mistake by its reason, truly wrong, the same again under a seed, in the shapes TRL takes."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from dataset_fakes import ACME, ZENITH, MemorySearcher, count_words, make_document
from hypothesis import given, settings
from hypothesis import strategies as st
from test_instruct import CAPEX, NOTHING, RATIO, SALES, A

from ragtune.answering.prompt import REFUSAL
from ragtune.datasets.distract import labels_of
from ragtune.datasets.elsewhere import Elsewhere, find_rows
from ragtune.datasets.forms import own_operands, parse_stated, restate
from ragtune.datasets.instruct import build_examples
from ragtune.datasets.lineage import shown_passages
from ragtune.datasets.mistakes import MISTAKES
from ragtune.datasets.prefer import (
    PairsResult,
    build_labels,
    build_pairs,
    judge_completion,
    read_pairs,
    read_row,
    render_pair,
)
from ragtune.errors import RunError
from ragtune.files import write_jsonl
from ragtune.models.rows import Row, parse_prompt
from ragtune.recipe.schema import Dataset, Generator, Pairs, Retrieval
from ragtune.records import Chunk, Document, Evidence, Example, Pair, Question
from ragtune.stages.sampled import score_completion

SALES_ROW = (Evidence(A, 2, "Net sales $ 4,210 $ 3,900"),)
GROWTH = Question("growth", "What was the growth rate of Acme's net sales from FY2020 to FY2021?", "7.9%", SALES_ROW,
                  "growth", "Net sales 2021: 4,210\nNet sales 2020: 3,900\n4,210 / 3,900 - 1 = 7.9%")
CHANGE = Question("change", "What was the change in Acme's net sales between FY2020 and FY2021?", "$310 million", SALES_ROW,
                  "difference", "Net sales 2021: 4,210\nNet sales 2020: 3,900\n4,210 - 3,900 = 310")
ROSE = Question("rose", "Did Acme's net sales decrease in fiscal 2021?",
                "No, net sales rose from $3,900 million to $4,210 million.", SALES_ROW, "yes_no",
                "Net sales 2021: 4,210\nNet sales 2020: 3,900")
ALL = [SALES, CAPEX, RATIO, GROWTH, CHANGE, ROSE, NOTHING]


def make_rows(*questions: Question, **fields: Any) -> tuple[Example, ...]:
    """Return training rows, each with its gold passage and two others of either company."""
    section = {"gold_share": 1.0, "closed_book_share": 0.0, "distractors": 3, "rows_per_question": 4, "max_dropped_share": 1}
    return build_examples(questions, MemorySearcher(ACME, ZENITH), count_words, Dataset.model_validate(section | fields),
                          Retrieval(k=4), Generator()).examples


def make_pairs(*questions: Question, shares: dict[str, float] | None = None, **fields: Any) -> PairsResult:
    return build_pairs(make_rows(*questions, **fields), questions, score_completion,
                       Pairs.model_validate({"per_row": 7} | (shares or {})))


def of_reason(pairs: PairsResult, reason: str) -> list[Pair]:
    return [pair for pair in pairs.pairs if pair.provenance["reason"] == reason]


def bare(text: str) -> str:
    """Return a completion without its citations."""
    return "\n".join(line.rpartition(" [")[0] if line.endswith("]") else line for line in text.split("\n"))


def test_every_reason_is_made_of_shown_rows_and_differs_in_outcome() -> None:
    made = make_pairs(*ALL)
    assert {pair.provenance["reason"] for pair in made.pairs} == set(MISTAKES)
    questions = {question.id: question for question in ALL}
    for pair in made.pairs:
        trace = pair.provenance
        assert pair.chosen != pair.rejected
        assert trace["chosen_outcome"] == "correct"
        assert trace["rejected_outcome"] in ("wrong", "refused")
        shown = {line for p in shown_passages(Example(pair.prompt, "", trace)) for line in p.text.split("\n")}
        for line in pair.rejected.split("\n"):
            if line.endswith("]"):
                assert line.rpartition(" [")[0] in shown
        question = questions[trace["question_id"]]
        if question.answer and trace["reason"] not in ("wrong_citation", "needless_refusal"):
            assert score_completion(question, pair.rejected) == "wrong"


@pytest.mark.parametrize(("question", "rejected"), [
    (SALES, "Net sales 2020: 3,900\nAnswer: $3,900 million"),
    (CAPEX, "Purchases of property, plant and equipment 2020: (203)\nAnswer: $203 million"),
    (RATIO, "Purchases of property, plant and equipment 2020: (203)\nNet sales 2020: 3,900\n203 / 3,900 = 5.2%\n"
            "Answer: 5.2%"),
])
def test_neighbouring_year_says_the_other_year_in_the_same_form(question: Question, rejected: str) -> None:
    pairs = of_reason(make_pairs(question), "neighbouring_year")
    assert pairs
    assert {bare(pair.rejected) for pair in pairs} == {rejected}
    for pair in pairs:  # cited to the same passages, which hold both years
        assert [line.rpartition("[")[2] for line in pair.rejected.split("\n") if line.endswith("]")] == [
            line.rpartition("[")[2] for line in pair.chosen.split("\n") if line.endswith("]")]


def test_two_years_are_all_there_are_so_a_change_has_no_neighbouring_one() -> None:
    made = make_pairs(GROWTH, CHANGE, ROSE)
    assert not of_reason(made, "neighbouring_year")
    assert made.skipped["neighbouring_year: no occasion"] == len(make_rows(GROWTH, CHANGE, ROSE))


def test_a_question_without_a_year_gets_no_neighbouring_one() -> None:
    undated = Question("u", "What were Acme's net sales?", SALES.answer, SALES.evidence, "lookup", SALES.justification)
    assert not of_reason(make_pairs(undated), "neighbouring_year")


@pytest.mark.parametrize(("question", "calculation"), [
    (GROWTH, "3,900 / 4,210 - 1 = -7.4%\nAnswer: -7.4%"), (RATIO, "4,210 / 189 = 2227.5%\nAnswer: 2227.5%"),
    (CHANGE, "3,900 - 4,210 = -310\nAnswer: -$310 million"),
])
def test_swapped_operand_calculates_rightly_in_the_wrong_order(question: Question, calculation: str) -> None:
    for pair in of_reason(make_pairs(question), "swapped_operand"):
        lines, chosen = pair.rejected.split("\n"), pair.chosen.split("\n")
        assert lines[:2] == chosen[:2]
        assert "\n".join(lines[2:]).replace(",", "") == calculation.replace(",", "")


def test_wrong_row_is_of_the_gold_passage_and_keeps_the_form() -> None:
    for question in ALL[:-1]:
        pairs = of_reason(make_pairs(question), "wrong_row")
        assert pairs, question.id
        for pair in pairs:
            stated = parse_stated(pair.rejected)
            assert stated
            right = parse_stated(pair.chosen)
            assert right
            assert stated.kind == right.kind
            assert {number for *_, number in stated.rows} == {number for *_, number in right.rows}
            assert {label for label, *_ in stated.rows} != {label for label, *_ in right.rows}
    for pair in of_reason(make_pairs(ROSE), "wrong_row"):
        assert ", net sales " in pair.rejected  # it answers what was asked, with figures of another row


def test_other_company_is_taken_where_the_question_names_its_own() -> None:
    pairs = of_reason(make_pairs(SALES), "other_company")
    assert pairs
    for pair in pairs:
        prompt = parse_prompt(pair.prompt[-1]["content"])
        stated = parse_stated(pair.rejected)
        assert stated
        assert prompt.passages[stated.rows[0][3] - 1].company == "Zenith"
    assert "Net sales 2021: 9,876" in {bare(pair.rejected).split("\n")[0] for pair in pairs}
    unnamed = Question("n", "What were net sales in 2021?", SALES.answer, SALES.evidence, "lookup", SALES.justification)
    assert not of_reason(make_pairs(unnamed), "other_company")


def own_rows(question: Question) -> list[Example]:
    """Return rows that show passages of Acme only, as a search does that goes to the company asked about."""
    return list(build_examples([question], MemorySearcher(ACME), count_words, Dataset(
        gold_share=1.0, closed_book_share=0.0, distractors=1, max_dropped_share=1, rows_per_question=2), Retrieval(k=4),
        Generator()).examples)


def make_elsewhere(*questions: Question, names: Sequence[str] = (ZENITH.name,)) -> Elsewhere:
    labels = {label for question in questions for label in labels_of(question)}
    return find_rows(Stored(ACME, ZENITH), names, labels)


class Stored(MemorySearcher):
    """An index that hands out the chunks of a document."""

    def __init__(self, *documents: Document) -> None:
        super().__init__(*documents)
        self.stored, self.chunks = self.chunks, self.of  # type: ignore[assignment]

    def of(self, document: str) -> list[Chunk]:
        return [chunk for chunk in self.stored if chunk.document == document]


ONLY_OTHER = Pairs.model_validate({**dict.fromkeys(MISTAKES, 0.0), "other_company": 1.0})


def test_where_no_other_company_is_shown_its_amount_comes_from_the_index() -> None:
    for question, said in ((SALES, ["Net sales 2021: 9,876"]), (GROWTH, ["Net sales 2021: 9,876", "Net sales 2020: 9,123"])):
        rows = own_rows(question)
        assert "Zenith" not in rows[0].prompt[-1]["content"]
        assert not build_pairs(rows, [question], score_completion, ONLY_OTHER).pairs
        made = build_pairs(rows, [question], score_completion, ONLY_OTHER, elsewhere=make_elsewhere(question))
        assert made.pairs
        for pair in made.pairs:
            assert bare(pair.rejected).split("\n")[: len(said)] == said
            cited = [line.rpartition("[")[2] for line in pair.chosen.split("\n") if line.endswith("]")]
            assert [line.rpartition("[")[2] for line in pair.rejected.split("\n") if line.endswith("]")] == cited
            assert pair.provenance["rejected_outcome"] == "wrong"


def test_no_amount_comes_from_the_company_itself_nor_from_a_row_of_another_name_or_year() -> None:
    assert not build_pairs(own_rows(SALES), [SALES], score_completion, ONLY_OTHER,
                           elsewhere=make_elsewhere(SALES, names=(ACME.name,))).pairs
    assert make_elsewhere(NOTHING).rows == {}
    row = read_row(own_rows(SALES)[0], SALES).own[0][0]
    earlier = Row(row.label, {"1999": "1"}, row.passage)
    elsewhere = make_elsewhere(SALES)
    assert [found[0][0].cells["2021"] for found in elsewhere.find([(row, "2021")], random.Random(0))] == ["9,876"]
    assert not list(elsewhere.find([(earlier, "1999")], random.Random(0)))
    margin = Row(row.label, {"2021": "41.2%"}, row.passage)
    assert not list(elsewhere.find([(margin, "2021")], random.Random(0)))


def test_another_s_row_may_be_worded_otherwise_where_the_pack_says_it_is_the_same() -> None:
    other = make_document("OTHER_2021_10K", "Other Corporation\n(in millions)\n2021 2020\nTotal revenues $ 777 $ 666\n"
                          "Operating income 55 44", company="Other", form="10-K", fiscal_year=2021)
    elsewhere = find_rows(Stored(other), [other.name], ["net sales"])
    row = read_row(own_rows(SALES)[0], SALES).own[0][0]
    (found,) = elsewhere.find([(row, "2021")], random.Random(0))
    assert found[0][0].cite("2021") == f"Net sales 2021: 777 [{row.passage.number}]"


def test_wrong_citation_names_a_shown_passage_without_the_amount() -> None:
    pairs = of_reason(make_pairs(*ALL), "wrong_citation")
    assert {pair.provenance["question_id"] for pair in pairs} == {q.id for q in ALL[:-1]}
    for pair in pairs:
        assert bare(pair.rejected) == bare(pair.chosen)
        passages = {p.number: p.text for p in shown_passages(Example(pair.prompt, "", pair.provenance))}
        changed = [line for line, kept in zip(pair.rejected.split("\n"), pair.chosen.split("\n")) if line != kept]
        assert changed
        for line in changed:
            text, _, number = line.rpartition(" [")
            assert text not in passages[int(number[:-1])]
            assert text.rpartition(": ")[2].strip("()") not in passages[int(number[:-1])]


def test_refusals_go_both_ways() -> None:
    made = make_pairs(SALES, NOTHING)
    for pair in of_reason(made, "needless_refusal"):
        assert (pair.rejected, pair.provenance["rejected_outcome"]) == (REFUSAL, "refused")
    unsupported = of_reason(made, "unsupported_answer")
    assert {pair.provenance["question_id"] for pair in unsupported} == {"nothing"}
    for pair in unsupported:
        assert pair.chosen == REFUSAL
        assert pair.rejected.split("\n")[-1].startswith("Answer: ")


def test_without_gold_the_unsupported_answer_has_the_form_asked_for_and_is_no_lucky_guess() -> None:
    pairs = make_pairs(SALES, GROWTH, RATIO, gold_share=0.0).pairs
    assert {pair.provenance["question_id"] for pair in pairs} == {"sales", "growth", "ratio"}
    for pair in pairs:
        assert pair.provenance["reason"] == "unsupported_answer"
        stated = parse_stated(pair.rejected)
        assert stated
        wanted = {"sales": "lookup", "growth": "growth", "ratio": "ratio"}
        assert stated.kind == wanted[pair.provenance["question_id"]]


def test_a_shown_row_that_may_be_what_was_asked_is_not_rejected() -> None:
    """A question counted as unanswerable, though a shown row of its company and year has its very name."""
    doubtful = Question("doubtful", "What were Acme's net sales in 2021?", kind="unanswerable")
    elsewhere = Question("elsewhere", "What were Pellandor's net sales in 2021?", kind="unanswerable")
    earlier = Question("earlier", "What were Acme's net sales in 2017?", kind="unanswerable")
    said = {question.id: {bare(pair.rejected).split("\n")[0] for pair in make_pairs(question).pairs}
            for question in (doubtful, elsewhere, earlier)}
    assert said["doubtful"]
    assert "Net sales 2021: 4,210" not in said["doubtful"]
    assert said["elsewhere"] & {"Net sales 2021: 4,210", "Net sales 2021: 9,876"}
    assert "Net sales 2020: 3,900" in said["earlier"]


def test_closed_book_rows_show_nothing_to_be_wrong_about() -> None:
    made = make_pairs(SALES, NOTHING, closed_book_share=1.0)
    assert made.pairs == ()
    assert made.skipped["unsupported_answer: no occasion"] == 2


def test_answers_worded_otherwise_are_only_refused_needlessly() -> None:
    free = Question("free", "What drives Acme's sales?", "higher volumes and prices", (Evidence(A, 1, ""),), "text")
    rows = make_rows(free)
    made = build_pairs(rows, [free], score_completion, Pairs())
    assert {pair.provenance["reason"] for pair in made.pairs} == {"needless_refusal"}


def test_a_completion_the_scorer_finds_wrong_gives_no_pair() -> None:
    rows = make_rows(SALES)
    other = Question("sales", SALES.text, "$9,999 million", SALES.evidence, "lookup", SALES.justification)
    made = build_pairs(rows, [other], score_completion, Pairs())
    assert made.pairs == ()
    assert made.skipped == {"the row's own completion is not scored correct": len(rows)}
    assert build_pairs(rows, [], score_completion, Pairs()).skipped == {
        "the row's question is not among the questions": len(rows)}


def test_shares_leave_reasons_out_and_per_row_bounds_them() -> None:
    none = make_pairs(*ALL, shares=dict.fromkeys(MISTAKES, 0.0))
    assert none.pairs == ()
    only = make_pairs(*ALL, shares={**dict.fromkeys(MISTAKES, 0.0), "wrong_row": 1.0})
    assert {pair.provenance["reason"] for pair in only.pairs} == {"wrong_row"}
    half = make_pairs(*ALL, shares={"needless_refusal": 0.5}, rows_per_question=10)
    every = make_pairs(*ALL, rows_per_question=10)
    share = len(of_reason(half, "needless_refusal")) / len(of_reason(every, "needless_refusal"))
    assert 0.3 < share < 0.7
    two = make_pairs(*ALL, shares={"per_row": 2})
    counts = [sum(pair.prompt == row.prompt for pair in two.pairs) for row in make_rows(*ALL)]
    assert max(counts) == 2


def test_the_same_seed_gives_the_same_bytes_and_a_row_does_not_depend_on_others() -> None:
    def dump(made: PairsResult) -> list[str]:
        return [json.dumps(render_pair(pair)) for pair in made.pairs]

    first = dump(make_pairs(*ALL, shares={"per_row": 2}))
    assert dump(make_pairs(*ALL, shares={"per_row": 2})) == first
    assert dump(make_pairs(*ALL, shares={"per_row": 2, "seed": 1})) != first
    alone = dump(make_pairs(CAPEX, shares={"per_row": 2}))
    assert [row for row in first if '"question_id": "capex"' in row] == alone


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 99_999), st.integers(1, 99_999), st.sampled_from(["lookup", "growth", "change", "rose"]))
def test_an_answer_restated_from_its_own_rows_is_itself(new: int, old: int, form: str) -> None:
    row = f"Net sales 2021: {new:,}", f"Net sales 2020: {old:,}"
    prompt = parse_prompt(f"[1] Acme 10-K 2021, page 2 (in millions)\n{row[0]}\n{row[1]}\n\nQuestion: What?")
    cited = [f"{line} [1]" for line in row]
    said = "rose" if new > old else "fell"
    completion = {
        "lookup": f"{cited[0]}\nAnswer: ${new:,} million",
        "growth": "\n".join([*cited, f"{new:,} / {old:,} - 1 = {100 * (new / old - 1):.1f}%",
                             f"Answer: {100 * (new / old - 1):.1f}%"]),
        "change": "\n".join([*cited, f"{new:,} - {old:,} = {new - old:,}",
                             f"Answer: {'-' if new < old else ''}${abs(new - old):,} million"]),
        "rose": "\n".join([*cited, f"Answer: Yes, net sales {said} from ${old:,} million to ${new:,} million."]),
    }[form]
    stated = parse_stated(completion)
    assert stated
    own = own_operands(stated, prompt.rows)
    assert own
    again = restate(stated, own)
    if form == "rose" and new == old:
        assert again is None
    elif form == "growth":  # binary and decimal halves may round apart
        assert again is not None
        assert again.split("\n")[:2] == cited
    else:
        assert again == completion
    swapped = restate(stated, own, is_swapped=True) if form == "growth" else None
    assert swapped is None or f"{old:,} / {new:,} - 1" in swapped


@given(st.text(max_size=200))
def test_any_text_is_taken_apart_or_left(text: str) -> None:
    stated = parse_stated(text)
    assert stated is None or stated.rows


def test_citations_are_part_of_the_outcome() -> None:
    row = make_rows(SALES)[0]
    passages = shown_passages(row)
    assert judge_completion(SALES, row.completion, passages, score_completion) == "correct"
    number = row.provenance["passages"].index(row.provenance["gold"][0]) + 1
    other = row.completion.replace(f"[{number}]", f"[{number % 4 + 1}]")
    assert score_completion(SALES, other) == "correct"
    assert judge_completion(SALES, other, passages, score_completion) == "wrong"
    assert read_row(row, SALES).own[0][0].label == "Net sales"


def test_labels_hold_each_completion_once() -> None:
    pairs = make_pairs(*ALL).pairs
    labels = build_labels(pairs)
    keys = [(json.dumps(row["prompt"]), row["completion"][0]["content"]) for row in labels]
    assert len(set(keys)) == len(keys)
    assert sum(row["label"] for row in labels) == len({repr(pair.prompt) for pair in pairs})
    assert {row["provenance"]["reason"] for row in labels if row["label"]} == {""}
    assert {row["provenance"]["reason"] for row in labels if not row["label"]} == set(MISTAKES)
    torn = [Pair(pairs[0].prompt, "a", "b"), Pair(pairs[0].prompt, "b", "c")]
    assert [(row["completion"][0]["content"], row["label"]) for row in build_labels(torn)] == [("a", True), ("c", False)]


def test_pairs_are_read_back_and_other_rows_named(tmp_path: Path) -> None:
    pairs = list(make_pairs(SALES, NOTHING).pairs)
    write_jsonl(tmp_path / "pairs.jsonl", map(render_pair, pairs))
    assert read_pairs(tmp_path / "pairs.jsonl") == pairs
    for row, message in [({"prompt": []}, "prompt, chosen and rejected"),
                         ({**render_pair(pairs[0]), "rejected": "text"}, "found the keys"),
                         ({**render_pair(pairs[0]), "chosen": []}, "exactly one message")]:
        write_jsonl(tmp_path / "bad.jsonl", [render_pair(pairs[0]), row])
        with pytest.raises(RunError, match=f"bad.jsonl:2: .*{message}"):
            read_pairs(tmp_path / "bad.jsonl")


def test_trl_takes_pairs_and_labels_as_they_are(tmp_path: Path) -> None:
    """The columns its DPO, reward and KTO trainers document, through its own checks, with the bundled tokenizer."""
    from datasets import load_dataset
    from trl.data_utils import is_conversational, maybe_apply_chat_template

    from ragtune.models.chat import load_chat

    made = make_pairs(SALES, GROWTH, NOTHING)
    pairs = [of_reason(made, reason)[0] for reason in sorted({pair.provenance["reason"] for pair in made.pairs})]
    write_jsonl(tmp_path / "pairs.jsonl", map(render_pair, pairs))
    write_jsonl(tmp_path / "kto.jsonl", build_labels(pairs))
    chat = load_chat(Generator())
    loaded = {name: load_dataset("json", data_files=str(tmp_path / f"{name}.jsonl"), split="train",
                                 cache_dir=str(tmp_path / "cache")) for name in ("pairs", "kto")}
    assert len(loaded["pairs"]) == len(pairs)
    for row, pair in zip(loaded["pairs"], pairs):
        assert is_conversational(row)
        text = maybe_apply_chat_template({key: row[key] for key in ("prompt", "chosen", "rejected")}, chat.tokenizer)
        for half, said in (("chosen", pair.chosen), ("rejected", pair.rejected)):
            prompt, completion = chat.encode_example(pair.prompt, said)  # the tokens of tuning and serving
            whole = chat.tokenizer(text["prompt"] + text[half], add_special_tokens=False)["input_ids"]
            assert whole[: len(prompt) + len(completion)] == prompt + completion
    for row in loaded["kto"]:
        assert isinstance(row["label"], bool)
        assert is_conversational(row)
        columns = {key: row[key] for key in ("prompt", "completion", "label")}
        assert maybe_apply_chat_template(columns, chat.tokenizer)["completion"]
    assert {row["label"] for row in loaded["kto"]} == {True, False}


@pytest.mark.parametrize("method", ["DPO", "KTO", "Reward"])
def test_each_trainer_takes_a_step_on_them(method: str, tmp_path: Path) -> None:
    """Rows as they lie in the files, provenance and all; none is dropped or cut."""
    import trl
    from datasets import Dataset as Rows
    from tiny_model import make_tiny_model
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    pairs = make_pairs(SALES, NOTHING).pairs[:4]
    rows = build_labels(pairs) if method == "KTO" else [render_pair(pair) for pair in pairs]
    folder = make_tiny_model(tmp_path / "model", positions=4096)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if method == "Reward":
        model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, pad_token_id=tokenizer.pad_token_id)
    else:
        model = AutoModelForCausalLM.from_pretrained(folder)
    arguments = getattr(trl, f"{method}Config")(
        output_dir=str(tmp_path / "out"), max_steps=1, per_device_train_batch_size=2, max_length=4096, use_cpu=True,
        bf16=False, report_to="none", save_strategy="no", disable_tqdm=True)
    trainer = getattr(trl, f"{method}Trainer")(
        model=model, args=arguments, train_dataset=Rows.from_list(rows), processing_class=tokenizer)
    assert len(trainer.train_dataset) == len(rows)
    assert trainer.train().training_loss > 0
