"""The map of the index over HTTP: what it is, its points in one piece, a point's document, and where hits are on it."""

import threading
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from fastapi import APIRouter, Response

from ragvec.artefacts import MAP_NAME
from ragvec.errors import Busy, NotFound
from ragvec.index import Index, store
from ragvec.map import CorpusMap, read_map
from ragvec.map.file import Standing
from ragvec.retrieve.searched import Searched
from ragvec.serve.advert import index_identity
from ragvec.serve.json_route import JsonRoute, json_response
from ragvec.serve.schemas import PlacesRequest
from ragvec.serve.service import Service

GONE = 255  # the topic of a point whose passage is there no longer, in what is sent
SHOWN = 240  # characters of a passage


class _Live(NamedTuple):
    """A map, held against a commit of the index. version: tells it from one that was made anew, or seen later."""

    made_of: tuple[Any, ...]
    version: str
    map: CorpusMap
    standing: Standing


def map_routes(service: Service) -> APIRouter:
    """The routes that show the map."""
    router = APIRouter(route_class=JsonRoute, tags=["map"])
    maps = _Maps()

    @router.get("/map", summary="The map of the index: its topics, and whether the index has changed since")
    async def about() -> Response:
        return json_response(await service.read_one(lambda index: _described(maps.of(index))))

    @router.get("/map/points", summary="Its n points: all x, all y (uint16, little-endian), all topics (uint8; 255 = gone)")
    async def points(version: str) -> Response:
        live = await service.read_one(lambda index: maps.of(index, version))
        topics = np.where(live.standing.live, live.map.topics, GONE).astype(np.uint8)
        data = live.map.points.T.astype("<u2").tobytes() + topics.tobytes()
        return Response(data, media_type="application/octet-stream", headers={"cache-control": "no-store"})

    @router.get("/map/points/{number}", summary="The passage of a point")
    async def point(number: int, version: str) -> Response:
        def read(index: Index) -> dict[str, Any]:
            live = maps.of(index, version)
            if not 0 <= number < len(live.map) or not live.standing.live[number]:
                raise NotFound(f"the map has no point {number} of a passage that is there")
            [passage] = index.passages([int(live.map.passages[number])])
            text = passage.text[:SHOWN] + ("…" if len(passage.text) > SHOWN else "")
            return {"doc_id": passage.doc_id, "passage_id": passage.passage_id, "title": passage.title, "text": text}

        return json_response(await service.read_one(read))

    @router.post("/map/places", summary="Where passages are on the map: for each its point, or null")
    async def places(body: PlacesRequest) -> Response:
        return json_response(
            {"points": await service.read_one(lambda index: _places(index, maps.of(index, body.version), body))}
        )

    return router


def has_map(index: Searched) -> bool:
    """Whether something lies where the map of an index would; several at once, and stores, have none."""
    return isinstance(index, Index) and (index.path / MAP_NAME).is_file()


def _described(live: _Live) -> dict[str, Any]:
    made, standing = live.map, live.standing
    return {
        "version": live.version,
        "points": len(made),
        "passages": made.total,
        "created": made.created,
        "stale": standing.is_stale,
        "gone": int((~standing.live).sum()),
        "new": standing.new,
        "topics": [topic._asdict() for topic in made.names],
    }


def _places(index: Index, live: _Live, body: PlacesRequest) -> list[int | None]:
    with index.reading() as view:
        ids = store.ids_of_passages(view.connection, body.passage_ids)
    found: list[int | None] = []
    for passage_id in body.passage_ids:
        number = ids.get(passage_id, -1)
        place = int(np.searchsorted(live.map.passages, number))
        is_there = place < len(live.map) and live.map.passages[place] == number and live.standing.live[place]
        found.append(place if is_there else None)
    return found


class _Maps:
    """The map of the index, read and held against its newest commit once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: _Live | None = None

    def of(self, index: Index, version: str | None = None) -> _Live:
        """The map; version: of the one that is meant. Raises NotFound where there is none, Busy where it is another by now."""
        with index.reading() as view, self._lock:
            file: tuple[int, ...] = ()
            with suppress(OSError):
                status = (index.path / MAP_NAME).lstat()
                file = (status.st_ino, status.st_mtime_ns, status.st_size)
            made_of = (file, index_identity(index.path), view.generation)
            if self._last is None or self._last.made_of != made_of:
                corpus_map = read_map(index)
                self._last = _Live(made_of, f"{hash(made_of) & 2**63 - 1:x}", corpus_map, corpus_map.against(index, view))
            if version not in (None, self._last.version):
                raise Busy("the map or the index has changed: ask for /map again")
            return self._last
