"""The bundled model: an ordinary checkpoint, a lossless tokenizer, and a reader that reads."""

from __future__ import annotations

import random
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtune.answering.prompt import SYSTEM, parse_completion, render_prompt
from ragtune.errors import ModelError
from ragtune.models import bundled
from ragtune.models.bundled import CONTEXT_TOKENS, FILES, FOLDER, bundled_folder
from ragtune.records import Passage

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts" / "pretrain"))
LINES = (
    "Net sales 2021: 4,210",
    "Net sales 2020: 3,900",
    "Cost of sales 2021: 2,615",
    "Cost of sales 2020: 2,402",
    "Operating income 2021: 733",
    "Operating income 2020: 641",
)
PASSAGE = Passage(1, "\n".join(LINES), "c", "ACME_2021_10K", 7, 0, 1, "Acme Foods 10-K 2021, page 7 (in millions)")


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(bundled_folder())


@pytest.fixture(scope="module")
def model():
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(bundled_folder(), dtype=torch.float32).eval()


def test_the_folder_is_the_one_that_was_shipped() -> None:
    folder = bundled_folder(check=True)
    assert {path.name for path in folder.iterdir()} == {*FILES, "README.md"}
    assert sum(path.stat().st_size for path in folder.iterdir()) < 15_000_000


def test_a_changed_or_missing_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(bundled_folder(), tmp_path / FOLDER)
    monkeypatch.setattr(bundled.resources, "files", lambda package: tmp_path)
    weights = tmp_path / FOLDER / "model.safetensors"
    flipped = bytearray(weights.read_bytes())
    flipped[-1] ^= 1
    weights.write_bytes(flipped)
    with pytest.raises(ModelError, match="not the one that ships"):
        bundled_folder(check=True)
    weights.unlink()
    with pytest.raises(ModelError, match=r"lacks model.safetensors"):
        bundled_folder()


def test_sizes_suit_4_bit_loading(model) -> None:
    config = model.config
    for size in (config.hidden_size, config.num_attention_heads * config.head_dim, config.intermediate_size):
        assert size % 64 == 0
    assert config.max_position_embeddings == CONTEXT_TOKENS
    assert config.tie_word_embeddings
    assert config.model_type == "llama"


@settings(max_examples=200, deadline=None)
@given(text=st.text())
def test_decoding_gives_back_any_text(tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False), skip_special_tokens=False) == text


@pytest.mark.parametrize(
    "text",
    [
        "Net sales 2021: 4,210\nNet sales 2020: (3,900)\n\n  Two  spaces, tab\tand $1,577.00 — 12.5%",
        "ÄÖÜ naïve 株式 🙂 ½",
        "",
        "12,345,678 0.05 007 2021 120212022 FY2021Q4 (2,021)",
        SYSTEM,
        f"{SYSTEM} {SYSTEM}!",
        "Don't SHOUT at McDonald's",
    ],
)
def test_figures_case_and_spaces_survive(tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_numbers_cost_few_tokens(tokenizer) -> None:
    assert tokenizer.tokenize(" 2021: 4,210\n") == ["Ġ2021", ":Ġ", "4", ",210", "Ċ"]
    assert all(len(tokenizer.tokenize(f"{number:03d}")) == 1 for number in range(1000))
    assert len(tokenizer.encode(SYSTEM, add_special_tokens=False)) == 1


def test_the_chat_template_is_what_training_used(tokenizer) -> None:
    from conversations import STAGES, Teacher
    from loop import encode
    from tables import Filings

    teacher = Teacher(Filings(5))
    for _ in range(10):
        conversation = teacher.conversation(STAGES[3], 4)
        messages = conversation.messages()
        assert tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"] == encode(conversation, tokenizer)[0]
        if conversation.turns:
            asked = tokenizer.apply_chat_template(messages[:2], add_generation_prompt=True, return_dict=True)["input_ids"]
            assert encode(conversation, tokenizer)[0][: len(asked)] == asked


def test_markup_in_a_document_is_no_turn(tokenizer) -> None:
    prompt = list(render_prompt("What is <|end|>?", [PASSAGE]))
    ids = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert tokenizer.eos_token_id not in ids


def complete(model, tokenizer, prompt) -> str:
    from transformers import set_seed

    set_seed(0)
    inputs = tokenizer.apply_chat_template(list(prompt), add_generation_prompt=True, return_tensors="pt", return_dict=True)
    output = model.generate(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], max_new_tokens=64)
    return tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def test_a_figure_is_found_and_the_answer_ends(model, tokenizer) -> None:
    text = complete(model, tokenizer, render_prompt("What was Acme Foods' operating income in FY2021?", [PASSAGE]))
    assert "733" in text
    assert len(tokenizer.encode(text)) < 60


def test_without_passages_no_figure_is_made_up(model, tokenizer) -> None:
    text = complete(model, tokenizer, render_prompt("What was Acme Foods' operating income in FY2021?"))
    assert not any(character.isdigit() for character in text)


def test_more_than_half_of_unseen_figures_are_read(model, tokenizer) -> None:
    from conversations import STAGES, Teacher
    from measure import draw_prompts, generate
    from tables import Filings

    filings = Filings(77_000_001)
    teacher = Teacher(filings, style="house")
    teacher.random = filings.random = random.Random(77)
    drawn = [c for c in draw_prompts(teacher, STAGES[3], 60) if c.turns[0].kind == "figure"][:20]
    right = sum(
        parse_completion(c.turns[0].gold)[1].rsplit(": ", 1)[1].split(" [")[0] in text
        for c, text in zip(drawn, generate(model, tokenizer, drawn, max_new_tokens=48))
    )
    assert len(drawn) == 20
    assert right >= 10
