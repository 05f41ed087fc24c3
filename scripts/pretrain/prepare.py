"""Before training: read the statements of the training filings (optional), and build the tokenizer."""

from __future__ import annotations

import argparse
from functools import reduce
from pathlib import Path

from conversations import STAGES, Teacher
from tables import HELD_OUT, Filings, load_tables, read_tables, save_tables
from tokenizer import build_tokenizer, save_tokenizer


def main() -> None:
    """Write tables.jsonl and tokenizer/ into the work folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--filings", type=Path, help="folder with documents.jsonl and pdfs/; without it all is fictitious")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    tables = options.work / "tables.jsonl"
    if not tables.exists():
        save_tables(read_tables(options.filings) if options.filings else (), tables)
    if (options.work / "tokenizer").exists():
        return
    filings = Filings(0, [table for table in load_tables(tables) if table.company not in HELD_OUT])
    teacher = Teacher(filings)
    texts = [filings.company() for _ in range(400)]
    for conversation in (teacher.conversation(STAGES[3], 8) for _ in range(4000)):
        names = {
            passage.title.split(" 10-K")[0] for passage in conversation.passages
        }  # invented: they need no tokens of their own
        for message in conversation.messages()[1:]:
            texts.append(reduce(lambda text, name: text.replace(name, ""), names, message["content"]))
    texts += [f"{label}\n {label[0].lower()}{label[1:]}" for label in filings.real_labels for _ in range(2)]
    save_tokenizer(build_tokenizer(texts), options.work / "tokenizer")


if __name__ == "__main__":
    main()
