"""The application: all routes over one assistant, with its documentation, its errors and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable

from fastapi import APIRouter, FastAPI

from ragtune import __version__
from ragtune.server import documentation, documents, feedback, health, openai, own, pages, reports
from ragtune.server.errors import install_errors
from ragtune.server.jobs import routes as job_routes
from ragtune.server.limits import protect
from ragtune.server.operations import install_operations
from ragtune.server.service import Service
from ragtune.server.state import State, open_state

logger = logging.getLogger(__name__)
ROUTES: tuple[Callable[[State], APIRouter], ...] = (
    openai.routes,
    own.routes,
    documents.routes,
    job_routes.routes,
    feedback.routes,
    reports.routes,
    health.routes,
    pages.routes,
    documentation.routes,
)
"""The routes of each area, in the order of the documentation."""
TAGS = [
    {"name": "OpenAI", "description": "What clients of OpenAI's API ask: chat completions, embeddings, models. Passages are "
     "found inside; the citations stand in the field `ragtune`."},
    {"name": "ragtune", "description": "Ask and search with everything ragtune knows of an answer."},
    {"name": "documents", "description": "The documents that are answered from."},
    {"name": "jobs", "description": "Work that takes longer than a request: datasets, training, evaluation, re-indexing."},
    {"name": "page", "description": "What the web page asks: the assistant in short, pages of documents, reports."},
    {"name": "operations", "description": "Whether the server lives, is ready, and how it fares."},
]
DESCRIPTION = """
Questions answered from documents, with citations, by one recipe of [ragtune](/).

Ask with any client of OpenAI's API: set its base URL to this server's `/v1`. Every error has the shape
`{"error": {"message", "type", "param", "code", "request_id"}}` and says what to do.
"""


def create_app(service: Service, state: State | None = None) -> FastAPI:
    """Return the application that serves an assistant; ``state.service`` is ``service``."""
    state = state or open_state(service)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        for begin in state.on_open:
            begin()
        try:
            yield
        finally:
            state.drain.begin()
            finished = await asyncio.to_thread(service.close, state.drain.left_s)
            if not finished:
                logger.warning("some answers were not finished within %.0f s and were ended", state.recipe.server.drain_s)
            for end in reversed(state.on_close):
                with contextlib.suppress(Exception):
                    end()

    app = FastAPI(title=f"ragtune: {state.recipe.name}", version=__version__, openapi_tags=TAGS, lifespan=lifespan,
                  docs_url=None, redoc_url=None, generate_unique_id_function=lambda route: route.name,
                  description=(state.recipe.description + "\n\n" if state.recipe.description else "") + DESCRIPTION)
    app.state.ragtune = state
    service.counters["turned_away"] = protect(app, state)
    install_operations(app, state)
    install_errors(app)
    for routes in ROUTES:
        app.include_router(routes(state))
    documentation.document(app, state)
    return app
