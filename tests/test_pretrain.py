"""The pretraining pipeline: its conversations are right and repeatable, and its loop learns."""

from __future__ import annotations

import random
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

SCRIPTS = Path(__file__).parent.parent / "scripts" / "pretrain"
sys.path.insert(0, str(SCRIPTS))

from conversations import REFUSALS, STAGES, STYLES, Teacher  # noqa: E402
from tables import Filings, Table  # noqa: E402
from wording import calculate, money, value_of  # noqa: E402

from ragtune.answering.calculate import find_calculations  # noqa: E402
from ragtune.answering.prompt import ANSWER, REFUSAL, SYSTEM, parse_completion, render_completion, render_prompt  # noqa: E402
from ragtune.documents.statements import restate_rows  # noqa: E402


def conversations(style: str | None, seed: int = 1, count: int = 25, stage: int = 4, turns: int = 8):
    teacher = Teacher(Filings(seed), style)
    return [teacher.conversation(STAGES[stage], turns) for _ in range(count)]


def test_a_seed_gives_the_same_conversations_and_another_seed_others() -> None:
    assert conversations(None, 7) == conversations(None, 7)
    assert conversations(None, 7) != conversations(None, 8)


def test_house_answers_are_what_ragtune_renders() -> None:
    turns = 0
    for conversation in conversations("house"):
        for turn in conversation.turns:
            lines = [line for line in turn.question.justification.split("\n") if line and " = " not in line]
            cited = [conversation.passages[number - 1] for number in parse_completion(turn.completion)[2]]
            assert turn.completion == turn.gold == render_completion(turn.question, cited)
            assert all(any(line in passage.text.split("\n") for passage in cited) for line in lines)
            if turn.question.is_answerable:
                assert lines
                assert turn.completion.endswith(f"{ANSWER} {turn.question.answer}")
            turns += 1
    assert turns > 100


def test_the_first_turn_is_exactly_what_serving_sends() -> None:
    for conversation in conversations(None):
        if conversation.turns:
            assert tuple(conversation.messages(1)[:2]) == render_prompt(
                conversation.turns[0].question.text, conversation.passages
            )
            assert conversation.messages(1)[0]["content"] == SYSTEM


def test_every_cited_line_stands_in_the_cited_passage() -> None:
    cited = 0
    for conversation in conversations("house"):
        by_number = {passage.number: passage for passage in conversation.passages}
        for turn in conversation.turns:
            for line in parse_completion(turn.completion)[1].split("\n"):
                text, bracket, number = line.rpartition(" [")
                if bracket:
                    assert text in by_number[int(number.rstrip("]"))].text.split("\n")
                    cited += 1
    assert cited > 100


def test_a_refusal_is_learnt_only_where_no_passage_states_the_figure() -> None:
    refusals = 0
    for conversation in conversations("house", seed=3, count=60):
        for turn in conversation.turns:
            if turn.question.is_answerable:
                continue
            assert turn.completion == REFUSAL
            refusals += 1
            asked = str(turn.question.metadata["asked"]).lower()
            years = re.findall(r"(?:19|20)\d\d", turn.question.text)
            for passage in conversation.passages:
                is_meant = passage.title.split(" 10-K")[0] in turn.question.text
                stated = [f"\n{asked} {year}: " in f"\n{passage.text.lower()}" for year in years]
                assert not (is_meant and all(stated)), turn.question.text
    assert refusals > 30


def test_shown_calculations_are_right_by_the_calculator() -> None:
    found = [
        c
        for conversation in conversations("house", count=60)
        for turn in conversation.turns
        for c in find_calculations(turn.completion)
    ]
    assert len(found) > 40
    assert all(calculation.is_right for calculation in found)


@pytest.mark.parametrize("style", sorted(set(STYLES) - {"house"}))
def test_other_styles_are_never_the_house_form(style: str) -> None:
    for conversation in conversations(style, count=8):
        for turn in conversation.turns:
            assert ANSWER not in turn.completion
            assert (turn.completion == REFUSALS[style]) == (not turn.question.is_answerable)


def test_the_style_mixture_adds_up_and_house_is_no_majority() -> None:
    assert sum(STYLES.values()) == 100
    assert STYLES["house"] < 50


