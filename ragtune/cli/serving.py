"""ragtune serve."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ragtune.cli.terminal import mismatch_option, print_json, progress, read_recipe, recipe_options

if TYPE_CHECKING:
    from ragtune.recipe.schema import Recipe
    from ragtune.server.state import State

LOG: dict[str, Any] = {
    "version": 1, "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain", "stream": "ext://sys.stderr"}},
    "loggers": {"uvicorn": {"level": "WARNING", "handlers": ["stderr"], "propagate": False},
                "ragtune": {"level": "INFO", "handlers": ["stderr"], "propagate": False}},
}
"""What uvicorn is told of logging: its own chatter is left out, what is said here stands on stderr."""


@click.command()
@recipe_options()
@click.option("--host", metavar="ADDRESS", help="Address to listen on. [the recipe's, 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0 takes a free one. [the recipe's, 8000]")
@click.option("--run", "runs", multiple=True, type=click.Path(path_type=Path), metavar="FOLDER",
              help="A run whose adapter is served beside the base; repeatable. [all runs of the recipe]")
@click.option("--insecure", is_flag=True, help="Listen beyond this machine although no key is asked for.")
@mismatch_option
def serve(
    recipe_name: str, settings: tuple[str, ...], as_json: bool, host: str | None, port: int | None,
    runs: tuple[Path, ...], insecure: bool, allow_mismatch: bool,
) -> None:
    """Serve the assistant over HTTP, until Ctrl-C: OpenAI's API under /v1, its documentation at /docs."""
    recipe = with_address(read_recipe(recipe_name, settings), host, port)
    check_packages()
    listener = bind(recipe.server.host, recipe.server.port)
    try:
        with progress():
            from ragtune.server.app import create_app
            from ragtune.server.service import open_service
            from ragtune.server.state import open_state

            service = open_service(recipe, runs, allow_mismatch)
            state = open_state(service)
            app = create_app(service, state)
        check_bound(recipe.server.host, needs_keys(state), insecure)
        describe(state, listener, as_json)
        run(app, listener, recipe.server.drain_s)
    finally:
        listener.close()


def with_address(recipe: Recipe, host: str | None, port: int | None) -> Recipe:
    """Return the recipe with the address of the command line, where it names one."""
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    return recipe.model_copy(update={"server": recipe.server.model_copy(update=given)}) if given else recipe


def check_packages() -> None:
    """Raise MissingPackage where the packages of the extra 'server' are not installed."""
    import importlib.util

    from ragtune.errors import MissingPackage

    missing = [name for name in ("fastapi", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingPackage(f"serving needs the package {' and '.join(missing)}, which is not installed. "
                             "Do: pip install 'ragtune[server]'")


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that has this address. Raises RecipeError where it cannot be had."""
    import errno

    from ragtune.errors import RecipeError

    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except socket.gaierror as error:
        raise RecipeError(f"server.host '{host}' is no address of this machine ({error.strerror}). Allowed: 127.0.0.1, "
                          "0.0.0.0, ::1 or a name of it.") from error
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(2048)  # a second server of this port is told so now, not once its model is loaded
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise RecipeError(f"port {port} of {host} is taken by another program. End it, or take another port: "
                              f"--port {port + 1 if port < 65535 else 8000}, or --port 0 for any free one.") from error
        raise RecipeError(f"cannot listen on {host} port {port}: {error.strerror}. Choose another --host or --port."
                          ) from error
    return listener


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def needs_keys(state: State) -> bool:
    """Whether requests need an API key: as server.keys says, else where one was made."""
    wanted = state.recipe.server.keys
    return bool(state.keys is not None and state.keys.entries()) if wanted is None else wanted


def check_bound(host: str, has_keys: bool, is_insecure: bool) -> None:
    """Raise RecipeError where others could ask without a key."""
    from ragtune.errors import RecipeError

    if is_loopback(host) or has_keys:
        return
    if not is_insecure:
        raise RecipeError(f"on {host} anybody who reaches this machine could ask, upload and delete: no API key is asked "
                          "for. Make one: ragtune keys add NAME, or listen on 127.0.0.1, or say --insecure.")
    click.secho(f"Warning: no API key is asked for on {host}. Whoever reaches this machine can ask, upload and delete.",
                err=True, bold=True)


def describe(state: State, listener: socket.socket, as_json: bool) -> None:
    """Print where it listens, what is served, and whether keys are needed."""
    name = listener.getsockname()
    host = state.recipe.server.host
    url = f"http://{f'[{host}]' if ':' in host else host}:{name[1]}"
    models: Sequence[str] = [model.id for model in state.service.models()]
    if as_json:
        print_json({"url": url, "models": models, "keys": needs_keys(state), "folder": str(state.folder)})
    else:
        click.echo(f"{state.recipe.name} is served at {url}\n"
                   f"  API     {url}/v1 (OpenAI's), described at {url}/docs\n"
                   f"  models  {', '.join(models)}\n"
                   f"  keys    {'needed: Authorization: Bearer KEY' if needs_keys(state) else 'none needed'}\n"
                   "Ctrl-C ends it.")
    click.get_text_stream("stdout").flush()


def run(app: Any, listener: socket.socket, drain_s: float) -> None:
    """Serve until the process is told to stop; what is being answered then is finished within ``drain_s``."""
    import contextlib
    import math

    import uvicorn

    config = uvicorn.Config(app, log_config=LOG, access_log=False, server_header=False, lifespan="on",
                            timeout_graceful_shutdown=math.ceil(drain_s))
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is how it ends
        uvicorn.Server(config).run(sockets=[listener])
