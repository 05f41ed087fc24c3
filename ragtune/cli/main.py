"""The command line's entry point: names of commands, and where they live."""

from __future__ import annotations

import sys

import click

from ragtune import __version__
from ragtune.cli.terminal import LazyGroup, run_guarded

COMMANDS = {
    "demo": "ragtune.cli.learning:demo",
    "recipe": "ragtune.cli.recipes:recipe",
    "pack": "ragtune.cli.packs:pack",
    "index": "ragtune.cli.documents:index",
    "search": "ragtune.cli.documents:search",
    "ask": "ragtune.cli.answers:ask",
    "serve": "ragtune.cli.serving:serve",
    "questions": "ragtune.cli.questions:questions",
    "adapt": "ragtune.cli.adapting:adapt",
    "dataset": "ragtune.cli.learning:dataset",
    "methods": "ragtune.cli.methods:methods",
    "train": "ragtune.cli.learning:train",
    "tune": "ragtune.cli.searching:tune",
    "compare-methods": "ragtune.cli.searching:compare_methods",
    "evaluate": "ragtune.cli.answers:evaluate",
    "export": "ragtune.cli.exporting:export",
    "merge-adapters": "ragtune.cli.exporting:merge_adapters",
    "launch-settings": "ragtune.cli.launching:launch_settings",
    "report": "ragtune.cli.reporting:report",
    "score": "ragtune.cli.scoring:score",
    "judge": "ragtune.cli.judging:judge",
    "benchmark": "ragtune.cli.benchmarking:benchmark",
    "keys": "ragtune.cli.serving_keys:keys",
}


@click.group(cls=LazyGroup, commands_at=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ragtune")
@click.option("--verbose", is_flag=True, help="Show the log and the libraries' own messages on stderr.")
def ragtune(verbose: bool) -> None:
    """Documents in; a tuned, citing, measured question-answering assistant out.

    The main job: index, dataset, train, evaluate, ask. One recipe (YAML) describes an assistant.
    """
    if verbose:
        import logging

        logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")


def main() -> None:
    """Run the command line and exit."""
    sys.exit(run_guarded(ragtune))


if __name__ == "__main__":
    main()
