"""No row is cut, dropped or masked on its way from train.jsonl into TRL's SFTTrainer; what does not fit is told before."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from dataset_fakes import ACME, ZENITH, MemorySearcher
from tiny_model import make_tiny_model

from ragtune.datasets.folder import read_examples, render_row
from ragtune.datasets.instruct import build_examples
from ragtune.errors import RunError
from ragtune.files import write_jsonl
from ragtune.models.chat import Chat, load_chat
from ragtune.models.language import read_window
from ragtune.recipe.schema import Dataset, Generator, Retrieval, Training
from ragtune.records import Evidence, Example, Question
from ragtune.training.job import Job
from ragtune.training.methods import METHODS
from ragtune.training.rows import NO_LOSS
from ragtune.training.supervised import sft

A = "ACME_2021_10K"
GENERATOR = Generator(device="cpu", max_prompt_tokens=420, max_new_tokens=96)
TRAINING = Training(method="lora", max_steps=1, batch_size=4, eval_rows=8)
SALES = Question("sales", "What were Acme's net sales in 2021?", "$4,210 million",
                 (Evidence(A, 2, "Net sales $ 4,210 $ 3,900"),), "lookup", "Net sales 2021: 4,210")
RATIO = Question("ratio", "Acme's gross profit divided by its net sales in 2021?", "38.2%",
                 (Evidence(A, 2, "Net sales $ 4,210 $ 3,900"), Evidence(A, 2, "Gross profit 1,610 1,450")), "ratio",
                 "Gross profit 2021: 1,610\nNet sales 2021: 4,210\n1,610 / 4,210 = 38.2%")
WHY = Question("why", "What drove Acme's sales in 2021?", "Higher volumes and prices.",
               (Evidence(A, 1, "The increase was driven by higher volumes and by prices."),), "why")
NOTHING = Question("nothing", "What was Acme's royalty income in 2021?", kind="unanswerable")
LONG = Question("long", "Tell the story of Acme.", "So it was. " * 600, (Evidence(A, 1),), "long")


@pytest.fixture(scope="module")
def chat() -> Chat:
    return load_chat(GENERATOR)


@pytest.fixture(scope="module")
def examples(chat: Chat, tmp_path_factory: pytest.TempPathFactory) -> list[Example]:
    """Return the rows of a train.jsonl: gold, refused, closed book, quoted; one question is over-long."""
    section = Dataset(rows_per_question=6, gold_share=0.7, closed_book_share=0.1, quotes=True, distractors=4,
                      max_dropped_share=0.3)
    built = build_examples([SALES, RATIO, WHY, NOTHING, LONG], MemorySearcher(ACME, ZENITH), chat.count_tokens, section,
                           Retrieval(), GENERATOR, context_tokens=read_window(GENERATOR))
    over = {reason: count for reason, count in built.dropped.items() if reason.startswith("prompt and completion are over")}
    assert over == dict(built.dropped)
    assert sum(over.values()) > 1
    assert {e.provenance["mode"] for e in built.examples} == {"gold", "distractors", "unanswerable", "closed_book"}
    path = tmp_path_factory.mktemp("rows") / "train.jsonl"
    write_jsonl(path, map(render_row, built.examples))
    return read_examples(path)


class Seen(Exception):
    """The trainer's batches were looked at; there is no need to tune."""


def look(found: dict[str, list[tuple[list[int], list[int]]]]) -> Any:
    """Return a callback that takes what the trainer's own loaders give the model, and stops it."""
    from transformers import TrainerCallback

    class Look(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            for side, loader in (("train", given["train_dataloader"]), ("test", given["eval_dataloader"])):
                for batch in loader or ():
                    for ids, mask, labels in zip(batch["input_ids"], batch["attention_mask"], batch["labels"]):
                        kept = mask.bool()
                        found[side].append((ids[kept].tolist(), labels[kept].tolist()))
            raise Seen

    return Look()


def fit(examples: list[Example], folder: Path, *callbacks: Any, test: list[Example] | None = None) -> None:
    sft.fit_sft(Job(GENERATOR, TRAINING, METHODS["lora"], examples, test or [], folder, callbacks=callbacks))


def test_every_row_reaches_the_model_whole_and_every_completion_token_counts(
    chat: Chat, examples: list[Example], tmp_path: Path
) -> None:
    found: dict[str, list[tuple[list[int], list[int]]]] = {"train": [], "test": []}
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch, pytest.raises(Seen):
        build = sft._build_trainer

        def with_test_loader(*arguments: Any) -> Any:
            trainer = build(*arguments)
            trainer.callback_handler.eval_dataloader = trainer.get_eval_dataloader()
            return trainer

        patch.setattr(sft, "_build_trainer", with_test_loader)
        fit(examples, tmp_path, look(found), test=examples[:5])
    stops = set(chat.stop_ids)
    for side, given in (("train", examples), ("test", examples[:5])):
        texts = Counter()
        for ids, labels in found[side]:
            said = [label for label in labels if label != NO_LOSS]
            assert labels == [NO_LOSS] * (len(ids) - len(said)) + ids[len(ids) - len(said):]
            assert said[-1] in stops, "it learns to end"
            texts[chat.tokenizer.decode(ids[: len(ids) - len(said)]), chat.tokenizer.decode(said[:-1])] += 1
        assert texts == Counter((chat.render_text(example.prompt), example.completion) for example in given)
    assert len(found["train"]) == len(examples) > 15


@pytest.mark.parametrize("cut", [1, 200])
def test_a_trainer_that_cuts_or_drops_rows_is_told(
    chat: Chat, examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    """What TRL does to rows longer than its max_length, without a word: 1 token less cuts answers, 200 less drop rows."""
    longest = max(sum(map(len, chat.encode_example(e.prompt, e.completion))) for e in examples)
    build = sft.build_arguments

    def with_length(*arguments: Any) -> Any:
        settings = build(*arguments)
        assert settings.max_length is None
        settings.max_length = longest - cut
        return settings

    monkeypatch.setattr(sft, "build_arguments", with_length)
    count = len(examples)
    kept = f"kept {count} of {count}" if cut == 1 else rf"kept (?!{count} of)\d+ of {count}"
    with pytest.raises(RunError, match=rf"the trainer {kept} training rows with (\d+) of (?!\1 )\d+ completion"):
        fit(examples, tmp_path)


def test_rows_over_the_models_window_are_refused_before_its_weights_are_read(
    examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_nothing(*_: Any) -> None:
        raise AssertionError("the weights were read")

    monkeypatch.setattr(sft, "load_base", read_nothing)
    small = Generator(model=str(make_tiny_model(tmp_path / "small", positions=200)), device="cpu")
    with pytest.raises(RunError, match=r"train.jsonl: \d+ of \d+ rows are longer than the model's 200 tokens"):
        sft.fit_sft(Job(small, TRAINING, METHODS["lora"], examples, [], tmp_path))
    with pytest.raises(RunError, match=r"test.jsonl: \d+ of \d+ rows"):
        sft.fit_sft(Job(small, TRAINING, METHODS["lora"], examples[:0], examples, tmp_path))
