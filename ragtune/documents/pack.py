"""Domain packs: what is known of a field's documents and questions, as data that a user can read and edit.

A pack is a folder of YAML files; each top-level key (name, terms, topics, sections, ...) stands in one of them. 'finance'
and 'plain' are shipped; ``ragtune pack new`` drafts one from documents. Nothing is read when this module is imported.
"""

from __future__ import annotations

import functools
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from ragtune.documents.labels import Labels
from ragtune.documents.packfile import MetadataRules, PackFiles, WordingRules
from ragtune.documents.packparts import (
    Answers,
    Facts,
    Measure,
    Names,
    Report,
    Screen,
    Section,
    Tables,
    Term,
    Topic,
    any_of,
)
from ragtune.errors import RecipeError, nearest
from ragtune.files import hash_text
from ragtune.records import Metadata

P = ParamSpec("P")
R = TypeVar("R")
DEFAULT = "finance"
"""The pack where none is named."""


@dataclass(frozen=True, eq=False)
class Pack:
    """A pack as opened: checked, and with its patterns compiled when first needed."""

    folder: Path
    files: PackFiles

    @property
    def name(self) -> str:
        """The pack's name."""
        return self.files.name

    @property
    def description(self) -> str:
        """What the pack is for."""
        return self.files.description

    @cached_property
    def hash(self) -> str:
        """16 hex digits of all it says; comments, the order of keys and what is as if left out aside."""
        return hash_text(json.dumps(self.files.model_dump(mode="json", exclude_defaults=True), sort_keys=True))

    @cached_property
    def terms(self) -> tuple[Term, ...]:
        """The line items, in the order of the file."""
        return tuple(Term(t.names, "|".join(t.labels), t.sections, t.also) for t in self.files.terms)

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """What is worked out from line items, in the order of the file."""
        items = {name.rstrip("*").lower(): term for term in reversed(self.terms) for name in term.names}
        return tuple(Measure(m, tuple(items[item.lower()] for item in m.needs)) for m in self.files.measures)

    @cached_property
    def topics(self) -> tuple[Topic, ...]:
        """The topics of questions, in the order of the file."""
        return tuple(map(Topic, self.files.topics))

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        """The sections of documents, in the order of the file."""
        return tuple(map(Section, self.files.sections))

    @cached_property
    def screens(self) -> dict[str, Screen]:
        """What finds the 'measures', 'topics' and 'sections' that a question names, and sections by the 'items' it names."""
        return {"measures": Screen(measure.asked for measure in self.measures),
                "topics": Screen(topic.asked for topic in self.topics),
                "sections": Screen(section.asked for section in self.sections),
                "items": Screen(section.item for section in self.sections)}

    @cached_property
    def prefix(self) -> re.Pattern[str] | None:
        """Pattern of what may stand before a title, in a squeezed line."""
        return any_of(self.files.headings.prefixes, is_squeezed=True)

    @cached_property
    def suffix(self) -> re.Pattern[str] | None:
        """Pattern of what may stand behind a title, in a squeezed line."""
        joined = any_of(self.files.headings.suffixes, is_squeezed=True)
        return re.compile(rf"(?:{joined.pattern})$", re.IGNORECASE) if joined else None

    @cached_property
    def numbered(self) -> re.Pattern[str] | None:
        """Pattern of a whole line that is a heading by its number."""
        return re.compile(self.files.headings.numbered) if self.files.headings.numbered else None

    @cached_property
    def heading(self) -> re.Pattern[str]:
        """Pattern of a whole line that is a heading by its form; its group 'markdown' or 'item' is the heading."""
        item = rf"|(?P<item>{self.files.headings.numbered})" if self.files.headings.numbered else "|(?P<item>(?!))"
        return re.compile(rf"^(?:#{{1,6}}\s+(?P<markdown>\S.*){item})$")

    @property
    def metadata(self) -> MetadataRules:
        """How the columns of a document are read."""
        return self.files.metadata

    @cached_property
    def names(self) -> Names:
        """How owners of documents are named."""
        return Names(self.files.names)

    @cached_property
    def reports(self) -> Mapping[str, Report]:
        """The kinds of document that questions name, in the order of the file."""
        return {kind: Report(kind, entry) for kind, entry in self.files.reports.items()}

    @cached_property
    def tables(self) -> Tables:
        """The words of tables."""
        return Tables(self.files.tables)

    @cached_property
    def facts(self) -> Facts:
        """Which rows questions can be asked from."""
        return Facts(self.files.facts)

    @property
    def wording(self) -> WordingRules:
        """How questions asked from rows are worded."""
        return self.files.wording

    @cached_property
    def labels(self) -> Labels:
        """The words of row labels."""
        return Labels(self.files.labels)

    @cached_property
    def answers(self) -> Answers:
        """How answers are read when they are scored."""
        return Answers(self.files.answers)

    def describe(self, metadata: Metadata, has_context: bool = False) -> str:
        """Return what a passage's title says of its document, or the line above an indexed chunk; '' for nothing."""
        shown = []
        for template in self.metadata.context if has_context else self.metadata.title:
            column = re.findall(r"\{(\w+)\}", template)[0]
            if metadata.get(column):
                shown.append(template.replace(f"{{{column}}}", str(metadata[column])))
        return " ".join(shown)


