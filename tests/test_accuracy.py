"""Held-out accuracy while tuning: measured as served, the best kept, tuning ended, weights and gradients untouched."""

from __future__ import annotations

import dataclasses
import json

import pytest
from tiny_model import make_adapter, make_rows, make_tiny_model

from ragtune.answering.prompt import REFUSAL
from ragtune.errors import RunError
from ragtune.models.chat import load_chat
from ragtune.models.language import open_generator
from ragtune.models.weights import load_4bit, load_base
from ragtune.recipe.schema import Generator, Training
from ragtune.records import Example, Pair, Question
from ragtune.training import accuracy
from ragtune.training.accuracy import AnswerWatch, held_out, open_watch, outcome_of, write_answers
from ragtune.training.job import Job
from ragtune.training.methods import METHODS
from ragtune.training.supervised.sft import fit_sft


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_tiny_model(tmp_path_factory.mktemp("base") / "tiny")


def examples_of(count, seed=0):
    """Rows of the tiny dataset as Examples, each with its question."""
    examples, questions = [], {}
    for number, row in enumerate(make_rows(count, seed=seed)):
        answer = row["completion"][0]["content"]
        examples.append(Example(tuple(row["prompt"]), answer, {"question_id": f"{seed}-{number}"}))
        questions[f"{seed}-{number}"] = Question(f"{seed}-{number}", "What?", answer.rpartition(":")[2].strip() or "1")
    return examples, questions


def job_for(model, folder, method="lora", **training):
    train, known = examples_of(16, seed=1)
    test, others = examples_of(6, seed=2)
    settings = {"lr": 5e-3, "max_steps": 8, "batch_size": 4, "save_steps": 4, "stop_steps": 2, "stop_patience": 2,
                "stop_questions": 4, "method": method, **training}
    folder.mkdir(parents=True, exist_ok=True)
    return Job(Generator(model=str(model), max_new_tokens=8, device="cpu"), Training(**settings), METHODS[method], train, [],
               folder, questions={**known, **others}, held_out=test)


def watch_of(job, save=lambda model, folder: (folder.mkdir(), (folder / "name").write_text(str(model)))):
    return AnswerWatch(job, load_chat(job.generator), save)


def test_it_stops_when_patience_is_used_up_and_the_best_is_what_is_saved(model, tmp_path, monkeypatch):
    watch = watch_of(job_for(model, tmp_path))
    values = {2: 0.25, 4: 0.5, 6: 0.5, 8: 0.25, 10: 0.0}
    monkeypatch.setattr(AnswerWatch, "measure", lambda self, name: values[int(name)])
    over = []
    for step in (2, 4, 6, 8):
        assert watch.is_due(step)
        watch.note(str(step), step)
        over.append(watch.is_over(step))
    assert over == [False, False, False, True]
    assert not watch.is_due(0)
    assert not watch.is_due(5)
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "name").write_text("last")
    watch.finish("10", 10, tmp_path / "adapter")
    assert (tmp_path / "adapter" / "name").read_text() == "4"  # of two as good the one tuned less


def test_a_resumed_run_knows_what_was_measured(model, tmp_path, monkeypatch):
    first = watch_of(job_for(model, tmp_path))
    monkeypatch.setattr(AnswerWatch, "measure", lambda self, value: float(value))
    first.note("0.5", 2)
    first.note("0.25", 4)
    again = watch_of(job_for(model, tmp_path))
    assert again.measures == {2: 0.5, 4: 0.25}
    assert again.note("1.0", 2) == 0.5  # the same step is not measured again
    assert not again.is_over(4)
    again.note("0.125", 6)
    assert again.is_over(6)
    assert (tmp_path / "best" / "name").read_text() == "0.5"


def test_answers_are_those_that_serving_gives(model):
    section = Generator(model=str(model), device="cpu", batch_size=3)
    generator = open_generator(section)
    examples, _ = examples_of(7)
    served = generator.generate([example.prompt for example in examples], 12)
    base = load_base(section).train()
    base.model.layers[0].eval()  # modes may be mixed: each is to be as it was
    assert write_answers(base, load_chat(section), examples, 12, 3) == served
    assert base.training
    assert base.model.layers[1].training
    assert not base.model.layers[0].training


