"""Who asks: told from the API key alone; until a key is made, the server is open to this machine and nobody else."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request

from ragtune.errors import RecipeError
from ragtune.recipe import schema
from ragtune.server.errors import Rejected
from ragtune.server.keys import Keys, open_keys
from ragtune.server.state import State

logger = logging.getLogger(__name__)
CALLER = "ragtune_caller"
"""Where the caller stands in a request's ASGI scope."""
HOW = "Send it as the header 'Authorization: Bearer rt-...' or 'X-API-Key: rt-...'."


@dataclass(frozen=True)
class Caller:
    """Who a request comes from. ``tenant_filter`` says which documents there are for them; it comes from the key alone."""

    name: str = "this machine"
    tenant_filter: str | None = None
    is_admin: bool = True


class Gate:
    """Tells who asks by a request's headers and address."""

    def __init__(self, server: schema.Server, keys: Keys) -> None:
        self.server, self.keys = server, keys

    @property
    def needs_key(self) -> bool:
        """Whether requests need a key: as server.keys says, else once one was ever made, revoked ones counted."""
        return bool(self.keys.entries()) if self.server.keys is None else self.server.keys

    def identify(self, headers: Mapping[str, str], address: str | None) -> Caller:
        """Return who asks. Raises Rejected (401)."""
        if not self.needs_key:
            if self.server.keys is None and not is_own_machine(address):
                raise Rejected(401, "this server has no keys yet and answers its own machine alone. Do there: ragtune keys "
                                    "add NAME --recipe FILE", code="missing_api_key")
            return Caller()
        presented = read_key(headers)
        if not presented:
            raise Rejected(401, f"no API key. {HOW}", code="missing_api_key", headers={"WWW-Authenticate": "Bearer"})
        key = self.keys.find(presented)
        if key is None:  # whether it is wrong, expired or revoked is for ragtune keys list to say
            raise Rejected(401, f"the API key is unknown, expired or revoked. {HOW}", code="invalid_api_key",
                           headers={"WWW-Authenticate": "Bearer"})
        return Caller(key.name, key.tenant, key.is_admin)


def read_key(headers: Mapping[str, str]) -> str:
    """Return the key in the headers (their names in small letters), '' where there is none."""
    scheme, _, token = headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get("x-api-key", "").strip()


def is_own_machine(address: str | None) -> bool:
    """Tell whether an address is this machine's own; no address is that of a local socket."""
    if address is None:
        return True
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return bool((mapped or found).is_loopback)


def is_own_name(host: str) -> bool:
    """Tell whether a host's name or address means this machine alone."""
    bare = host.strip("[]").lower().rstrip(".")
    return bare == "localhost" or (bool(bare) and is_own_machine(bare))


def open_gate(state: State) -> Gate:
    """Return the gate of a server, made when it is first asked for."""
    if not isinstance(state.keys, Gate):
        state.keys = Gate(state.recipe.server, open_keys(state.recipe, state.folder))
    return state.keys


async def identify(request: Request) -> Caller:  # a coroutine, as others are given a thread for each request
    """Return who asks; a dependency of routes. Raises Rejected (401)."""
    caller: Any = request.scope.get(CALLER)
    if isinstance(caller, Caller):  # told already, before the request's body was read
        return caller
    headers = {name.lower(): value for name, value in request.headers.items()}
    return open_gate(request.app.state.ragtune).identify(headers, request.client.host if request.client else None)


async def identify_admin(caller: Annotated[Caller, Depends(identify)]) -> Caller:
    """Return who asks where they may change things; a dependency of routes. Raises Rejected (401, 403).

    It says 403 to others whatever they name, so that nothing can be told from it.
    """
    if not caller.is_admin:
        raise Rejected(403, "this API key may ask and search. What changes documents, jobs or keys wants one made with "
                            "ragtune keys add NAME --admin", code="not_admin")
    return caller


def check_exposure(server: schema.Server, keys: Keys) -> str | None:
    """Return a warning about who can reach the server, None where there is nothing to say.

    Raises RecipeError where it would listen beyond this machine and nobody had to show a key.
    """
    if is_own_name(server.host) or Gate(server, keys).needs_key:
        return None
    if server.keys is None:
        raise RecipeError(f"server.host is {server.host}, so others can reach this server, and no API key was made. Do: "
                          "ragtune keys add NAME --recipe FILE; or listen on 127.0.0.1; or set server.keys=false where "
                          "something before it checks who asks.")
    return (f"anybody who reaches {server.host}:{server.port} can ask, upload and delete: server.keys is false. Let "
            "something before it check who asks.")
