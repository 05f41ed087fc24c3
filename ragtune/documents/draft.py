"""Drafting a domain pack from documents, to be edited: their file names, headings, names and a learned glossary."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from ragtune.documents.glossary import learn_glossary
from ragtune.documents.pack import Pack, open_pack, use_pack
from ragtune.documents.packparts import plain_label, squeeze
from ragtune.documents.read import read_documents
from ragtune.documents.statements import parse_row
from ragtune.errors import RecipeError
from ragtune.recipe import schema
from ragtune.records import Document
from ragtune.seams import Report

_MOST_SECTIONS, _MOST_TERMS, _MOST_NAMES = 40, 40, 15
_NUMBER = re.compile(
    r"^(?:#{1,6}\s+|(?:(?P<word>[A-Z][A-Za-z]{3,11})\s+)?(?P<number>\d+(?:\.\d+)*|[IVX]+|[A-Z])(?:[.:)]\s*|\s+))")
_NAME = re.compile(r"(?<=[a-z,;] )[A-Z][\w'’&-]+(?: [A-Z][\w'’&-]*)*")
_PARTS = (  # what a part of a file's name is, the first that fits
    ("date", r"(?:19|20)\d\d-?[01]\d-?[0-3]\d"), ("year", r"(?:19|20)\d\d"), ("version", r"[vVrR]?\d+(?:\.\d+)+|[vVrR]\d+"),
    ("number", r"\d+"), ("word", r"[^_\s-]+"))


def draft_pack(documents: Path, out: Path, report: Report | None = None) -> Pack:
    """Write a pack drafted from a folder of documents into a new folder ``out``, whole or not at all, and return it opened.

    Raises RecipeError where ``out`` exists, DocumentError where no document can be read.
    """
    if out.exists():
        raise RecipeError(f"{out} exists and is not overwritten. Choose another folder with --out, or delete it.")
    if not out.parent.is_dir():
        raise RecipeError(f"no folder {out.parent}. Make it first: mkdir -p {out.parent}")
    with use_pack("plain"):
        read = read_documents(schema.Documents(folder=str(documents)), report=report).documents
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", out.name).strip("-_") or "drafted"
        files = render_draft(name, read)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        for file, text in files.items():
            (partial / file).write_text(text, encoding="utf-8")
        open_pack(partial)  # what is written can be opened
        os.rename(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return open_pack(out)


def render_draft(name: str, documents: Sequence[Document]) -> dict[str, str]:
    """Return file name -> YAML text of a pack for these documents."""
    return {
        "pack.yaml": _render_head(name, documents),
        "metadata.yaml": _render_metadata(documents),
        "names.yaml": _render_names(),
        "sections.yaml": _render_sections(documents),
        "terms.yaml": _render_terms(documents),
        "topics.yaml": _TOPICS,
    }


_TOPICS = """# Words of questions that name no row but point to sections and to other wordings. `asked` are patterns searched
# in the question, `sections` where it is treated (names of sections.yaml), `also` plain words to add to the query, e.g.:
#
# topics:
#   - name: first steps
#     asked: ['\\bget(?:ting)? started\\b', '\\bset up\\b']
#     sections: [installation]
#     also: [installation, requirements]
topics: []
"""


def _quote(text: str) -> str:
    """Return a text as a single-quoted YAML string."""
    return "'" + " ".join(text.split()).replace("'", "''") + "'"


def _list(texts: Iterable[str]) -> str:
    return "[" + ", ".join(map(_quote, texts)) + "]"


def _render_head(name: str, documents: Sequence[Document]) -> str:
    plain = open_pack("plain").files
    tables = plain.tables
    lines = ["# Drafted from documents: read it, mend it, delete what is wrong. Then set pack: FOLDER in the recipe.",
             f"name: {name}", f"description: {_quote(f'Drafted from {len(documents)} documents.')}", "",
             "# The words of tables, as patterns: a line of years and only these words is the head of a table.", "tables:",
             "  header_words:", *(f"    - {_quote(words)}" for words in tables.header_words),
             f"  units: {_list(tables.units)}", "", "# Words of row labels that tell little of a row.", "labels:",
             f"  light: {_list(plain.labels.light)}"]
    return "\n".join(lines) + "\n"


def _render_names() -> str:
    """Return how owners of documents and kinds of document are called, mostly left to be filled in."""
    return "\n".join((
        "# How owners of documents are named: the column metadata.owner.column (company) holds them, where there is one.",
        "names:", "  # Legal forms behind a name: they are no part of it.",
        f"  legal: {_list(open_pack('plain').files.names.legal)}",
        "  # What people say -> the names meant, in lower case letters and digits, e.g. {bigblue: [ibm]}",
        "  nicknames: {}", "",
        "# Kinds of document that questions name, by the values of the column metadata.kind, e.g.:", "#",
        "# reports:", "#   manual: {forms: [Manual], phrases: [manual, user guide], covers: year}", "reports: {}", ""))


def find_file_patterns(stems: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    """Return (pattern, its columns) for the commonest shapes of file names, at most three, the commonest first."""
    shapes: dict[tuple[str, ...], list[list[str]]] = defaultdict(list)
    for stem in stems:
        kinds, texts = _take_apart(stem)
        shapes[kinds].append(texts)
    found = []
    for kinds, rows in sorted(shapes.items(), key=lambda item: -len(item[1]))[:3]:
        if not set(kinds) & {"date", "year", "version", "number"} or (len(stems) > 3 and len(rows) < 2):
            continue
        parts: list[str] = []
        columns: list[str] = []
        for place, kind in enumerate(kinds):
            said = sorted({row[place] for row in rows})
            is_few = place and kind == "word" and len(said) <= 8 and len(rows) >= 2 * len(said)
            column = ("kind" if is_few else "title") if kind == "word" else kind
            inner = "|".join(map(re.escape, said)) if is_few else r".+?" if kind == "word" else dict(_PARTS)[kind]
            is_new = column not in columns
            parts.append(f"(?P<{column}>{inner})" if is_new else f"(?:{inner})")
            columns += [column] if is_new else []
        found.append((r"^" + r"[_\s-]+".join(parts) + "$", tuple(columns)))
    return found


def _take_apart(stem: str) -> tuple[tuple[str, ...], list[str]]:
    """Return the kinds and the texts of the parts of a file's name; words that follow one another are one part."""
    kinds: list[str] = []
    texts: list[str] = []
    any_part = "|".join(f"(?P<{kind}>(?<![^_\\s-]){pattern}(?![^_\\s-]))" for kind, pattern in _PARTS)
    for match in re.finditer(any_part, stem):
        kind = match.lastgroup or "word"
        if kind == "word" and kinds and kinds[-1] == "word" and len(kinds) == 1:
            texts[-1] += f" {match[0]}"
        else:
            kinds.append(kind)
            texts.append(match[0])
    return tuple(kinds), texts


