"""The shapes a dataset can be exported in: one table, each with the entry that LLaMA-Factory and Axolotl need to read it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragtune.datasets.corpus import build_instructions, build_rl_prompts, label_answerable, label_kinds
from ragtune.datasets.folder import OpenedDataset
from ragtune.errors import RecipeError, RunError, nearest
from ragtune.files import write_jsonl
from ragtune.records import Example

_FROM = {"system": "system", "user": "human", "assistant": "gpt"}


@dataclass(frozen=True)
class Format:
    """One shape. ``build`` yields the rows of a side ('train' or 'test'); None: text of the index's documents.

    ``llama_factory`` is the entry of its dataset_info.json without the file's name, ``axolotl`` the entry of its
    ``datasets`` without the path; None where the tool has no such rows. ``task`` is the Hugging Face task category.
    """

    description: str
    build: Callable[[OpenedDataset, str], Iterable[dict[str, Any]]] | None
    llama_factory: Mapping[str, Any] | None = None
    axolotl: Mapping[str, Any] | None = None
    task: str = "question-answering"
    suffix: str = "jsonl"
    note: str = ""


def _each(render: Callable[[Example], dict[str, Any]]) -> Callable[[OpenedDataset, str], Iterator[dict[str, Any]]]:
    """Return what renders the rows of a side one by one: row n of the export is row n of the dataset."""
    return lambda dataset, side: map(render, dataset.side(side))


def render_messages(example: Example) -> dict[str, Any]:
    """Return ``{"messages": [{"role", "content"}, ...]}``, as OpenAI's and most chat tools have it."""
    return {"messages": [*map(dict, example.prompt), {"role": "assistant", "content": example.completion}]}


def render_prompt_completion(example: Example) -> dict[str, Any]:
    """Return ``{"prompt": [...], "completion": [...]}``: TRL trains the completion alone."""
    return {"prompt": [*map(dict, example.prompt)], "completion": [{"role": "assistant", "content": example.completion}]}


def render_sharegpt(example: Example) -> dict[str, Any]:
    """Return ``{"conversations": [{"from", "value"}, ...]}``; the system message is the first turn, where all three look."""
    messages = render_messages(example)["messages"]
    return {"conversations": [{"from": _FROM[message["role"]], "value": message["content"]} for message in messages]}


def render_alpaca(example: Example) -> dict[str, Any]:
    """Return instruction, input, output and system. Raises RunError for a prompt of several turns.

    ``input`` stays empty: tools put it after the instruction, each in its own way, and the question must stand after
    the passages as it does when serving.
    """
    system = "\n\n".join(message["content"] for message in example.prompt if message["role"] == "system")
    turns = [message["content"] for message in example.prompt if message["role"] != "system"]
    if len(turns) != 1:
        raise RunError(f"found a prompt of {len(turns)} turns ({turns[0][:60]!r} ...); the format 'alpaca' holds one. "
                       "Choose --format sharegpt or messages.")
    return {"instruction": turns[0], "input": "", "output": example.completion, "system": system}


_CHAT: dict[str, Any] = {
    "llama_factory": {
        "formatting": "sharegpt", "columns": {"messages": "messages"},
        "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
                 "system_tag": "system"},
    },
    "axolotl": {"type": "chat_template", "field_messages": "messages",
                "message_property_mappings": {"role": "role", "content": "content"}, "roles_to_train": ["assistant"]},
}
FORMATS: dict[str, Format] = {
    "messages": Format("Chat messages, JSONL: {messages: [{role, content}]}.", _each(render_messages), **_CHAT),
    "prompt_completion": Format(
        "Prompt and completion apart, JSONL: TRL trains the completion alone.", _each(render_prompt_completion),
        note="TRL: `SFTTrainer(train_dataset=load_dataset(FOLDER, split=\"train\"))`; the loss is on the completion alone.",
    ),
    "parquet": Format("Chat messages as Parquet.", _each(render_messages), suffix="parquet", **_CHAT),
    "sharegpt": Format(
        "ShareGPT, JSONL: {conversations: [{from, value}]}.", _each(render_sharegpt),
        {"formatting": "sharegpt", "columns": {"messages": "conversations"},
         "tags": {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt",
                  "system_tag": "system"}},
        {"type": "chat_template", "field_messages": "conversations",
         "message_property_mappings": {"role": "from", "content": "value"}, "roles_to_train": ["assistant"]},
        note="Unsloth: `standardize_sharegpt(load_dataset(FOLDER, split=\"train\"))`.",
    ),
    "alpaca": Format(
        "Alpaca, JSONL: {instruction, input, output, system}.", _each(render_alpaca),
        {"formatting": "alpaca",
         "columns": {"prompt": "instruction", "query": "input", "response": "output", "system": "system"}},
        {"type": "alpaca_w_system.load_instruct"},
    ),
    "pretraining": Format(
        "Text of the documents, packed and deduplicated, without test documents, JSONL: {text}.", None,
        {"columns": {"prompt": "text"}}, {"type": "completion", "field": "text"}, "text-generation",
    ),
    "instructions": Format(
        "Questions and answers without passages, JSONL: {messages}.", build_instructions, **_CHAT,
        note="These rows teach figures by heart: a model tuned on them recites where it should read. Use them beside rows "
             "with passages, or to measure what knowing by heart is worth.",
    ),
    "answerable": Format(
        "Classification, JSONL: {text, label}: whether the passages hold the answer.", label_answerable,
        task="text-classification",
    ),
    "kinds": Format("Classification, JSONL: {text, label}: the kind of a question.", label_kinds,
                    task="text-classification"),
    "rl": Format(
        "Prompts for reinforcement learning, JSONL: {prompt, answer, is_answerable, reference, provenance}.",
        build_rl_prompts,
        note="TRL: `GRPOTrainer` hands every column but `prompt` to the reward functions, by name.",
    ),
}


def find_format(name: str) -> Format:
    """Return the format of this name. Raises RecipeError naming all of them and the nearest one."""
    if name not in FORMATS:
        raise RecipeError(f"the format '{name}' is not known. Allowed: {', '.join(FORMATS)}.{nearest(name, FORMATS)} "
                          "Do: ragtune dataset export --help")
    return FORMATS[name]


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows as JSONL or, by the suffix, Parquet; return how many."""
    if path.suffix != ".parquet":
        return write_jsonl(path, rows)
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_pylist(list(rows))
    pyarrow.parquet.write_table(table, path)
    return int(table.num_rows)
