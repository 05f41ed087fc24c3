"""Chat messages as tokens: counting, tuning and asking must see the same ones."""

from __future__ import annotations

import pytest
from tiny_model import make_tokenizer

from ragtune.models.chat import FALLBACK_TEMPLATE, load_chat
from ragtune.recipe.schema import Generator
from ragtune.records import Message

PROMPT = (Message(role="system", content="Answer."), Message(role="user", content="Question: net sales?"))
NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
NO_END = "{% for m in messages %}{{ m['role'] }}:\n{{ m['content'] }}\n{% endfor %}"


def open_chat(folder, template):
    make_tokenizer(folder, template=template)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return load_chat(Generator(model=str(folder)))


def test_an_example_is_the_prompt_as_asked_then_the_completion_up_to_its_end(tmp_path):
    from tiny_model import TEMPLATE

    chat = open_chat(tmp_path, TEMPLATE)
    prompt, completion = chat.encode_example(PROMPT, "Answer: 4,210 [1]")
    assert prompt == chat.encode_prompt(PROMPT)
    assert chat.count_tokens(PROMPT) == len(prompt)
    assert chat.tokenizer.decode(completion) == "Answer: 4,210 [1]<|end|>"  # not the newline that the template puts after
    assert chat.decode(completion) == "Answer: 4,210 [1]"


@pytest.mark.parametrize("template", [None, NO_SYSTEM, NO_END])
def test_odd_templates_still_end_the_turn_and_keep_the_system_message(tmp_path, template):
    chat = open_chat(tmp_path, template)
    text = chat.render_text(PROMPT)
    assert "Answer." in text
    assert "Question: net sales?" in text
    prompt, completion = chat.encode_example(PROMPT, "Answer: 1")
    assert prompt == chat.encode_prompt(PROMPT)
    assert completion[-1] == chat.tokenizer.eos_token_id
    assert chat.decode(completion).endswith("Answer: 1")


def test_a_base_model_without_template_gets_the_fallback(tmp_path):
    chat = open_chat(tmp_path, None)
    assert chat.tokenizer.chat_template == FALLBACK_TEMPLATE
    assert chat.render_text(PROMPT) == "system:\nAnswer.\n\nuser:\nQuestion: net sales?\n\nassistant:\n"


def test_stop_tokens_are_those_of_the_vocabulary(tmp_path):
    from tiny_model import TEMPLATE

    chat = open_chat(tmp_path, TEMPLATE)
    assert chat.stop_ids == [chat.tokenizer.convert_tokens_to_ids("<|end|>")]
