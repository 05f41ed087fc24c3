"""Asks all routes with schemathesis, in a process of its own, and prints what it found as JSON.

Hypothesis draws from the constants of all modules that are loaded: beside other tests it would ask other things each time.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from ragtune.recipe.schema import Recipe
from ragtune.server import limits
from ragtune.server.app import create_app
from ragtune.server.jobs.jobs import Jobs
from ragtune.server.service import open_service

BEYOND_SCHEMAS = {
    "POST /v1/ask": (400,), "POST /v1/search": (400,), "POST /v1/chat/completions": (400,),  # filters have a grammar
    "POST /v1/jobs": (400,),  # which settings go with which kind
    "POST /v1/embeddings": (400,),  # the one number of dimensions there is
    "POST /v1/documents": (400, 413, 415),  # a file must be what its name says
}
"""What a schema allows and the server may still refuse, since no schema can say it."""
ACCEPTED = ["2xx", "3xx", "401", "403", "404", "409", "429"]
REFUSED = ["400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "429"]


def as_this_machine(app: Any) -> Any:
    """Return the application as this machine asks it; schemathesis asks as 'testclient' at 'testserver'."""
    async def asked(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            headers = [(name, b"127.0.0.1" if name == b"host" else value) for name, value in scope["headers"]]
            scope = {**scope, "client": ("127.0.0.1", 50000), "headers": headers}
        await app(scope, receive, send)

    return asked


def check_api(recipe: Recipe, examples: int, phases: tuple[str, ...], key: str = "") -> tuple[list[str], set[str]]:
    """Ask all routes as their documentation says and as it does not; return what is wrong, and what was asked.

    All of schemathesis's checks are on. The same requests are made each time.
    """
    import schemathesis
    from schemathesis.config import SchemathesisConfig
    from schemathesis.engine import events, from_schema

    operations = [{"include-name": name, "checks": {"positive_data_acceptance": {
        "expected-statuses": [*ACCEPTED, *map(str, statuses)]}}} for name, statuses in BEYOND_SCHEMAS.items()]
    # What is cancelled is not gone: it stays in the list, which a check for what was deleted cannot know.
    operations.append({"include-path-regex": "^/v1/jobs/.*job_id", "checks": {"use_after_free": {"enabled": False}}})
    config: dict[str, Any] = {
        "seed": 1, "continue-on-failure": True, "request-timeout": 30, "workers": 1, "max-stream-events": 1,
        "generation": {"max-examples": examples, "deterministic": True, "database": "none", "no-shrink": True},
        "checks": {"negative_data_rejection": {"expected-statuses": REFUSED},
                   "positive_data_acceptance": {"expected-statuses": ACCEPTED}},
        "phases": {name: {"enabled": name in phases} for name in ("examples", "coverage", "fuzzing", "stateful")},
        "operations": operations}
    if key:
        config["auth"] = {"openapi": {"bearer": {"bearer": key}}}
    schema = schemathesis.openapi.from_asgi("/openapi.json", as_this_machine(create_app(open_service(recipe))),
                                            config=SchemathesisConfig.from_dict(config))
    wrong: dict[str, None] = {}
    asked: set[str] = set()
    for event in from_schema(schema).execute():
        if isinstance(event, (events.NonFatalError, events.FatalError)):
            wrong[str(getattr(event, "info", None) or getattr(event, "exception", event))] = None
        if not isinstance(event, events.ScenarioFinished):
            continue
        asked |= {event.label} - {None}
        for checks in event.recorder.checks.values():
            for check in checks:
                if check.failure_info is not None:
                    failure = check.failure_info
                    wrong[f"{event.label}: {check.name}: {failure.failure}\n{failure.code_sample}"] = None
    return list(wrong), asked


def main() -> None:
    """Read {recipe, examples, phases, key} from stdin."""
    order = json.load(sys.stdin)
    Jobs._run_worker = lambda self: None  # jobs are queued and not run
    limits.FAILURES_A_MINUTE = 0  # else 429 is what many wrong keys are told
    wrong, asked = check_api(Recipe.model_validate_json(order["recipe"]), order["examples"], tuple(order["phases"]),
                             order["key"])
    print(json.dumps({"wrong": wrong, "asked": sorted(asked)}))


if __name__ == "__main__":
    main()