def find_names(documents: Sequence[Document]) -> list[tuple[str, int]]:
    """Return (name, in how many documents) of the frequent capitalised names in sentences, the most frequent first."""
    within, counts = Counter[str](), Counter[str]()
    for document in documents:
        names = Counter(_NAME.findall(document.text))
        counts.update(names)
        within.update(names.keys())
    kept = [name for name, count in counts.most_common(200) if count >= 3 and len(name) > 2]
    return [(name, within[name]) for name in sorted(kept, key=lambda name: (-within[name], -counts[name]))][:_MOST_NAMES]


def _render_metadata(documents: Sequence[Document]) -> str:
    patterns = find_file_patterns([Path(document.path).stem for document in documents])
    columns = list(dict.fromkeys(column for _, found in patterns for column in found))
    numbers = [column for column in columns if column in ("year", "number")]
    lines = ["# What is known of each document, by its file name, its first pages or a sidecar file (documents.metadata).",
             "metadata:", "  # A named group (?P<column>...) gives a column, which filters can name."]
    lines += ["  file_names:" if patterns else "  file_names: []", *(f"    - {_quote(pattern)}" for pattern, _ in patterns)]
    lines += [f"  numbers: {_list(numbers)}", "  kind: kind", "  # A column from first pages, for example:", "  # cover:",
              "  #   - column: year", "  #     pattern: '(?i)copyright .{0,20}(?P<value>(?:19|20)\\d\\d)'", "  cover: []",
              "  sidecar: {document: document, file: document, file_name: document}",
              "  # What a passage's title and the line above an indexed chunk show, as far as known.",
              f"  title: {_list(f'{{{column}}}' for column in columns)}",
              f"  context: {_list(f'{{{column}}}' for column in columns)}"]
    names = find_names(documents)
    if names:
        lines += ["# Frequent names, and in how many documents they stand; one of them may be a column, or a term:"]
        lines += [f"#   {name}: {count}" for name, count in names]
    return "\n".join(lines) + "\n"


