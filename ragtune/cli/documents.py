"""ragtune index with its commands, ragtune search."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ragtune.cli.terminal import folder_option, out_option, print_facts, print_json, progress, read_recipe, recipe_options
from ragtune.records import Hit, Question, Trace

if TYPE_CHECKING:
    from ragtune.recipe.schema import Recipe
    from ragtune.retrieval.build import IndexSummary
    from ragtune.retrieval.index import Index
    from ragtune.retrieval.search import IndexSearcher
    from ragtune.seams import Report

BATCH = 32  # questions embedded and searched together


@click.group(invoke_without_command=True)
@recipe_options(is_required=False)
@out_option("index")
@click.option("--reset", is_flag=True, help="Forget what `index add` and `index remove` changed.")
@click.pass_context
def index(
    context: click.Context, recipe_name: str | None, settings: tuple[str, ...], as_json: bool, out: str | None, reset: bool
) -> None:
    """Read the documents and build the index; unchanged files are skipped.

    Without a command the whole folder of documents is brought in. The commands change or look at an index that is there.
    """
    if context.invoked_subcommand is not None:
        if recipe_name or settings or as_json or out or reset:
            raise click.UsageError("Options stand after the command: ragtune index "
                                   f"{context.invoked_subcommand} --recipe FILE")
        return
    if recipe_name is None:
        raise click.MissingParameter(ctx=context, param=next(p for p in context.command.params if p.name == "recipe_name"))
    recipe = read_recipe(recipe_name, settings)
    from ragtune.recipe.places import index_folder
    from ragtune.stages.index import run_index

    with progress() as report:
        summary = run_index(recipe, Path(out) if out else None, report, not reset)
    _print_summary(summary, str(out or index_folder(recipe)), as_json)


def _print_summary(summary: IndexSummary, folder: str, as_json: bool) -> None:
    if as_json:
        return print_json(summary.to_dict())
    facts = summary.to_dict()
    unreadable = facts.pop("unreadable", [])
    print_facts({"index": folder, **facts, "unreadable": len(unreadable)})
    for path, reason in unreadable:
        click.echo(f"not read: {path}: {reason}")


@index.command()
@click.argument("files", nargs=-1, required=True, type=click.Path())
@recipe_options()
@folder_option("index")
def add(
    files: tuple[str, ...], recipe_name: str, settings: tuple[str, ...], as_json: bool, index_path: str | None
) -> None:
    """Add FILES to the index, or read them anew where they changed; no other file is looked at."""
    recipe = read_recipe(recipe_name, settings)
    from ragtune.recipe.places import index_folder
    from ragtune.retrieval.life import add_files

    folder = Path(index_path) if index_path else index_folder(recipe)
    with progress() as report:
        summary = add_files(recipe, folder, [Path(file) for file in files], report)
    _print_summary(summary, str(folder), as_json)


@index.command()
@click.argument("documents", nargs=-1, required=True)
@recipe_options()
@folder_option("index")
def remove(
    documents: tuple[str, ...], recipe_name: str, settings: tuple[str, ...], as_json: bool, index_path: str | None
) -> None:
    """Take DOCUMENTS (names or paths) out of the index; they stay out until they are added again."""
    recipe = read_recipe(recipe_name, settings)
    from ragtune.recipe.places import index_folder
    from ragtune.retrieval.life import remove_documents

    folder = Path(index_path) if index_path else index_folder(recipe)
    with progress() as report:
        summary = remove_documents(recipe, folder, documents, report)
    _print_summary(summary, str(folder), as_json)


@index.command()
@recipe_options(is_required=False)
@folder_option("index")
def inspect(recipe_name: str | None, settings: tuple[str, ...], as_json: bool, index_path: str | None) -> None:
    """Show what the index holds: documents, chunks, tokens, sizes, settings and metadata columns."""
    from ragtune.retrieval.inspection import inspect_index

    facts = inspect_index(_open_named(recipe_name, settings, index_path)).to_dict()
    if as_json:
        return print_json(facts)
    columns, files = facts.pop("columns"), facts.pop("files")
    print_facts(facts)
    click.echo("files")
    for name, size in files.items():
        click.echo(f"  {name}  {size:,} bytes")
    click.echo("columns")
    for column in columns:
        examples = ", ".join(map(str, column["examples"]))
        click.echo(f"  {column['name']} ({' or '.join(column['kinds'])}): {column['documents']:,} of {facts['documents']:,} "
                   f"documents, {column['values']:,} values, e.g. {examples}")


@index.command()
@recipe_options(is_required=False)
@folder_option("index")
@click.option("--sample", type=click.IntRange(0), default=300, show_default=True,
              help="Chunks searched for by their own text; 0 for none.")
def audit(recipe_name: str | None, settings: tuple[str, ...], as_json: bool, index_path: str | None, sample: int) -> None:
    """Look for what goes wrong unseen: pages without text, files not read, near-duplicates, chunks never found."""
    from ragtune.retrieval.audit import audit_index, render_audit

    with progress() as report:
        found = audit_index(_open_named(recipe_name, settings, index_path), sample, report)
    if as_json:
        return print_json(found.to_dict())
    click.echo(render_audit(found))


def _open_named(recipe_name: str | None, settings: tuple[str, ...], index_path: str | None) -> Index:
    """Return the index that --index or --recipe names."""
    if not recipe_name and not index_path:
        raise click.UsageError("Name an index: --index FOLDER, or --recipe FILE.")
    from ragtune.recipe.places import index_folder
    from ragtune.retrieval.index import open_index

    return open_index(Path(index_path) if index_path else index_folder(read_recipe(str(recipe_name), settings)))


@click.command()
@click.argument("question", required=False)
@click.option("--questions", "questions_path", type=click.Path(path_type=Path), metavar="FILE",
              help="Search for each question of a JSONL file; --json prints one line a question.")
@recipe_options(is_required=False)
@click.option("--k", type=click.IntRange(1, 1000), help="How many hits. [the recipe's]")
@click.option("--where", metavar="FILTER", help="Filter, for example: company = '3M' and fiscal_year in (2017, 2018)")
@folder_option("index")
def search(
    question: str | None, questions_path: Path | None, recipe_name: str | None, settings: tuple[str, ...], as_json: bool,
    k: int | None, where: str | None, index_path: str | None,
) -> None:
    """Find the chunks for QUESTION, or for each of --questions, as the prompt would get them.

    Of a question file only ids and texts are read, so rows without answers will do. Without --recipe the settings are those
    of the shipped recipe 'filings', and the index is that of --index or the only one under work/.
    """
    if (question is None) == (questions_path is None):
        found = "found neither" if question is None else "found both"
        raise click.UsageError(f"give a QUESTION or a file with --questions, one of the two: {found}.")
    recipe = read_recipe(recipe_name or "filings", settings)
    from ragtune.answering.answerer import check_question
    from ragtune.datasets.questions import read_asked
    from ragtune.recipe.places import index_folder
    from ragtune.retrieval.search import open_searcher

    asked = read_asked(questions_path) if questions_path else [Question("", question or "")]
    texts = [check_question(one.text) for one in asked]
    with progress() as report:
        folder = index_folder(recipe) if recipe_name else find_index(recipe)
        searcher = open_searcher(Path(index_path) if index_path else folder, recipe.retrieval)
        found_many = find_many(searcher, texts, k or recipe.retrieval.k, where, report if questions_path else None)
        for one, (trace, hits) in zip(asked, found_many):
            if questions_path is None:
                print_json([hit_facts(hit) for hit in hits]) if as_json else print_hits(hits, trace)
            elif as_json:
                facts = {"question_id": one.id, "filter": trace.where, "reasons": list(trace.reasons),
                         "is_fallback": trace.is_fallback, "hits": [hit_facts(hit) for hit in hits]}
                click.echo(json.dumps(facts, ensure_ascii=False))
            else:
                click.secho(f"{one.id}: {one.text}", bold=True)
                print_places(hits, trace)


def find_index(recipe: Recipe) -> Path:
    """Return the only index folder under the recipe's ``work``, its own where there is none or it names one.

    Raises UsageError where there are several.
    """
    from ragtune.recipe.places import index_folder

    found = sorted(path.parent for path in Path(recipe.work).glob("*/index/manifest.json"))
    if recipe.index.folder or not found:
        return index_folder(recipe)
    if len(found) > 1:
        raise click.UsageError(f"found {len(found)} indexes: {', '.join(map(str, found))}. Name one: --index FOLDER.")
    return found[0]


def find_many(
    searcher: IndexSearcher, texts: Sequence[str], k: int, where: str | None, report: Report | None = None
) -> Iterator[tuple[Trace, list[Hit]]]:
    """Yield for each text how it was searched and its hits, in batches, in order."""
    for start in range(0, len(texts), BATCH):
        found = searcher.trace_many(texts[start : start + BATCH], k, where)
        if report:
            report("searching", min(start + BATCH, len(texts)), len(texts))
        yield from ((trace, hits) for hits, trace in found)


def hit_facts(hit: Hit) -> dict[str, Any]:
    """Return what --json tells of a hit; ``document`` is the file's name without suffix, ``page`` counts from 1."""
    return {"document": hit.chunk.document, "page": hit.chunk.page, "score": round(hit.score, 6), "text": hit.chunk.text,
            "rank": hit.rank, "searcher": hit.searcher, "chunk": hit.chunk.id, "metadata": dict(hit.chunk.metadata)}


def print_hits(hits: Sequence[Hit], trace: Trace) -> None:
    """Print the hits of one question with their texts, and on stderr where they were looked for, and why."""
    for reason in trace.reasons:
        click.echo(f"{'fallback: ' if trace.is_fallback else ''}{reason}", err=True)
    if trace.where:
        click.echo(f"where {trace.where}", err=True)
    if not hits:
        click.echo("Nothing found" + (f" where {trace.where}." if trace.where else "."), err=True)
    for hit in hits:
        click.secho(f"{hit.rank}. {hit.chunk.document}, page {hit.chunk.page}  (score {hit.score:.4f})", bold=True)
        click.echo("   " + hit.chunk.text.replace("\n", "\n   ") + "\n")


def print_places(hits: Sequence[Hit], trace: Trace) -> None:
    """Print the hits of one question among many: the filter, then a line a hit."""
    if trace.where:
        click.echo(f"  where {trace.where}")
    if not hits:
        click.echo("  nothing found")
    for hit in hits:
        first = hit.chunk.text.strip().split("\n")[0][:80]
        click.echo(f"  {hit.rank}. {hit.chunk.document}, page {hit.chunk.page}  (score {hit.score:.4f})  {first}")
    click.echo()