@pytest.mark.parametrize("is_4bit", [True, False])
def test_gradients_after_a_measure_are_those_before(model, is_4bit):
    import torch
    from peft import LoraConfig, get_peft_model

    section = Generator(model=str(model), device="cpu")
    base = load_4bit(section) if is_4bit else load_base(section)
    tuned = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)).train()
    ids = torch.tensor([[5, 90, 17, 44, 130, 21]])

    def gradients():
        tuned.zero_grad()
        tuned(input_ids=ids, labels=ids).loss.backward()
        return {name: p.grad.clone() for name, p in tuned.named_parameters() if p.grad is not None}

    before = gradients()
    write_answers(tuned, load_chat(section), examples_of(3)[0], 6, 2)
    kept = {name: p.grad for name, p in tuned.named_parameters() if p.grad is not None}
    assert all(torch.equal(kept[name], before[name]) for name in before)
    after = gradients()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_run_measures_logs_stops_and_keeps_the_best(model, tmp_path, monkeypatch):
    from safetensors.torch import load_file

    job = job_for(model, tmp_path / "run", stop_patience=1, max_steps=12)
    seen = []
    monkeypatch.setattr(AnswerWatch, "measure", lambda self, model: seen.append(1) or [0.5, 0.75, 0.25][len(seen) - 1])
    fit = fit_sft(job)
    assert fit.steps == 6
    assert [(point["step"], point["accuracy"]) for point in fit.metrics if "accuracy" in point] == [
        (2, 0.5), (4, 0.75), (6, 0.25)]
    curve = [json.loads(line) for line in (job.folder / "metrics.jsonl").read_text().splitlines()]
    assert curve == list(fit.metrics)
    best, last = (load_file(str(job.folder / name / "adapter_model.safetensors")) for name in ("best", "adapter"))
    assert all(bool((best[name] == last[name]).all()) for name in best)
    unbroken = fit_sft(job_for(model, tmp_path / "other", stop_patience=0, max_steps=4, warmup_share=0.0))
    assert unbroken.steps == 4


def test_a_real_measure_scores_what_the_model_says(model, tmp_path, monkeypatch):
    job = job_for(model, tmp_path)
    chosen = held_out(job)
    assert len(chosen) == 4
    replies = [example.completion for example, _ in chosen[:3]] + ["nonsense"]
    monkeypatch.setattr(accuracy, "write_answers", lambda *_: replies)
    assert watch_of(job).measure(None) == 0.75
    monkeypatch.setattr(accuracy, "write_answers", lambda *_: [REFUSAL] * 4)
    assert watch_of(job).measure(None) == 0.0
    monkeypatch.undo()
    assert 0.0 <= watch_of(job).measure(load_base(job.generator)) <= 1.0


def test_rows_of_other_shapes_are_asked_too_and_none_twice(model, tmp_path):
    job = job_for(model, tmp_path)
    example = job.held_out[0]
    pair = Pair(example.prompt, example.completion, "wrong", example.provenance)
    label = {"prompt": [dict(m) for m in example.prompt], "label": True, "provenance": example.provenance,
             "completion": [{"role": "assistant", "content": example.completion}]}
    for rows in ([pair, pair], [label, {**label, "label": False}]):
        (found, question), = held_out(dataclasses.replace(job, held_out=rows))
        assert found.completion == example.completion
        assert list(found.prompt) == list(example.prompt)
        assert question.answer
    refusing = Example(example.prompt, REFUSAL, example.provenance)
    (_, question), = held_out(dataclasses.replace(job, held_out=[refusing]))
    assert not question.is_answerable
    assert outcome_of(question, REFUSAL) == "correct"


def test_without_held_out_questions_it_is_refused_and_off_it_costs_nothing(model, tmp_path):
    job = job_for(model, tmp_path)
    for wrong in (dataclasses.replace(job, held_out=[]), dataclasses.replace(job, questions={}),
                  dataclasses.replace(job, held_out=[{"text": "a"}])):
        with pytest.raises(RunError, match="training.stop_patience measures answers"):
            open_watch(wrong, load_chat(job.generator), lambda *_: None)
    assert open_watch(job_for(model, tmp_path, stop_patience=0), None, lambda *_: None) is None


def test_make_adapter_is_heard(model, tmp_path):
    """The measure hears the adapter, not the base alone."""
    from peft import PeftModel

    section = Generator(model=str(model), device="cpu")
    examples, _ = examples_of(2)
    tuned = PeftModel.from_pretrained(load_base(section), str(make_adapter(tmp_path / "adapter", model)))
    chat = load_chat(section)
    assert write_answers(tuned, chat, examples, 8, 2) != write_answers(load_base(section), chat, examples, 8, 2)
