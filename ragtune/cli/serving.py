"""ragtune serve."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ragtune.cli.terminal import mismatch_option, print_json, progress, read_recipe, recipe_options

if TYPE_CHECKING:
    from ragtune.recipe.schema import Recipe
    from ragtune.server.state import State


@click.command()
@recipe_options()
@click.option("--host", metavar="ADDRESS", help="Address to listen on. [the recipe's, 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0 takes a free one. [the recipe's, 8000]")
@click.option("--run", "runs", multiple=True, type=click.Path(path_type=Path), metavar="FOLDER",
              help="A run whose adapter is served beside the base; repeatable. [all runs of the recipe]")
@click.option("--insecure", is_flag=True, help="Listen beyond this machine although no API key was made.")
@mismatch_option
@click.pass_context
def serve(
    context: click.Context, recipe_name: str, settings: tuple[str, ...], as_json: bool, host: str | None,
    port: int | None, runs: tuple[Path, ...], insecure: bool, allow_mismatch: bool,
) -> None:
    """Serve the assistant over HTTP, until Ctrl-C: its page at /, OpenAI's API under /v1, described at /docs.

    Ctrl-C or SIGTERM takes no more requests and finishes those there are, within server.drain_s; a second one ends at once.
    """
    recipe = with_address(read_recipe(recipe_name, settings), host, port)
    check_packages()
    recipe, warning = check_reach(recipe, insecure)
    listener = bind(recipe.server.host, recipe.server.port)
    try:
        with progress():
            from ragtune.server.app import create_app
            from ragtune.server.service import open_service
            from ragtune.server.state import open_state

            service = open_service(recipe, runs, allow_mismatch)
            state = open_state(service)
            app = create_app(service, state)
        describe(state, listener, as_json)
        if warning:
            click.secho(f"Warning: {warning}", err=True, bold=True)
        code = run(app, state, listener)
    finally:
        listener.close()
    context.exit(code)


def with_address(recipe: Recipe, host: str | None, port: int | None) -> Recipe:
    """Return the recipe with the address of the command line, where it names one."""
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    return recipe.model_copy(update={"server": recipe.server.model_copy(update=given)}) if given else recipe


def check_packages() -> None:
    """Raise MissingPackage where packages of the extra 'server' are not installed."""
    import importlib.util

    from ragtune.errors import MissingPackage

    wanted = {"fastapi": "fastapi", "uvicorn": "uvicorn", "huey": "huey", "prometheus_client": "prometheus-client",
              "python_multipart": "python-multipart", "fastapi_swagger": "fastapi-swagger"}
    missing = [package for name, package in wanted.items() if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingPackage(f"serving needs {' and '.join(missing)}, not installed here. Do: pip install 'ragtune[server]'")


def check_reach(recipe: Recipe, is_insecure: bool) -> tuple[Recipe, str | None]:
    """Return the recipe and a warning about who can reach the server, None where there is nothing to say.

    ``is_insecure`` counts only where no key was made: none that was is passed over by it. Raises RecipeError where others
    could ask without a key.
    """
    from ragtune.errors import RecipeError
    from ragtune.server.auth import check_exposure
    from ragtune.server.keys import open_keys
    from ragtune.server.state import server_folder

    keys = open_keys(recipe, server_folder(recipe))
    try:
        return recipe, check_exposure(recipe.server, keys)
    except RecipeError as error:
        if not is_insecure:
            raise RecipeError(f"{error} Or, on a network you trust, say --insecure.") from None
    server = recipe.server.model_copy(update={"keys": False})
    return recipe.model_copy(update={"server": server}), check_exposure(server, keys)


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens on this address. Raises RecipeError where it cannot be had.

    It listens already while the model is loaded, so that a second server of its port is told so at once.
    """
    import errno

    from ragtune.errors import RecipeError

    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except socket.gaierror as error:
        raise RecipeError(f"server.host '{host}' is no address of this machine ({error.strerror}). Allowed: 127.0.0.1, "
                          "0.0.0.0, ::1 or a name of it.") from error
    # Named as TCP, or asyncio leaves Nagle's algorithm on: an answer in two packets then takes 40 ms more.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # asyncio does so for sockets it makes itself alone; without it a kept connection waits 40 ms for each small answer.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise RecipeError(f"port {port} of {host} is taken by another program. End it, or take another port: "
                              f"--port {port + 1 if port < 65535 else 8000}, or --port 0 for any free one.") from error
        raise RecipeError(f"cannot listen on {host} port {port}: {error.strerror}. Choose another --host or --port."
                          ) from error
    return listener


def describe(state: State, listener: socket.socket, as_json: bool) -> None:
    """Print where it listens, what is served, and whether keys are needed."""
    host = state.recipe.server.host
    url = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
    models = [model.id for model in state.service.models()]
    if as_json:
        print_json({"url": url, "models": models, "needs_key": state.keys.needs_key, "folder": str(state.folder)})
    else:
        click.echo(f"{state.recipe.name} is served at {url}\n"
                   f"  API     {url}/v1 (OpenAI's), described at {url}/docs\n"
                   f"  models  {', '.join(models)}\n"
                   f"  keys    {'needed: Authorization: Bearer KEY' if state.keys.needs_key else 'none needed'}\n"
                   f"  files   {state.folder}\n"
                   "Ctrl-C ends it.")
    sys.stdout.flush()


def run(app: Any, state: State, listener: socket.socket) -> int:
    """Serve until the process is told to stop, and return the exit code."""
    from ragtune.server.draining import run_server
    from ragtune.server.logs import install_logs

    server = state.recipe.server
    install_logs(server.log_questions)
    return run_server(app, state.drain, server.host, server.port, sockets=[listener])
