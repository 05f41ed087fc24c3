"""File formats: each read, each refused where it is not what its suffix says."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from document_files import COVER, STATEMENT, write_docx, write_pdf
from hypothesis import given
from hypothesis import strategies as st

from ragtune.documents.formats import READERS, clean_text, mend_hyphens, read_pages, strip_running_heads
from ragtune.errors import DocumentError


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_every_reader_has_a_test_below() -> None:
    assert set(READERS) == {".pdf", ".html", ".htm", ".md", ".txt", ".docx", ".csv", ".jsonl"}


def test_text_pages_are_parted_by_form_feeds(tmp_path: Path) -> None:
    pages, without_text = read_pages(write(tmp_path / "a.txt", "first  page\r\nline\ttwo\fsecond"))
    assert (pages, without_text) == (["first page\nline two", "second"], [])


def test_markdown_with_byte_order_mark_and_windows_text(tmp_path: Path) -> None:
    assert read_pages(write(tmp_path / "a.md", b"\xef\xbb\xbf# Caf\xc3\xa9"))[0] == ["# Café"]
    assert read_pages(write(tmp_path / "b.txt", b"the company\x92s caf\xe9"))[0] == ["the company’s café"]
    assert read_pages(write(tmp_path / "c.txt", "sixteen".encode("utf-16")))[0] == ["sixteen"]


def test_html_rows_are_lines_and_scripts_are_not_text(tmp_path: Path) -> None:
    html = """<html><head><title>t</title><style>p {}</style></head><body><h1>Income</h1><p>Sales <b>rose</b> again.</p>
    <table><tr><th>(Millions)</th><th>2021</th><th>2020</th></tr><tr><td>Net sales</td><td>$</td><td>4,210</td><td>3,900</td>
    </tr></table><script>alert(1)</script><div style="page-break-before: always">Second page</div></body></html>"""
    pages, _ = read_pages(write(tmp_path / "a.html", html))
    assert [[line for line in page.split("\n") if line] for page in pages] == [
        ["Income", "Sales rose again.", "(Millions) 2021 2020", "Net sales $ 4,210 3,900"], ["Second page"]]


def test_docx_tables_headings_and_page_breaks(tmp_path: Path) -> None:
    pages, _ = read_pages(write_docx(tmp_path / "a.docx"))
    assert pages == ["# Results\nSales rose.\n(Millions) 2021 2020\nNet sales 4,210 3,900", "Second page."]


def test_csv_rows_name_their_columns(tmp_path: Path) -> None:
    rows = "\n".join(f"{2000 + n},{n}" for n in range(120))
    pages, _ = read_pages(write(tmp_path / "a.csv", f"year,net sales\n{rows}\n"))
    assert len(pages) == 3
    assert pages[0].startswith("year: 2000; net sales: 0\nyear: 2001; net sales: 1\n")


def test_jsonl_text_becomes_a_page_each(tmp_path: Path) -> None:
    lines = [{"text": "first"}, {"text": "second\fstill"}, {"name": "Acme", "sales": 5}]
    pages, _ = read_pages(write(tmp_path / "a.jsonl", "\n".join(json.dumps(line) for line in lines)))
    assert pages == ["first", "second\nstill", "name: Acme; sales: 5"]


def broken_zip() -> bytes:
    return b"PK\x03\x04" + b"\x00" * 60


@pytest.mark.parametrize(("name", "content", "reason"), [
    ("a.pdf", b"", r"0 bytes"),
    ("a.txt", b"", r"0 bytes"),
    ("a.pdf", b"<html>not a pdf</html>", r"not a PDF although it is named \.pdf"),
    ("a.pdf", b"PK\x03\x04rest", r"zip archive .* named \.pdf"),
    ("a.txt", b"%PDF-1.7 rest", r"a PDF although it is named \.txt"),
    ("a.html", b"%PDF-1.7 rest", r"a PDF although it is named \.html"),
    ("a.txt", b"\x00\x01\x02binary\x00", r"binary data"),
    ("a.csv", b"\x00\x01\x02binary\x00", r"binary data"),
    ("a.txt", bytes(range(1, 32)) * 20, r"binary data"),
    ("a.docx", b"just text", r"not a DOCX"),
    ("a.docx", broken_zip(), r"zip archive"),
    ("a.jsonl", b'{"a": 1}\nnot json\n', r"line 2 is not JSON"),
    ("a.jsonl", b"[1, 2]\n", r"line 1 holds list"),
    ("a.csv", b"only,a,header\n", r"no row under its header"),
    ("a.csv", b"a,b\n1,2\n1,2,3\n", r"row 3 .* 3 values under 2 columns"),
    ("a.txt", b"  \n \f \n", r"no page holds text"),
])
def test_refused(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    with pytest.raises(DocumentError, match=reason):
        read_pages(write(tmp_path / name, content))


def test_zip_that_is_no_docx(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.docx", "w") as archive:
        archive.writestr("hello.txt", "hello")
    with pytest.raises(DocumentError, match="no Word document"):
        read_pages(tmp_path / "a.docx")


def test_running_heads_go_and_statement_rows_stay(tmp_path: Path) -> None:
    pages = [["Acme Corporation - Annual Report 2021", *lines, f"Page {n} of 6"]
             for n, lines in enumerate([COVER, STATEMENT, ["Prose."], ["More prose."], ["Still."], ["End."]], start=1)]
    texts, _ = read_pages(write_pdf(tmp_path / "a.pdf", pages))
    assert texts[0] == "\n".join(COVER)
    assert texts[1] == "\n".join(STATEMENT)
    assert texts[2] == "Prose."


def test_short_documents_and_lines_on_few_pages_keep_their_ends() -> None:
    assert strip_running_heads(["Head\na", "Head\nb", "Head\nc"]) == ["Head\na", "Head\nb", "Head\nc"]
    mixed = ["Head\na"] * 4 + ["b\nc", "d\ne", "f\ng", "h\ni", "j\nk"]
    assert strip_running_heads(mixed) == mixed


def test_page_numbers_and_running_heads_of_a_part_go() -> None:
    before = [f"Chapter {n} is of its own\nText {n}.\nLast line of {n}" for n in "abcdefghijklmnop"]
    notes = [f"ACME\nNOTES TO STATEMENTS{' (continued)' if n else ''}\nNote on {word}.\nIt ends with {word}\nF-{n + 7}"
             for n, word in enumerate(["cash", "debt", "tax", "pay", "land", "rent", "risk"])]
    pages = strip_running_heads([*before, *notes])
    assert pages[:16] == before
    assert pages[16] == "ACME\nNOTES TO STATEMENTS\nNote on cash.\nIt ends with cash"
    assert pages[17:] == [f"Note on {word}.\nIt ends with {word}" for word in ["debt", "tax", "pay", "land", "rent", "risk"]]


def test_titles_and_exhibit_numbers_and_rows_stay() -> None:
    titled = [f"ACME\nSTATEMENT {n}\n(in millions) 2021 2020\nSales 5 4" for n in range(9)]
    assert strip_running_heads([*titled, *[f"Text {n}\nmore" for n in "abcdefghijk"]])[:9] == titled
    exhibits = [f"Exhibit 10.{n}\nAgreement {word}" for n, word in enumerate("abcdefghi")]
    others = [f"Text {n}\nmore {n}" for n in "abcdefghijk"]
    assert strip_running_heads([*exhibits, *others]) == [*exhibits, *others]
    rows = [f"Text {n}\nTotal {n},000" for n in range(5, 12)]
    assert strip_running_heads([*rows, *others]) == [*rows, *others]
    assert strip_running_heads(["2020\na", "2020\nb", "c\n7", "d\n12"]) == ["2020\na", "2020\nb", "c\n7", "d\n12"]


def test_hyphens_at_line_ends() -> None:
    pages = ["our Share\ufffeholders and on\ufffepremise cloud", "Shareholders met, Regulation S\ufffeT", "year\ufffe31",
             "COVID\ufffe19 grew"]
    assert mend_hyphens(pages) == ["our Shareholders and on-premise cloud", "Shareholders met, Regulation S-T",
                                   "year-\n31", "COVID-19 grew"]


def test_clean_text() -> None:
    assert clean_text("a\u00a0 b\x00\u200b\r\nﬁnance\f\n\n\n\nnext\ud800 \uf0b7 x") == "a b\nfinance\n\nnext • x"


@given(st.text())
def test_clean_text_is_stable_and_storable(text: str) -> None:
    cleaned = clean_text(text)
    assert clean_text(cleaned) == cleaned
    assert "\f" not in cleaned
    assert "  " not in cleaned
    cleaned.encode()
