"""The server's documentation is true: schemathesis asks every route what it documents, and what it does not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from served_home import make_served

schemathesis = pytest.importorskip("schemathesis")
pytest.importorskip("fastapi")

EXAMPLES = 8
"""Drawn requests a route, beside those that schemathesis makes for each parameter's limits. More were tried by hand."""


@pytest.fixture(scope="module")
def api(tmp_path_factory) -> Any:
    """The documentation of the whole application, asked in this process; jobs are queued and not run."""
    from schemathesis.config import ProjectConfig, ProjectsConfig, SchemathesisConfig

    from ragtune.server.app import create_app
    from ragtune.server.jobs.jobs import Jobs
    from ragtune.server.service import open_service

    patch = pytest.MonkeyPatch()
    patch.setattr(Jobs, "_run_worker", lambda self: None)
    app = create_app(open_service(make_served(tmp_path_factory.mktemp("home"))))
    config = SchemathesisConfig(seed=1, projects=ProjectsConfig(default=ProjectConfig(request_timeout=30)))
    yield schemathesis.openapi.from_asgi("/openapi.json", app, config=config)
    patch.undo()


schema = schemathesis.pytest.from_fixture("api")


@schema.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_route_keeps_to_its_documentation(case: Any) -> None:
    case.call_and_validate()
