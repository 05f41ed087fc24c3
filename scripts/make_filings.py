"""Write the bundled documents: annual reports of fictitious companies as PDFs, and questions about them.

    python scripts/make_filings.py [--out data]

Deterministic: the same reportlab version writes the same bytes. Needs the dev extra (pip install 'ragtune[dev]').
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from filings.asking import Asker, find_facts, read_pages  # noqa: E402
from filings.books import keep_books  # noqa: E402
from filings.companies import COMPANIES  # noqa: E402
from filings.pages import write_filing  # noqa: E402

from ragtune.files import write_jsonl  # noqa: E402


def make_filings(out: Path) -> tuple[int, int]:
    """Write ``filings/*.pdf``, ``documents.jsonl`` and ``questions.jsonl`` under ``out``; return how many of each."""
    folder = out / "filings"
    folder.mkdir(parents=True, exist_ok=True)
    questions, documents, asked = [], [], set()
    for company in COMPANIES:
        books = keep_books(company)
        for year in company.fiscal_years:
            name = f"{company.key}_{year}_10K"
            path = folder / f"{name}.pdf"
            rows = write_filing(path, company, books, year)
            documents.append({"document": name, "company": company.short, "fiscal_year": year, "form": "10-K"})
            for question in Asker(company, year, name, find_facts(rows, read_pages(path))).ask_all():
                if question.text not in asked:
                    questions.append(question.to_dict())
                asked.add(question.text)
    write_jsonl(out / "documents.jsonl", documents)
    write_jsonl(out / "questions.jsonl", questions)
    return len(documents), len(questions)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "data", help="folder that gets filings/ and questions.jsonl")
    filings, questions = make_filings(parser.parse_args().out)
    print(f"{filings} filings, {questions} questions")


if __name__ == "__main__":
    main()
