"""The application: routes, errors, guard."""

from collections.abc import Collection, Sequence

from fastapi import FastAPI

from ragvec import __version__
from ragvec.serve.ask_routes import Asking, ask_routes, no_ask_routes
from ragvec.serve.embedding_routes import embedding_routes
from ragvec.serve.errors import install_handlers
from ragvec.serve.guard import Guard
from ragvec.serve.json_route import JsonRoutesFirst
from ragvec.serve.map_routes import map_routes
from ragvec.serve.methods import StandardMethods
from ragvec.serve.search_routes import search_routes, writing_routes
from ragvec.serve.service import Service
from ragvec.serve.shard_routes import shard_routes
from ragvec.serve.status_routes import status_routes
from ragvec.serve.sub_path import SubPath, check_root_path


def create_app(
    service: Service,
    *,
    api_key: str | None = None,
    host_names: Collection[str] | None = None,
    origins: Sequence[str] = (),
    writable: bool = False,
    asking: Asking | None = None,
    root_path: str = "",
) -> SubPath:
    """An ASGI application that answers from a service. Who made the service closes it.

    api_key     asked for as a bearer token; None = open to all who can reach the server
    host_names  the only names it answers to, such as localhost; None = any
    origins     of other sites whose pages may use it
    writable    documents may be added and deleted
    asking      the language model that answers questions; None = none does. Who made it closes it
    root_path   under which a proxy passes requests on as they came, such as /search
    Raises WrongInput for a root path that is none.
    """
    root_path = check_root_path(root_path)
    app = FastAPI(
        title="ragvec",
        version=__version__,
        description='Embeddings and search. An error is `{"error": {"message", "type", "code"}}`.',
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # to an address that only the proxy knows
        servers=[{"url": root_path}] if root_path else None,
    )
    status = status_routes(service, writable=writable, asks=asking is not None)
    routers = [status, embedding_routes(service), search_routes(service), map_routes(service), shard_routes(service)]
    routers += [writing_routes(service)] if writable else []
    routers += [ask_routes(service, asking) if asking else no_ask_routes()]
    for router in routers:
        app.include_router(router)
    install_handlers(app)
    first = JsonRoutesFirst(app, routers)
    guard = Guard(
        StandardMethods(first, [*app.routes, *(route for router in routers for route in router.routes)]),
        limits=service.limits,
        metrics=service.metrics,
        api_key=api_key,
        host_names=host_names,
        origins=origins,
        takes_body=first.takes_body,
    )
    return SubPath(guard, root_path)
