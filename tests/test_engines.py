"""What every engine owes the Generator seam: the same tests on each, and the same greedy answers from all."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tiny_model import make_adapter, make_tiny_model

from ragtune.answering.prompt import render_prompt
from ragtune.errors import ModelError, RunError
from ragtune.models.language import open_counter, open_generator
from ragtune.recipe.schema import Generator
from ragtune.records import Message, Passage
from ragtune.seams import Generator as Seam
from ragtune.seams import Sampler, Sampling

ENGINES = ("transformers", "ctranslate2")
LENGTHS = (1, 9, 3, 7, 2)


def prompt(text):
    return [Message(role="system", content="Answer."), Message(role="user", content=text)]


PROMPTS = [prompt("Net sales 2021: 4,210 " * length) for length in LENGTHS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_tiny_model(tmp_path_factory.mktemp("model"), seed=3)


@pytest.fixture(scope="module")
def adapter(folder, tmp_path_factory):
    return make_adapter(tmp_path_factory.mktemp("adapter"), folder, seed=1)


@pytest.fixture(scope="module", params=ENGINES)
def section(request, folder):
    if request.param == "ctranslate2":
        pytest.importorskip("ctranslate2")
    return Generator(model=str(folder), engine=request.param, max_new_tokens=12, batch_size=3, device="cpu")


@pytest.fixture(scope="module")
def generator(section):
    return open_generator(section)


def test_a_batch_answers_as_one_by_one_in_the_order_asked(generator):
    seen = []
    together = generator.generate(PROMPTS, 12, lambda done, total: seen.append((done, total)))
    alone = [generator.generate([one], 12)[0] for one in PROMPTS]
    assert together == alone
    assert len(set(together)) > 1
    assert all(together)
    assert seen == [(3, 5), (5, 5)]
    assert isinstance(generator, Seam)


def test_nothing_asked_is_nothing_answered(generator):
    assert generator.generate([], 12) == []


def test_no_more_than_the_new_tokens_asked_for_are_written(generator):
    counts = [len(generator.chat.encode(generator.generate([PROMPTS[1]], limit)[0])) for limit in (1, 4, 12)]
    assert counts == sorted(counts)
    assert counts[0] <= 1 < counts[2] <= 12


def test_a_stop_token_ends_the_answer_and_is_not_said(generator, monkeypatch):
    chat = generator.chat
    said = generator.generate([PROMPTS[1]], 12)[0]
    third = chat.encode(said)[2]
    monkeypatch.setattr(generator, "stop_ids", [third])
    stopped = generator.generate([PROMPTS[1]], 12)[0]
    assert said.startswith(stopped)
    assert len(chat.encode(stopped)) <= 3 < len(chat.encode(said))


def test_a_prompt_over_the_context_is_refused_with_its_numbers(generator):
    with pytest.raises(ModelError, match=r"12 new ones do not fit .* reads 2048. Lower generator.max_prompt_tokens"):
        generator.generate([prompt("Net sales 2021 " * 2000)], 12)


def test_a_budget_over_the_context_is_refused_when_opened(section):
    with pytest.raises(ModelError, match="at most 2036"):
        open_generator(section.model_copy(update={"max_prompt_tokens": 4000}))


def test_it_counts_as_the_counter_does_and_its_name_holds_no_path(section, generator, folder):
    assert generator.count_tokens(PROMPTS[0]) == open_counter(section)(PROMPTS[0]) > 5
    assert generator.name == folder.name


def test_an_adapter_changes_the_answers_and_the_base_comes_back(section, generator, adapter):
    base = generator.generate(PROMPTS, 12)
    tuned = open_generator(section, adapter=adapter)
    changed = tuned.generate(PROMPTS, 12)
    assert changed != base
    assert tuned.adapter == adapter
    assert tuned.fingerprint == generator.fingerprint
    with tuned.without_adapter():
        assert tuned.generate(PROMPTS, 12) == base
    assert tuned.generate(PROMPTS, 12) == changed


def test_an_adapter_of_another_base_or_a_missing_one_is_refused(section, adapter, tmp_path):
    wider = section.model_copy(update={"model": str(make_tiny_model(tmp_path / "wider", hidden=128))})
    with pytest.raises(RunError, match="does not fit 'wider'"):
        open_generator(wider, adapter=adapter)
    with pytest.raises(RunError, match=r"adapter_config\.json is missing"):
        open_generator(section, adapter=tmp_path / "nowhere")


def test_a_damaged_model_folder_is_one_clear_error(section, tmp_path):
    broken = make_tiny_model(tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"\x00" * 64)
    with pytest.raises(ModelError, match="cannot be loaded"):
        open_generator(section.model_copy(update={"model": str(broken)}))


def bundled_prompts():
    """Return chat prompts of some 150 to 900 tokens: rows to look figures up in, and a question that they do not answer."""
    names = ("Net sales", "Cost of sales", "Gross profit", "Operating income", "Interest expense", "Net income",
             "Total assets", "Inventories", "Long-term debt", "Capital expenditures")
    prompts = []
    for number, rows in enumerate((4, 10, 16, 24)):
        passages = []
        for page in (1, 2):
            lines = [f"{names[(row + page) % 10]} {2020 + page}: {(row * 7919 + page * 104729 + number * 31) % 90000:,}"
                     for row in range(rows)]
            text = "\n".join(lines)
            title = f"Acme 10-K 2022, page {page}"
            passages.append(Passage(page, text, f"c{page}", "acme", page, 0, len(text), title=title))
        for asked in (names[number], names[number + 4], "Goodwill"):
            prompts.append(render_prompt(f"What was {asked.lower()} in fiscal 2022?", passages))
    return prompts


@pytest.fixture(scope="module")
def bundled_adapter(tmp_path_factory):
    return make_adapter(tmp_path_factory.mktemp("bundled"), "bundled", seed=5)


@pytest.mark.parametrize("is_tuned", [False, True])
def test_both_engines_give_the_bundled_model_s_greedy_answers(bundled_adapter, is_tuned):
    pytest.importorskip("ctranslate2")
    adapter = bundled_adapter if is_tuned else None
    prompts = bundled_prompts()
    section = Generator(device="cpu")
    wanted = open_generator(section, adapter).generate(prompts, 32)
    found = open_generator(section.model_copy(update={"engine": "ctranslate2"}), adapter).generate(prompts, 32)
    assert found == wanted
    assert len(set(wanted)) > 3


def test_the_default_engine_gives_what_plain_generate_does(bundled_adapter):
    """The reference: transformers' own generate with peft's own layers, one prompt at a time."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from ragtune.models.bundled import bundled_folder

    folder, prompts = str(bundled_folder()), bundled_prompts()[::2]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, str(bundled_adapter)).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    wanted = []
    for messages in prompts:
        text = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)
        sent = tokenizer(text, add_special_tokens=False, return_tensors="pt")
        with torch.no_grad():
            written = model.generate(**sent, max_new_tokens=24, do_sample=False)[0, sent["input_ids"].shape[1] :]
        wanted.append(tokenizer.decode(written, skip_special_tokens=True).strip())
    assert open_generator(Generator(device="cpu"), bundled_adapter).generate(prompts, 24) == wanted