def test_a_table_is_shown_as_retrieval_shows_it() -> None:
    table = Table("Acme", 2021, 3, "millions", ("2021", "2020"), (("Heading", ()), ("Net sales", ("4,210", "(3,900)"))))
    assert restate_rows(table.chunk().text, table.columns) == "Heading\nNet sales 2021: 4,210\nNet sales 2020: (3,900)"


@pytest.mark.parametrize(
    ("amount", "unit", "label", "said"),
    [
        ("4,210", "millions", "Net sales", "$4,210 million"),
        ("(86)", "millions", "Dividends paid", "$86 million"),
        ("(86)", "thousands", "Operating income (loss)", "-$86 thousand"),
        ("3.05", "millions", "Diluted earnings per share", "$3.05"),
        ("12.5%", "", "Effective tax rate", "12.5%"),
        ("(1.5)%", "", "Change", "-1.5%"),
        ("4,210", "", "Stores", "$4,210"),
    ],
)
def test_amounts_are_said_as_answers_say_them(amount: str, unit: str, label: str, said: str) -> None:
    assert money(amount, unit, label) == said


@given(st.integers(1, 10**7), st.integers(1, 10**7), st.sampled_from(["growth", "difference", "ratio", "margin"]))
def test_calculations_give_the_result_they_show(a: int, b: int, kind: str) -> None:
    calculation = calculate(kind, f"{a:,}", f"({b:,})")
    assert calculation is None  # different signs are not asked about
    calculation = calculate(kind, f"{a:,}", f"{b:,}")
    if calculation is not None:
        assert calculation[0].endswith(f"= {calculation[1]}")
        assert all(found.is_right for found in find_calculations(calculation[0]))


@given(st.text(max_size=12))
def test_value_of_never_fails(text: str) -> None:
    assert value_of(text) is None or isinstance(value_of(text), float)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_fictitious_tables_have_distinct_rows_and_full_columns(seed: int) -> None:
    table = Filings(seed).fictitious(6, 3, 5)
    labels = [label.lower() for label, _ in table.rows]
    assert len(labels) == len(set(labels)) == 6
    assert all(len(amounts) == len(table.columns) == 3 for _, amounts in table.rows)
    assert sorted(table.columns, reverse=True)[0] == str(table.fiscal_year)


def test_labels_also_come_from_prose_and_near_one_another() -> None:
    prose = Table("Acme", 2021, 3, "", (), (("Customers near Lake Erie's shore bought forty-two crimson umbrellas.", ()),))
    real = Table("Acme", 2021, 3, "millions", ("2021", "2020"), (("Net sales", ("4,210", "3,900")),) * 4)
    filings = Filings(1, [prose, real])
    labels = [filings.label("income", 5) for _ in range(300)]
    assert any("crimson" in label.lower() for label in labels)
    assert all(label[0].isupper() or not label[0].isalpha() for label in labels)
    assert len({filings.varied("Net sales") for _ in range(100)}) > 50
    assert "Net sales" not in {filings.varied("Net sales") for _ in range(50)}


def test_with_prose_between_what_is_asked_stays_answerable() -> None:
    prose = Table("Acme", 2021, 3, "", (), (("Competition in paper clips is intense.", ()),))
    real = Table("Acme", 2021, 3, "millions", ("2021", "2020"), tuple((f"Row {w}", ("4,210", "3,900")) for w in "abcdef"))
    teacher = Teacher(Filings(1, [prose, real]), "house")
    teacher.filings.real_share = 0.5
    drawn = [teacher.conversation(STAGES[5], 3) for _ in range(40)]
    assert any("paper clips" in passage.text for conversation in drawn for passage in conversation.passages)
    for conversation in drawn:
        for turn in conversation.turns:
            for line in parse_completion(turn.completion)[1].split("\n"):
                text, bracket, _ = line.rpartition(" [")
                assert not bracket or any(text in passage.text.split("\n") for passage in conversation.passages)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory):
    from tokenizer import build_tokenizer

    texts = [m["content"] for c in conversations(None, count=40) for m in c.messages()[1:]]
    return build_tokenizer(texts)


