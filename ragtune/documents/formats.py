"""File formats: the table READERS from suffix to reader, the check that a file is what its suffix says, clean text."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from ragtune.documents.pdf import read_pdf
from ragtune.documents.statements import parse_columns, parse_row, parse_unit
from ragtune.errors import DocumentError

Pages = tuple[list[str], list[int]]
"""The raw text of each page, and the numbers (from 1) of pages that show something but hold no text."""

_BLOCKS = ["p", "div", "li", "br", "h1", "h2", "h3", "h4", "h5", "h6", "section", "article", "blockquote", "table"]
_UNSEEN = re.compile(r"[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\xad\u200b-\u200f\u2060\ufeff\ufffe\uffff\ud800-\udfff]")
_PAGE_NUMBER = re.compile(r"^[-–—\s]*(?P<prefix>(?:page\s*|[A-Z]{1,2}-?)?)(?P<number>\d{1,4})[-–—\s]*$", re.IGNORECASE)
_CONTINUED = re.compile(r"[\s(—–-]*\b(?:continued|cont[’'.]d)\b[\s).]*$", re.IGNORECASE)
_AROUND = 4  # pages before and after that show whether a line is a running one
ROWS_PER_PAGE = 50  # tables have no pages: so many rows stand for one
_SIGNATURES = ((b"%PDF-", "a PDF"), (b"PK\x03\x04", "a zip archive (or Office file)"),
               (b"\xd0\xcf\x11\xe0", "an old Office file"),
               (b"\x89PNG", "a PNG image"), (b"\xff\xd8\xff", "a JPEG image"),
               (b"\x1f\x8b", "a gzip archive"),
               (b"GIF8", "a GIF image"), (b"\x7fELF", "a program"), (b"SQLite format", "an SQLite database"))


def read_text(path: Path) -> Pages:
    """Read plain text; form feeds part its pages."""
    return _decode(path).split("\f"), []


def read_html(path: Path) -> Pages:
    """Read the visible text of an HTML file: a table row becomes one line, page breaks of styles part the pages."""
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(path.read_bytes(), "html.parser")
    for tag in soup(["script", "style", "noscript", "template", "head"]):
        tag.decompose()
    for tag in soup.find_all(style=re.compile(r"page-break-(before|after)\s*:\s*always", re.IGNORECASE)):
        after = re.search(r"page-break-after", str(tag["style"]), re.IGNORECASE)
        (tag.insert_after if after else tag.insert_before)("\f")
    for row in soup.find_all("tr"):
        if row.find("tr") is None:
            cells = [" ".join(cell.get_text(" ").split()) for cell in row.find_all(["td", "th"])]
            row.replace_with("\n" + " ".join(cell for cell in cells if cell) + "\n")
    for level in range(1, 7):
        for tag in soup.find_all(f"h{level}"):
            tag.insert_before("\n")
    for tag in soup.find_all(_BLOCKS):
        tag.insert_after("\n")
    return soup.get_text("").split("\f"), []


def read_docx(path: Path) -> Pages:
    """Read paragraphs and tables of a DOCX in their order; a row becomes one line, hard page breaks part the pages."""
    import docx
    from docx.table import Table
    from docx.text.paragraph import Paragraph

    lines: list[str] = []
    for block in docx.Document(str(path)).iter_inner_content():
        if isinstance(block, Paragraph):
            breaks = len(block._p.xpath('.//w:br[@w:type="page"]'))
            level = re.match(r"Heading (\d)", str(block.style.name) if block.style else "")
            lines.append("\f" * breaks + ("#" * int(level[1]) + " " if level else "") + block.text.replace("\f", ""))
        elif isinstance(block, Table):
            for row in block.rows:
                cells = list(dict.fromkeys((id(cell._tc), " ".join(cell.text.split())) for cell in row.cells))
                lines.append(" ".join(text for _, text in cells if text))
    return "\n".join(lines).split("\f"), []


def read_csv(path: Path) -> Pages:
    """Read a CSV table: each row becomes one line ``column: value; column: value``, fifty rows a page."""
    text = _decode(path)
    try:
        dialect: type[csv.Dialect] | str = csv.Sniffer().sniff(text[:8192], delimiters=",;\t|")
    except csv.Error:
        dialect = "excel"
    rows = [row for row in csv.reader(io.StringIO(text), dialect) if any(cell.strip() for cell in row)]
    if len(rows) < 2:
        raise DocumentError("the CSV holds no row under its header. Add rows, or leave the file out.")
    head = [" ".join(name.split()) or f"column {number}" for number, name in enumerate(rows[0], start=1)]
    for number, row in enumerate(rows[1:], start=2):
        if len(row) > len(head):
            raise DocumentError(f"row {number} of the CSV has {len(row)} values under {len(head)} columns. Mend this row.")
    return _table_pages([_row_line(zip(head, row)) for row in rows[1:]]), []


def read_jsonl(path: Path) -> Pages:
    """Read JSON lines: an object with ``text`` gives it as a page of its own, others become ``key: value`` lines."""
    pages: list[str] = []
    lines: list[str] = []
    for number, line in enumerate(_decode(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DocumentError(f"line {number} is not JSON ({error.msg}). Each line must be one JSON object.") from None
        if not isinstance(row, dict):
            raise DocumentError(f"line {number} holds {type(row).__name__}. Each line must be one JSON object.")
        if isinstance(row.get("text"), str):
            pages.append(row["text"].replace("\f", "\n"))
        else:
            lines.append(_row_line((key, _plain(value)) for key, value in row.items()))
    return pages + _table_pages(lines), []


READERS: dict[str, Callable[[Path], Pages]] = {
    ".pdf": read_pdf, ".html": read_html, ".htm": read_html, ".md": read_text, ".txt": read_text, ".docx": read_docx,
    ".csv": read_csv, ".jsonl": read_jsonl,
}


def read_pages(path: Path) -> Pages:
    """Return the clean text of each page. Raises DocumentError saying what was found, is allowed and is to be done."""
    suffix = path.suffix.lower()
    check_signature(path, suffix)
    texts, without_text = READERS[suffix](path)
    pages = [clean_text(text) for text in mend_hyphens(texts)]
    if suffix == ".pdf":
        pages = strip_running_heads(pages)
    if not any(pages):
        raise DocumentError("no page holds text, so these are scanned images or empty pages. "
                            "Run OCR, e.g. ocrmypdf in.pdf out.pdf, and index the result.")
    return pages, without_text


def check_signature(path: Path, suffix: str) -> None:
    """Raise DocumentError where the bytes are not what the suffix says."""
    with path.open("rb") as file:
        head = file.read(4096)
    if not head:
        raise DocumentError("the file is empty (0 bytes). Fetch it again, or leave it out.")
    found = next((kind for mark, kind in _SIGNATURES if head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(mark)), None)
    if suffix == ".pdf":
        if b"%PDF-" not in head[:1024]:
            raise DocumentError(f"the file is {found or 'not a PDF'} although it is named .pdf. Rename or replace it.")
    elif suffix == ".docx":
        try:
            with zipfile.ZipFile(path) as archive:
                is_docx = "word/document.xml" in archive.namelist()
        except zipfile.BadZipFile:
            raise DocumentError(f"the file is {found or 'not a DOCX'}, or a damaged one. Rename or replace it.") from None
        if not is_docx:
            raise DocumentError("the file is a zip archive that holds no Word document. Rename or replace it.")
    elif found:
        raise DocumentError(f"the file is {found} although it is named {suffix}. Rename or replace it.")


def _decode(path: Path) -> str:
    """Return a file's text: UTF-8, UTF-16 with a byte order mark, else Windows-1252. Binary bytes raise DocumentError."""
    data = path.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encodings: tuple[str, ...] = ("utf-16",)
    else:
        encodings = ("utf-8-sig", "cp1252")
    for encoding in encodings:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        controls = len(re.findall(r"[\x00-\x08\x0e-\x19\x1c-\x1f\x7f-\x84\x86-\x9f]", text[:65536]))
        if "\0" not in text and controls * 50 <= min(len(text), 65536):
            return text
    raise DocumentError("the file holds binary data, not text. Rename it to its true suffix, or leave it out.")


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _row_line(cells: object) -> str:
    """Return one line for the (name, value) cells of a row."""
    return "; ".join(f"{name}: {' '.join(value.split())}" for name, value in cells if value.strip())  # type: ignore[attr-defined]


