"""Running the server: bind, load, serve, drain."""

import contextlib
import gc
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ragvec.errors import RagvecError
from ragvec.retrieve.searched import Place, named_places, parted
from ragvec.serve.advert import Advert, advertised
from ragvec.serve.guard import LOCAL_NAMES, names_answered_to
from ragvec.serve.limits import Limits
from ragvec.serve.sparing import log_sparingly
from ragvec.serve.sub_path import check_root_path
from ragvec.stores import is_store

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

    from ragvec.encoder import Encoder
    from ragvec.serve.ask_routes import Asking

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8000
DRAIN_S = 30
IDLE_S = 30  # a connection that is kept open for a next request
_FROM_HERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # what listens everywhere listens here too
WARM_UP = "What is this about?"


def serve(
    load: "Callable[[], Encoder]",
    index_path: Place | Sequence[Place] | None,
    *,
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    api_key: str | None = None,
    host_names: Sequence[str] = (),
    origins: Sequence[str] = (),
    root_path: str = "",
    writable: bool = False,
    asking: "Callable[[], Asking] | None" = None,
    limits: Limits | None = None,
    on_start: Callable[[str], Any] = lambda url: None,
) -> None:
    """Serve until SIGTERM or SIGINT; requests that were accepted are answered first.

    load       makes the encoder; called once the port is ours, so that a taken port shows before a model is loaded
    port       0 = any that is free
    host_names further names that it is reached by, such as behind a proxy; origins, root_path: as for `create_app`
    asking     makes what answers questions; None = nothing does
    on_start   told the server's address once it answers
    Raises RagvecError for an address that can't be had and for a root path that is none, and what loading raises.
    """
    check_root_path(root_path)
    with contextlib.closing(bind(host, port)) as listener:
        from ragvec.serve.app import create_app
        from ragvec.serve.service import Service

        with Service(load(), index_path, limits=limits) as service, (asking or contextlib.nullcontext)() as asked:
            service.text_encoder().encode_queries([WARM_UP])  # the first pass of a model is slow
            gc.collect()
            gc.freeze()  # looking through all that a model brings stops every request for a tenth of a second
            app = create_app(
                service,
                api_key=api_key,
                host_names=names_answered_to(host, api_key, host_names),
                origins=origins,
                root_path=root_path,
                writable=writable,
                asking=asked,
            )
            place, port = listener.getsockname()[:2]
            advert = Advert(
                pid=os.getpid(),
                host=_FROM_HERE.get(place, place),
                port=port,
                needs_key=bool(api_key),
                secret=service.secret,
            )
            # of several each would answer with all of them
            alone = _folder_of(index_path)
            with contextlib.nullcontext() if alone is None else advertised(alone, advert):
                _run(app, listener, host, on_start, lifespan="off")


def _folder_of(served: Place | Sequence[Place] | None) -> Path | None:
    """The one folder that is served; None where it is several, or lies elsewhere."""
    servers, folders = parted([] if served is None else named_places(served))
    return Path(folders[0]) if len(folders) == 1 and not servers and not is_store(folders[0]) else None


def run_app(app: "ASGIApp", *, host: str, port: int, on_start: Callable[[str], Any]) -> None:
    """Serve an ASGI application until SIGTERM or SIGINT. Raises RagvecError for an address that can't be had."""
    with contextlib.closing(bind(host, port)) as listener:
        _run(app, listener, host, on_start, lifespan="on")


def _run(
    app: "ASGIApp", listener: socket.socket, host: str, on_start: Callable[[str], Any], *, lifespan: Literal["on", "off"]
) -> None:
    import uvicorn

    config = server_config(app, lifespan=lifespan)
    log_sparingly()
    _allow_files()
    with _quiet_sigterm():
        listener.listen(config.backlog)
        on_start(address(host, listener.getsockname()[1]))
        uvicorn.Server(config).run(sockets=[listener])


def _allow_files() -> None:
    """Let the process open files beside all connections: many systems' default is 1,024."""
    from ragvec.serve.connection import MOST_CONNECTIONS

    wanted = 2 * MOST_CONNECTIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def server_config(app: "ASGIApp", *, lifespan: Literal["on", "off"] = "off") -> "uvicorn.Config":
    """How uvicorn serves an ASGI application. lifespan: "on" if it must be told of the server's start and end."""
    import uvicorn

    from ragvec.serve.connection import Connection

    return uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        log_level=logging.WARNING,
        access_log=False,
        lifespan=lifespan,
        server_header=False,
        timeout_keep_alive=IDLE_S,
        timeout_graceful_shutdown=DRAIN_S,
    )


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to an address, not listening yet. Raises RagvecError if it can't be had."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(place)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise RagvecError(f"can't serve on {host}:{port}: {error.strerror}; choose another port or host") from error
    return listener


def address(host: str, port: int) -> str:
    """The server's address as a URL."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def warn_if_open(host: str, api_key: str | None) -> None:
    """Say on stderr when everybody on the network may use the server."""
    if host not in LOCAL_NAMES and not api_key:
        print(
            f"warning: {host} is reachable from other machines, and no API key is set: set RAGVEC_API_KEY, "
            "or serve on 127.0.0.1 behind a proxy",
            file=sys.stderr,
        )


@contextlib.contextmanager
def _quiet_sigterm() -> Iterator[None]:
    """uvicorn drains on SIGTERM and then sends it to the process again, which would end it before it has tidied up."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