def find_headings(documents: Sequence[Document]) -> list[tuple[str, int]]:
    """Return (heading without its number, in how many documents) of headings that repeat, in two documents where there are.

    A heading is a short line alone that begins with a number or a capital, without an amount or a full stop at its end.
    """
    within, spelled = Counter[str](), dict[str, str]()
    for document in documents:
        titles: dict[str, str] = {}
        for line in document.text.splitlines():
            bare = line.strip()
            if not 3 <= len(bare) <= 80 or bare[-1] in ".,;:!?" or parse_row(bare) or re.search(r"\d$|\.{3}|\|", bare):
                continue
            title = _NUMBER.sub("", bare).strip(" #:.-")
            words = title.split()
            is_numbered = bare != title
            is_titled = all(not word[0].islower() for word in words if len(word) > 3)
            if 1 <= len(words) <= 7 and title[:1].isupper() and re.search(r"[a-z]{3}|[A-Z]{4}", title) and (
                    is_numbered or is_titled):
                titles.setdefault(squeeze(title), title)
        within.update(titles.keys())
        for key, title in titles.items():
            spelled.setdefault(key, title)
    least = 2 if len(documents) > 1 else 1
    kept = [(spelled[key], count) for key, count in within.most_common() if count >= least]
    return kept[:_MOST_SECTIONS]


def _render_sections(documents: Sequence[Document]) -> str:
    plain = open_pack("plain").files
    words = Counter(match["word"] for document in documents for line in document.text.splitlines()
                    if len(line) < 80 and (match := _NUMBER.match(line.strip())) and match["word"])
    numbered = "|".join(sorted({word for word, count in words.items() if count >= 3} - {"The", "This"}))
    rule = (rf"(?:{numbered})\s+(?:[IVXLC]+|\d+(?:\.\d+)*|[A-Z])\b[.:]?.{{0,100}}" if numbered
            else plain.headings.numbered or "")
    lines = ["# The parts of documents: patterns of whole titles (capitals, spaces and numbers before them do not count),",
             "# and of what questions call them. Found: headings that repeat, with the number of documents they stand in.",
             "headings:", f"  numbered: {_quote(rule)}", f"  prefixes: {_list(plain.headings.prefixes)}",
             f"  suffixes: {_list(plain.headings.suffixes)}", "sections:",
             "  - {name: table of contents, headings: [table of contents, contents], asked: ['\\btable of contents\\b']}"]
    seen = {"table of contents", "contents"}
    for title, count in find_headings(documents):
        name = " ".join(title.lower().replace("’", "'").split())
        if name in seen:
            continue
        seen.add(name)
        lines += [f"  - name: {_quote(name)}  # in {count} document{'s' if count > 1 else ''}",
                  f"    headings: [{_quote(re.escape(name).replace(chr(92) + ' ', ' '))}]",
                  f"    asked: [{_quote(_asked(name))}]", "    level: 2"]
    return "\n".join(lines) + "\n"


def _asked(name: str) -> str:
    """Return a pattern of a name within a question."""
    return rf"(?<!\w){re.escape(name)}(?!\w)".replace("\\ ", " ")


def _render_terms(documents: Sequence[Document]) -> str:
    lines = ["# Quantities and things with several names: `names` are what questions call them (a * marks a plural),",
             "# `labels` patterns of row labels, `also` plain words to add to a query. Look at each, delete what is wrong."]
    terms = learn_glossary(documents)[:_MOST_TERMS]
    lines += ["terms:"] if terms else ["terms: []"]
    for names, source in terms:
        labels = [re.escape(plain_label(name)).replace("\\ ", " ") for name in names]
        lines += [f"  - names: {_list(names)}  # {' '.join(source.split())}", f"    labels: {_list(labels)}",
                  f"    also: {_list(names[1:])}"]
    return "\n".join(lines) + "\n"