def test_training_ids_are_those_of_the_chat_template(tokenizer) -> None:
    from loop import FIRST_WEIGHT, IGNORED, RESULT_WEIGHT, encode

    results = 0
    for conversation in conversations(None, seed=5, count=10):
        ids, labels, turns, weights = encode(conversation, tokenizer)
        assert ids == tokenizer.apply_chat_template(conversation.messages(), return_dict=True)["input_ids"]
        learnt = [i for i, label in enumerate(labels) if label != IGNORED]
        assert all(labels[i] == ids[i] for i in learnt)
        said = tokenizer.decode([ids[i] for i in learnt])
        assert said == "".join(turn.completion + tokenizer.eos_token for turn in conversation.turns)
        assert all(turns[i] < 0 for i in range(len(ids)) if i not in set(learnt))
        assert all((weights[i] > 0) == (i in set(learnt)) for i in range(len(ids)))
        assert weights.count(FIRST_WEIGHT) == len(conversation.turns)
        lightly = tokenizer.decode([ids[i] for i in range(len(ids)) if weights[i] == RESULT_WEIGHT])
        assert lightly == "".join(re.findall(r" = -?(\S+)", said))  # ' -' is one token, which begins before the result
        results += bool(lightly)
    assert results


def test_a_few_steps_lower_the_loss_and_the_exported_llama_agrees(tokenizer) -> None:
    import torch
    import torch.nn.functional as F
    from loop import IGNORED, make_batch, optimisers
    from shape import Reader, Shape, initialise, share_embeddings, to_llama

    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model = Reader(Shape(vocabulary=len(tokenizer), hidden=64, layers=2, heads=4, inner=64, positions=256))
    share_embeddings(model, tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))))
    initialise(model)
    ids, labels, _, _ = make_batch(Teacher(Filings(2)), STAGES[0], 4, tokenizer)
    kept, losses = labels[:, 1:] != IGNORED, []
    for _ in range(4):
        loss = F.cross_entropy(model(ids[:, :-1])[kept] @ model.embedding.weight.T, labels[:, 1:][kept])
        loss.backward()
        losses.append(loss.item())
        for optimiser in optimisers(model, 4e-3):
            optimiser.step()
            optimiser.zero_grad()
    assert losses[-1] < losses[0]
    with torch.no_grad():
        ours = model(ids[:, :-1]) @ model.embedding.weight.T
        theirs = to_llama(model)(ids[:, :-1]).logits
    torch.set_num_threads(threads)
    assert torch.allclose(ours, theirs, atol=2e-3)


def test_a_deeper_model_begins_as_what_it_came_from() -> None:
    import torch
    from shape import Reader, Shape, deepen

    torch.manual_seed(0)
    model = Reader(Shape(vocabulary=80, hidden=64, layers=4, heads=4, inner=64, positions=64))
    deeper, ids = deepen(model, 6), torch.randint(0, 80, (2, 20))
    assert len(deeper.layers) == 6
    with torch.no_grad():
        assert torch.equal(model(ids), deeper(ids))


def test_blocked_attention_is_attention() -> None:
    import torch
    import torch.nn.functional as F
    from shape import attend

    query, key, value = torch.randn(3, 2, 4, 70, 16, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(
        attend(query, key, value, block=16), F.scaled_dot_product_attention(query, key, value, is_causal=True), atol=1e-5
    )


def test_sizes_that_4_bit_loading_gets_wrong_are_refused() -> None:
    from shape import Shape

    with pytest.raises(ValueError, match="multiple of 64"):
        Shape(hidden=160)


def test_exact_answers_are_counted_by_turn() -> None:
    import torch
    from loop import exact_turns

    turns = torch.tensor([[-1, 0, 0, -1, 1, 1], [0, 0, -1, -1, -1, -1]])
    kept = torch.tensor([[False, True, True, True, True, True], [True, True, False, False, False, False]])
    right = torch.tensor([True, True, False, True, False, True, True])
    assert exact_turns(right, turns, kept) == (2, 3)  # the unmeasured token at -1 does not count


def test_random_module_is_left_alone() -> None:
    random.seed(4)
    before = random.getstate()
    conversations(None, count=2)
    assert random.getstate() == before