def _table_pages(lines: Sequence[str]) -> list[str]:
    return ["\n".join(lines[start : start + ROWS_PER_PAGE]) for start in range(0, len(lines), ROWS_PER_PAGE)]


def mend_hyphens(texts: Sequence[str]) -> list[str]:
    """Resolve PDFium's U+FFFE and U+0002, which stand for a hyphen and a line break.

    Words are joined where the joined word stands elsewhere in the document (``Share-holders``), else the hyphen stays
    (``on-premise``).
    """
    if not any("\ufffe" in text or "\x02" in text for text in texts):
        return list(texts)
    words = {word.lower() for text in texts for word in re.findall(r"[^\W\d_]{4,}", text)}

    def mend(match: re.Match[str]) -> str:
        joined = match[1] + match[2]
        return joined if match[2][:1].islower() and joined.lower() in words else f"{match[1]}-{match[2]}"

    texts = [re.sub(r"[\ufffe\x02](?=\d{1,4}\s*$)", "-\n", text) for text in texts]  # what follows is the page number
    return [re.sub(r"([^\W_]*)[\ufffe\x02](?:\r?\n)?([^\W_]*)", mend, text) for text in texts]


def clean_text(text: str) -> str:
    """Return the text with one space between words, one line break between lines, no control characters.

    Blank lines (paragraph breaks) are kept as one.
    """
    text = re.sub(r"\r\n?|[\v\f\x1c-\x1e\x85\u2028\u2029]", "\n", text)
    text = re.sub(r"[\ufb00-\ufb06]", lambda match: unicodedata.normalize("NFKC", match[0]), text)
    text = re.sub(r"[\uf0b7\uf0a7\uf0a8]", "•", text)
    text = _UNSEEN.sub("", text)
    lines = [re.sub(r"[^\S\n]+", " ", line).strip() for line in text.split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")


def strip_running_heads(pages: Sequence[str], share: float = 0.5) -> list[str]:
    """Return the pages without page numbers, running heads and feet. Short documents are left as they are.

    Taken from a page's ends are: a bare number that counts on from a page near by; a line that, digits aside, stands at the
    same end of most pages around (of a head the first one stays: it begins the section it names); up to two lines that
    repeat on more than ``share`` of all pages. A line right above a table's unit or years is its title and stays.
    """
    pages = list(pages)
    if len(pages) < 4:
        return pages
    pages = _strip_numbers(_strip_numbers(pages, 0), -1)
    pages = _strip_shared(pages, share)
    for _ in range(2):
        for end in (-1, 0):
            pages = _strip_runs(_strip_numbers(pages, end), end)
    return _strip_shared(pages, share)


def _strip_shared(pages: Sequence[str], share: float) -> list[str]:
    """Return the pages without the first and last lines, two at each end, that stand on more than ``share`` of them."""
    pages = list(pages)
    for _ in range(2):
        for end in (0, -1):
            split = [page.strip("\n").split("\n") for page in pages]
            filled = [lines for lines in split if lines != [""]]
            counts = Counter(re.sub(r"\d+", "#", lines[end]) for lines in filled if len(lines[end]) < 120)
            running = {line for line, count in counts.items() if count >= 4 and count > share * len(filled)}
            for position, lines in enumerate(split):
                if re.sub(r"\d+", "#", lines[end]) in running and len(lines) > 1 and not _is_of_table(lines[end]):
                    del lines[end]
                    pages[position] = "\n".join(lines).strip("\n")
    return pages


def _strip_numbers(pages: Sequence[str], end: int) -> list[str]:
    """Return the pages without the numbers at one end that differ as their pages do from the number of a page near by."""
    split = [page.strip("\n").split("\n") for page in pages]
    numbers: list[tuple[str, int] | None] = []
    for lines in split:
        match = _PAGE_NUMBER.match(lines[end])
        numbers.append((match["prefix"].lower(), int(match["number"])) if match and len(lines) > 1 else None)
    kept = []
    for position, (lines, number) in enumerate(zip(split, numbers)):
        near = [other for other in range(max(0, position - 3), min(len(pages), position + 4)) if other != position]
        if number and any(numbers[other] == (number[0], number[1] + other - position) for other in near):
            del lines[end]
        kept.append("\n".join(lines).strip("\n"))
    return kept


def _strip_runs(pages: Sequence[str], end: int) -> list[str]:
    """Return the pages without the line at one end that most of the pages around have there; a run's first head stays."""
    split = [page.strip("\n").split("\n") for page in pages]
    # A foot may carry the page's number; Exhibit 31.1 over a page is its title.
    pattern = re.compile(r"^\d+|\d+$" if end else r"(?!)")

    def form_of(line: str) -> str:
        return pattern.sub("#", _CONTINUED.sub("", line[:200])).lower()

    forms = [form_of(lines[end]) for lines in split]
    tops = [set(map(form_of, lines[:3])) for lines in split]
    kept = []
    for position, (lines, form) in enumerate(zip(split, forms)):
        around = forms[max(0, position - _AROUND) : position + _AROUND + 1]
        is_running = 0 < len(form) < 120 and len(lines) > 1 and around.count(form) >= _AROUND + 1
        is_first = end == 0 and not any(form in top for top in tops[max(0, position - _AROUND) : position])
        is_titled = end == 0 and any(parse_unit(line) or parse_columns(line) for line in lines[:7])
        if is_running and not is_first and not _is_of_table(lines[end]) and (not is_titled or _CONTINUED.search(lines[end])):
            del lines[end]
        kept.append("\n".join(lines).strip("\n"))
    return kept


def _is_of_table(line: str) -> bool:
    """Tell whether a line is a table's head or a row of it; one whole number at the end is a page's."""
    row = parse_row(line)
    is_row = row is not None and (len(row.amounts) > 1 or not row.amounts[0].isdigit())
    return is_row or bool(parse_columns(line) or parse_unit(line))
