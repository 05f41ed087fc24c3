"""What all commands share: options, progress on stderr, results on stdout, errors in one line, exit codes."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ragtune.recipe.schema import Recipe
    from ragtune.seams import Report

Command = Callable[..., Any]


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is looked up."""

    def __init__(self, *args: Any, commands_at: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.commands_at = commands_at

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the main job."""
        return list(self.commands_at)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        if cmd_name not in self.commands_at:
            return None
        module, _, name = self.commands_at[cmd_name].partition(":")
        return getattr(importlib.import_module(module), name)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Offer the nearest command where a name is unknown."""
        from ragtune.errors import nearest

        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            if "Did you mean" in error.message:
                raise
            raise click.UsageError(error.message + nearest(args[0], self.commands_at), ctx) from None


def recipe_options(default: str | None = None, is_required: bool = True) -> Callable[[Command], Command]:
    """Return a decorator that adds --recipe, --set and --json."""

    def add(command: Command) -> Command:
        for option in (
            click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
            click.option("--set", "settings", multiple=True, metavar="A.B=C", help="Set one recipe field; repeatable."),
            click.option("--recipe", "recipe_name", metavar="FILE", default=default,
                         required=is_required and default is None,
                         help="Recipe file, or the name of a shipped recipe." + (" [demo]" if default else "")),
        ):
            command = option(command)
        return command

    return add


def out_option(what: str) -> Callable[[Command], Command]:
    """Return a decorator that adds --out for a folder that the command writes."""
    return click.option("--out", type=click.Path(), metavar="FOLDER", help=f"Where to write the {what}.")


def folder_option(kind: str) -> Callable[[Command], Command]:
    """Return a decorator that adds an option for a folder that the command reads."""
    return click.option(f"--{kind}", f"{kind}_path", type=click.Path(), metavar="FOLDER",
                        help=f"The {kind} folder, where it is not the recipe's.")


mismatch_option = click.option("--allow-mismatch", is_flag=True,
                               help="Go on although prompt or index are not those it was made with.")


def read_recipe(name: str, settings: tuple[str, ...]) -> Recipe:
    """Return the recipe that --recipe and --set name."""
    from ragtune.recipe.load import load_recipe

    return load_recipe(name, settings)


@contextlib.contextmanager
def progress() -> Iterator[Report]:
    """Yield a report callback that draws progress bars on stderr; plain lines where stderr is no terminal."""
    _quieten()
    if sys.stderr.isatty():
        yield from _bars()
    else:
        yield _lines()


def _bars() -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(finished_text="[green]✓"), TextColumn("{task.description}"), BarColumn(),
               MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def report(task: str, done: int, total: int) -> None:
            if task not in tasks:
                tasks[task] = bars.add_task(task, total=total or None)
            bars.update(tasks[task], completed=done, total=total or None)

        yield report


def _lines() -> Report:
    last: dict[str, int] = {}

    def report(task: str, done: int, total: int) -> None:
        tenth = 10 * done // total if total else 0
        if last.get(task) != tenth:
            last[task] = tenth
            click.echo(f"{task}: {done}" + (f" of {total}" if total else ""), err=True)

    return report


def _quieten() -> None:
    """Keep the libraries' own bars and advice off the terminal; --verbose leaves them on."""
    if logging.getLogger().isEnabledFor(logging.INFO):
        return
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("BITSANDBYTES_NOWELCOME", "1")
    import warnings

    warnings.simplefilter("ignore")


def print_json(value: Any) -> None:
    """Print one JSON value on stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_facts(facts: Mapping[str, Any]) -> None:
    """Print names and values, aligned, on stdout; empty values are left out."""
    shown = {name: value for name, value in facts.items() if value not in (None, "", [], {}, ())}
    width = max((len(name) for name in shown), default=0)
    for name, value in shown.items():
        click.echo(f"{name:<{width}}  {_plain(value)}")


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 100 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(inner)}" for name, inner in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(item) for item in value)
    return str(value)


def run_guarded(group: click.Group, arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 1 for a RagtuneError, 2 for wrong usage, 130 for Ctrl-C."""
    from ragtune.errors import RagtuneError

    try:
        result = group.main(args=arguments, prog_name="ragtune", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except RagtuneError as error:
        click.echo(f"Error: {error}", err=True)
        return 1
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted. What was finished is kept; the same command goes on from there.", err=True)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
