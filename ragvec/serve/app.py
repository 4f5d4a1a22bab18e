"""The application: routes, errors, guard."""

from collections.abc import Sequence

from fastapi import FastAPI

from ragvec import __version__
from ragvec.serve.embedding_routes import embedding_routes
from ragvec.serve.engine import Engine
from ragvec.serve.errors import install_handlers
from ragvec.serve.guard import Guard
from ragvec.serve.search_routes import search_routes, writing_routes
from ragvec.serve.status_routes import status_routes


def create_app(
    engine: Engine,
    *,
    api_key: str | None = None,
    host_names: Sequence[str] | None = None,
    origins: Sequence[str] = (),
    writable: bool = False,
) -> Guard:
    """An ASGI application that answers from an engine. Who made the engine closes it.

    api_key     asked for as a bearer token; None = open to all who can reach the server
    host_names  the only names it answers to, such as localhost; None = any
    origins     of other sites whose pages may use it
    writable    documents may be added and deleted
    """
    app = FastAPI(
        title="ragvec",
        version=__version__,
        description='Embeddings and search. An error is `{"error": {"message", "type", "code"}}`.',
        docs_url=None,
        redoc_url=None,
    )
    app.include_router(status_routes(engine, writable=writable))
    app.include_router(embedding_routes(engine))
    app.include_router(search_routes(engine))
    if writable:
        app.include_router(writing_routes(engine))
    install_handlers(app)
    return Guard(
        app,
        limits=engine.limits,
        metrics=engine.metrics,
        api_key=api_key,
        host_names=host_names,
        origins=origins,
    )
