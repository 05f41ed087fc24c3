"""The server's documentation is true: schemathesis asks every route what it documents, and what it does not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from served_home import make_served

schemathesis = pytest.importorskip("schemathesis")
pytest.importorskip("fastapi")

EXAMPLES = 8
"""Drawn requests a route, beside those that schemathesis makes for each parameter's limits."""


def as_this_machine(app: Any) -> Any:
    """Return the application as this machine asks it; schemathesis asks as 'testclient' at 'testserver'."""
    async def asked(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            headers = [(name, b"127.0.0.1" if name == b"host" else value) for name, value in scope["headers"]]
            scope = {**scope, "client": ("127.0.0.1", 50000), "headers": headers}
        await app(scope, receive, send)

    return asked


@pytest.fixture(scope="module")
def api(tmp_path_factory) -> Any:
    """The documentation of the whole application, asked in this process; jobs are queued and not run."""
    from schemathesis.config import ProjectConfig, ProjectsConfig, SchemathesisConfig

    from ragtune.server.app import create_app
    from ragtune.server.jobs.jobs import Jobs
    from ragtune.server.service import open_service

    patch = pytest.MonkeyPatch()
    patch.setattr(Jobs, "_run_worker", lambda self: None)
    app = as_this_machine(create_app(open_service(make_served(tmp_path_factory.mktemp("home")))))
    config = SchemathesisConfig(seed=1, projects=ProjectsConfig(default=ProjectConfig(request_timeout=30)))
    yield schemathesis.openapi.from_asgi("/openapi.json", app, config=config)
    patch.undo()


schema = schemathesis.pytest.from_fixture("api")


@pytest.mark.real
@schema.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_route_keeps_to_its_documentation(case: Any) -> None:
    case.call_and_validate()