_IN_FORCE: ContextVar[Pack | None] = ContextVar("pack in force", default=None)


def current_pack() -> Pack:
    """Return the pack in force: that of the innermost ``use_pack``, else the default one."""
    return _IN_FORCE.get() or open_pack()


def pack_in_force() -> Pack | None:
    """Return the pack of the innermost ``use_pack``, None outside of any."""
    return _IN_FORCE.get()


@contextmanager
def use_pack(name_or_pack: str | Path | Pack) -> Iterator[Pack]:
    """Put a pack in force for all that is called within, where no other is given: a stage does so with its recipe's pack."""
    pack = name_or_pack if isinstance(name_or_pack, Pack) else open_pack(name_or_pack)
    token = _IN_FORCE.set(pack)
    try:
        yield pack
    finally:
        _IN_FORCE.reset(token)


def in_recipe_pack(function: Callable[P, R]) -> Callable[P, R]:
    """Put the pack of the recipe, which is the function's first argument, in force while the function runs."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        recipe: Any = kwargs["recipe"] if "recipe" in kwargs else args[0]
        with use_pack(recipe.pack):
            return function(*args, **kwargs)

    return run


class PackPattern:
    """A pattern of the pack in force, used like a compiled one: the words change with the pack, the code does not."""

    def __init__(self, of: Callable[[Pack], re.Pattern[str]]) -> None:
        self.of = of

    def search(self, text: str) -> re.Match[str] | None:
        """As ``re.Pattern.search``."""
        return self.of(current_pack()).search(text)

    def match(self, text: str) -> re.Match[str] | None:
        """As ``re.Pattern.match``."""
        return self.of(current_pack()).match(text)

    def sub(self, replacement: str | Callable[[re.Match[str]], str], text: str) -> str:
        """As ``re.Pattern.sub``."""
        return self.of(current_pack()).sub(replacement, text)


def shipped_packs() -> dict[str, Path]:
    """Return the shipped packs: name -> folder."""
    folder = Path(str(resources.files("ragtune.documents").joinpath("packs")))
    return {path.name: path for path in sorted(folder.iterdir()) if path.is_dir() and any(path.glob("*.yaml"))}


def find_pack(name_or_folder: str | Path) -> Path:
    """Return the folder of a pack named like a shipped one or like a folder. Raises RecipeError where there is neither."""
    shipped = shipped_packs()
    if str(name_or_folder) in shipped:
        return shipped[str(name_or_folder)]
    folder = Path(name_or_folder)
    if folder.is_dir() and any(folder.glob("*.yaml")):
        return folder
    found = "holds no .yaml file" if folder.is_dir() else "is no folder"
    raise RecipeError(f"no domain pack '{name_or_folder}': it {found}, and the shipped packs are {', '.join(shipped)}."
                      f"{nearest(str(name_or_folder), shipped)} Do: ragtune pack list, or draft one from your documents: "
                      "ragtune pack new DOCUMENTS --out FOLDER")


def open_pack(name_or_folder: str | Path = DEFAULT) -> Pack:
    """Return a pack by its name or folder, read anew only where its files changed.

    Raises RecipeError where there is none, and one that names all faults with file and entry: unknown keys, patterns that
    are none, sections that no entry of the pack defines.
    """
    return _open(str(name_or_folder)) if str(name_or_folder) == DEFAULT else _open_folder(find_pack(name_or_folder))


@lru_cache(maxsize=4)
def _open(name: str) -> Pack:
    """Open a shipped pack once: it is asked for once a line while documents are cut."""
    return _open_folder(find_pack(name))


def _open_folder(folder: Path) -> Pack:
    files = sorted(folder.glob("*.yaml"))
    return _open_files(folder, tuple((file, file.stat().st_mtime_ns, file.stat().st_size) for file in files))


@lru_cache(maxsize=32)
def _open_files(folder: Path, files: tuple[tuple[Path, int, int], ...]) -> Pack:
    """Read the files; their times and sizes are part of the cache's key."""
    values: dict[str, Any] = {}
    stands_in: dict[str, Path] = {}
    for path, _, _ in files:
        for key, value in _read_yaml(path).items():
            if key in values:
                raise RecipeError(f"{path}: '{key}' stands in {stands_in[key].name} already. Put all of it into one file.")
            values[key], stands_in[key] = value, path
    try:
        return Pack(folder, PackFiles.model_validate(values))
    except ValidationError as error:
        places = [fault["loc"] for fault in error.errors()]
        faults = [_describe(fault, values, stands_in, folder) for fault in error.errors()
                  if fault["type"] != "too_short" or not any(  # a list is not short whose entries are wrong
                      len(place) > len(fault["loc"]) and place[:len(fault["loc"])] == fault["loc"] for place in places)]
        raise RecipeError(f"the pack {folder}: {len(faults)} fault{'s' if len(faults) > 1 else ''}:\n"
                          + "\n".join(f"  {fault}" for fault in faults)
                          + f"\nDo: mend the pack, then ragtune pack show {folder}") from None