def test_samples_come_again_under_their_seed_and_not_under_another(generator):
    drawn = Sampling(samples=3, temperature=1.0, seed=1)
    seen = []
    first = generator.sample(PROMPTS, 12, drawn, lambda done, total: seen.append((done, total)))
    assert [len(samples) for samples in first] == [3] * len(PROMPTS)
    assert len({text for samples in first for text in samples}) > len(PROMPTS)
    assert seen[-1] == (15, 15)
    assert generator.sample(PROMPTS, 12, drawn) == first
    assert generator.sample(PROMPTS, 12, dataclasses.replace(drawn, seed=2)) != first
    assert isinstance(generator, Sampler)


def test_without_temperature_all_samples_are_the_greedy_one_and_sampling_leaves_no_trace(generator):
    greedy = generator.generate(PROMPTS, 12)
    assert generator.sample(PROMPTS, 12, Sampling(samples=2, temperature=0.0, seed=4)) == [[text] * 2 for text in greedy]
    torch.manual_seed(7)
    wanted = torch.rand(1)
    torch.manual_seed(7)
    generator.sample(PROMPTS[:1], 12, Sampling(temperature=1.0))
    assert torch.rand(1) == wanted
    assert generator.generate(PROMPTS, 12) == greedy


def test_little_top_p_leaves_the_likeliest_word_only(generator):
    narrow = Sampling(samples=2, temperature=1.0, top_p=1e-4, seed=3)
    assert generator.sample(PROMPTS, 12, narrow) == [[text] * 2 for text in generator.generate(PROMPTS, 12)]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_bundled_model_is_sampled(engine):
    """The shipped weights: the same seed the same answers, another seed others, temperature 0 the greedy one."""
    if engine == "ctranslate2":
        pytest.importorskip("ctranslate2")
    generator = open_generator(Generator(device="cpu", engine=engine))
    prompts = bundled_prompts()[::3]
    drawn = Sampling(samples=2, temperature=0.8, top_p=0.95, seed=1)
    first = generator.sample(prompts, 24, drawn)
    assert generator.sample(prompts, 24, drawn) == first
    assert generator.sample(prompts, 24, dataclasses.replace(drawn, seed=2)) != first
    greedy = generator.generate(prompts, 24)
    assert [samples[0] for samples in generator.sample(prompts, 24, dataclasses.replace(drawn, temperature=0.0))] == greedy
    assert first != [[text] * 2 for text in greedy]


def test_a_switch_that_fails_half_way_leaves_the_former_in_force(section, adapter, monkeypatch):
    generator = open_generator(section)
    before, use = generator.generate(PROMPTS[:2], 6), generator._use

    def fail(path):
        use(path)
        if path is not None:
            raise ModelError("no memory")

    monkeypatch.setattr(generator, "_use", fail)
    with pytest.raises(ModelError, match="no memory"):
        generator.attach(adapter)
    assert generator.adapter is None
    assert generator.generate(PROMPTS[:2], 6) == before


def test_a_seeded_draw_that_fails_leaves_the_engine_open(section, monkeypatch):
    generator = open_generator(section)
    if section.engine != "ctranslate2":
        pytest.skip("only CTranslate2 opens its weights anew for a seed")
    before, opened = generator.generate(PROMPTS[:2], 6), generator._open

    def fail(weights, is_seeded=False):
        if is_seeded:
            raise ModelError("no memory")
        return opened(weights)

    monkeypatch.setattr(generator, "_open", fail)
    with pytest.raises(ModelError, match="no memory"):
        generator.sample(PROMPTS[:2], 6, Sampling(1, 1.0, 1.0, 7))
    assert generator.generate(PROMPTS[:2], 6) == before