def _read_yaml(path: Path) -> dict[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)  # both are safe loaders
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not UTF-8 text ({error.reason}). A pack is made of YAML files.") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        raise RecipeError(f"{path}{where}: not YAML ({getattr(error, 'problem', error)}). Mend this line.") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: found {type(values).__name__}, wanted keys such as 'terms:' and 'sections:'.")
    return {str(key): value for key, value in values.items()}


def _describe(fault: Any, values: Mapping[str, Any], stands_in: Mapping[str, Path], folder: Path) -> str:
    """Return one line for a fault: file, entry with its name, what was found and what is allowed."""
    location = fault["loc"]
    file = stands_in[location[0]].name if location and location[0] in stands_in else folder.name
    place, entry = "", values
    for part in location:
        place += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if place else str(part)
        try:
            entry = entry[part]
        except (KeyError, IndexError, TypeError):
            entry = {}
        if isinstance(part, int) and isinstance(entry, dict):
            called = _name_of(entry)
            place += f" ({called})" if called else ""
    if fault["type"] == "extra_forbidden":
        allowed = _fields_at(location[:-1])
        return f"{file}: {place}: unknown key.{nearest(str(location[-1]), allowed)} Allowed here: {', '.join(allowed)}"
    message = fault["msg"].removeprefix("Value error, ")
    shown = f"found {fault['input']!r:.100}. " if location and fault["type"] != "missing" else ""
    return f"{file}: {place + ': ' if place else ''}{shown}{message}"


def _name_of(entry: Mapping[str, Any]) -> Any:
    """Return what an entry of a pack is called."""
    names = entry.get("names")
    return names[0] if isinstance(names, list) and names else entry.get("name") or entry.get("column")


def _fields_at(location: Iterable[Any]) -> list[str]:
    """Return the keys allowed at a place in a pack."""
    model: type[BaseModel] = PackFiles
    for part in location:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[str(part)].annotation
        inner = [kind for kind in (annotation, *getattr(annotation, "__args__", ())) if isinstance(kind, type)]
        model = next((kind for kind in inner if issubclass(kind, BaseModel)), model)
    return list(model.model_fields)


def copy_pack(pack: Pack, folder: Path) -> None:
    """Copy the files of a pack into a new folder, from which it opens with the same hash."""
    folder.mkdir()
    for path in sorted(pack.folder.glob("*.yaml")):
        shutil.copyfile(path, folder / path.name)
