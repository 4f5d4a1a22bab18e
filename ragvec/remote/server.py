"""A `ragvec serve` elsewhere as a part of what is searched together. What it answers is checked before it is used."""

import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, IncompleteRead
from typing import Any, TypeVar
from urllib.parse import quote

import numpy as np
import orjson

from ragvec.checked import Mismatch, check_fields, check_range, check_value, shown
from ragvec.errors import Changed, Unavailable, first_line
from ragvec.http import checked_key, connected, deadline, read_address, sent_elsewhere, told
from ragvec.index.ann.exact import SearchResult
from ragvec.index.validity import MOST_DIMENSIONS
from ragvec.index.words import LANGUAGES, Ranking
from ragvec.index.words.weights import Counts
from ragvec.records import Passage
from ragvec.remote.part import STEP, About, Allowed, Found
from ragvec.remote.wire import MOST_COUNT, MOST_IDS, MOST_VECTORS, counts_record, numbers, packed, read_counts, unpacked

PATIENCE_S = 30.0  # in which an answer must be there, to its last byte
MOST_ANSWER = 64 << 20  # bytes
MOST_IDLE = 8  # connections that are kept
MOST_FIELDS = 10_000
Read = TypeVar("Read")


@dataclass(frozen=True)
class Server:
    """Where a `ragvec serve` answers, and its key, which is sent to this address alone. Raises WrongUsage for what is none."""

    address: str
    api_key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        parts = read_address(self.address, what="server", example="http://host:8000")
        object.__setattr__(self, "address", parts.geturl())
        object.__setattr__(self, "api_key", checked_key(self.api_key))

    def __str__(self) -> str:
        return self.address


class ServerFailed(Unavailable):
    """A server does not answer, or not as ragvec does. The message names it."""


class ServerPart:
    """What one server serves. May be asked from several threads."""

    def __init__(self, server: Server) -> None:
        """Nothing is asked yet."""
        self.name = server.address
        self._parts = read_address(server.address, what="server", example="http://host:8000")
        self._key = server.api_key
        self._idle: list[HTTPConnection] = []
        self._lock = threading.Lock()
        self._about: About | None = None
        weakref.finalize(self, _close_all, self._idle)

    def about(self, *, newly: bool = False) -> About:
        """What the server says of what it serves, as it was when it was asked last; newly: now.

        Raises ServerFailed.
        """
        known = self._about
        if known is None or newly:
            known = self._about = self._read(self._ask("GET", "/shard"), _read_about)
        return known

    def counts(self, query: str, *, syntax: bool) -> Counts:
        """What it knows of a query's words."""
        return self._read(self._post("/words", query=query, syntax=syntax), read_counts)

    def lexical(self, query: str, k: int, counts: Counts, *, syntax: bool, allowed: Allowed | None) -> Ranking:
        """Its k best passages by a query's words, as all parts weigh them."""
        asked = {"query": query, "syntax": syntax, "k": k, "counts": counts_record(counts), "allowed": _record(allowed)}

        def read(answer: Any) -> Ranking:
            [found] = _rankings(answer, 1, k)
            return list(zip(found[0].tolist(), found[1].tolist(), strict=True))

        return self._read(self._post("/lexical", **asked), read)

    def near(self, vectors: np.ndarray, k: int, *, allowed: Allowed | None) -> SearchResult:
        """Its k nearest passages to each vector."""
        found = [
            ranking
            for start in range(0, len(vectors), MOST_VECTORS)
            for ranking in self._near(vectors[start : start + MOST_VECTORS], k, allowed)
        ]
        width = max((len(ids) for ids, _ in found), default=0)
        result = SearchResult(np.full((len(found), width), -np.inf, np.float32), np.full((len(found), width), -1, np.int64))
        for row, (ids, scores) in enumerate(found):
            result.ids[row, : len(ids)], result.scores[row, : len(ids)] = ids, scores
        return result

    def _near(self, vectors: np.ndarray, k: int, allowed: Allowed | None) -> "list[tuple[np.ndarray, np.ndarray]]":
        answer = self._post("/near", vectors=packed(vectors), k=k, allowed=_record(allowed))
        return self._read(answer, lambda answer: _rankings(answer, len(vectors), k))

    def similarities(self, vector: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """The inner products of a vector with these passages'."""

        def one_block(ids: list[int]) -> list[float]:
            answer = self._post("/near", vectors=packed(vector[None]), ids=ids)
            return self._read(answer, lambda answer: _scores(answer, len(ids)).tolist())

        return np.array(_in_blocks(ids.tolist(), one_block), dtype=np.float32)

    def passages(self, ids: Sequence[int]) -> list[Found]:
        """Passages by their ids."""
        return _in_blocks(ids, lambda ids: self._passages(len(ids), ids=ids))

    def doc_ids(self, ids: Sequence[int]) -> list[str]:
        """The documents that passages belong to."""

        def one_block(ids: list[int]) -> list[str]:
            answer = self._post("/passages", ids=ids, only="doc_ids")
            return self._read(answer, lambda answer: _texts(answer["doc_ids"], len(ids)))

        return _in_blocks(ids, one_block)

    def vectors(self, ids: Sequence[int]) -> np.ndarray:
        """The passages' vectors."""
        return self._vectors("ids", list(ids))

    def sample(self, places: np.ndarray) -> np.ndarray:
        """The vectors of those that have one, by their places among them."""
        return self._vectors("places", places.tolist())

    def document(self, doc_id: str) -> list[Passage]:
        """A document's passages, as they are now."""
        answer = self._ask("POST", "/shard/passages", {"doc_id": doc_id})
        return [found.passage for found in self._read(answer, _read_passages)]

    def close(self) -> None:
        """Close the connections that nobody uses."""
        with self._lock:
            _close_all(self._idle)

    def _passages(self, count: int, **asked: Any) -> list[Found]:
        return self._read(self._post("/passages", **asked), lambda answer: _as_many(_read_passages(answer), count))

    def _vectors(self, name: str, chosen: list[int]) -> np.ndarray:
        dimension = self.about().dimension

        def one_block(chosen: list[int]) -> list[np.ndarray]:
            answer = self._post("/passages", **{name: chosen}, only="vectors")
            return self._read(answer, lambda answer: list(_as_many(unpacked(answer["vectors"], dimension), len(chosen))))

        return np.array(_in_blocks(chosen, one_block), dtype=np.float32).reshape(-1, dimension)

    def _post(self, path: str, **asked: Any) -> Any:
        """What is answered of the state that was told. Raises Changed where there is another by now."""
        return self._ask("POST", f"/shard{path}", {"state": self.about().state, **asked})

    def _read(self, answer: Any, read: Callable[[Any], Read]) -> Read:
        try:
            return read(answer)
        except (Mismatch, LookupError, TypeError, ValueError) as error:
            raise self._failed(
                f"answers with what this ragvec can't read ({first_line(error)}): is the same version there?"
            ) from error

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The JSON that is answered. Raises ServerFailed, Changed."""
        until = time.monotonic() + PATIENCE_S
        headers = {"accept": "application/json"} | ({"authorization": f"Bearer {self._key}"} if self._key else {})
        headers |= {} if body is None else {"content-type": "application/json"}
        sent = None if body is None else orjson.dumps(body)
        while True:
            with self._lock:
                kept = self._idle.pop() if self._idle else None
            connection = connected(self._parts, self._failed) if kept is None else kept
            try:
                with deadline(connection.sock, max(0.001, until - time.monotonic())):
                    connection.request(method, quote(self._parts.path + path), sent, headers)
                    response = connection.getresponse()
                    data = response.read(MOST_ANSWER + 1)
                    if response.length and len(data) <= MOST_ANSWER:
                        raise IncompleteRead(data, response.length)
            except (OSError, HTTPException) as error:
                connection.close()
                if time.monotonic() >= until:
                    raise self._failed(f"has not answered within {PATIENCE_S:g} s") from error
                if kept is not None:  # the server had closed it: nothing was answered, and nothing changes by asking twice
                    continue
                raise self._failed(f"hung up ({first_line(error)})") from error
            self._keep(connection, response)
            return self._checked(response, data)

    def _keep(self, connection: HTTPConnection, response: HTTPResponse) -> None:
        with self._lock:
            if response.isclosed() and not response.will_close and len(self._idle) < MOST_IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def _checked(self, response: HTTPResponse, data: bytes) -> Any:
        code = response.status
        if len(data) > MOST_ANSWER:
            raise self._failed(f"answers with over {MOST_ANSWER >> 20} MiB, which is not read")
        if code == 200:
            return self._read(data, orjson.loads)
        if 300 <= code < 400:
            raise self._failed(sent_elsewhere(code, response.headers.get("location", "")))
        if code == 401:
            raise self._failed(f"{'refuses the' if self._key else 'wants an'} API key (401): give the one it was started with")
        message, _ = told(data[: 64 << 10])
        if code == 409:
            self._about = None
            raise Changed(f"{self.name}: {message}")
        said = message.replace(self._key, "…") if self._key else message
        advice = ": is it a `ragvec serve` of this version, with an index?" if code == 404 else ""
        raise self._failed(f"answers {code}{f' ({said})' if said else ''}{advice}")

    def _failed(self, what: str) -> ServerFailed:
        return ServerFailed(f"{self.name} {what}")


def _close_all(connections: list[HTTPConnection]) -> None:
    while connections:
        connections.pop().close()


def _record(allowed: Allowed | None) -> dict[str, Any] | None:
    if allowed is None:
        return None
    values = allowed.values and {
        name: list(value) if isinstance(value, (list, tuple, set, frozenset)) else value
        for name, value in allowed.values.items()
    }
    return {**allowed._asdict(), "values": values}


Item = TypeVar("Item")


def _in_blocks(ids: Sequence[int], ask: Callable[[list[int]], list[Item]]) -> list[Item]:
    blocks = [list(ids[start : start + MOST_IDS]) for start in range(0, len(ids), MOST_IDS)]
    return [item for block in blocks for item in ask(block)]


def _read_about(answer: Any) -> About:
    about = About(**check_fields(check_value("answer", answer, dict[str, Any]), About))
    check_range("dimension", about.dimension, 1, MOST_DIMENSIONS)
    for name in ("documents", "passages", "vectors", "bytes", "deleted_rows"):
        check_range(name, getattr(about, name), 0, 2**63 - 1 if name == "bytes" else MOST_COUNT)
    if about.language and about.language not in LANGUAGES:
        raise Mismatch(f"language is {shown(about.language)}, which is not known here")
    if len(about.fields) > MOST_FIELDS:
        raise Mismatch(f"it has {len(about.fields):,} fields")
    return about


def _rankings(answer: Any, rows: int, k: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Ids and scores of each query, best first, at most k and no passage twice."""
    ids = [numbers("ids", one, most=k, below=STEP) for one in _as_many(answer["ids"], rows)]
    found = [(one, _floats(scores, len(one))) for one, scores in zip(ids, _as_many(answer["scores"], rows), strict=True)]
    if any(len(np.unique(one)) < len(one) for one in ids):
        raise Mismatch("a passage is named twice")
    return found


def _scores(answer: Any, count: int) -> np.ndarray:
    return _floats(answer["scores"], count)


def _floats(values: Any, count: int) -> np.ndarray:
    return np.array([check_value("score", one, float) for one in _as_many(values, count)], dtype=np.float32)


def _texts(values: Any, count: int) -> list[str]:
    return [check_value("doc_id", one, str) for one in _as_many(values, count)]


def _as_many(values: Any, count: int) -> Any:
    if not isinstance(values, (list, np.ndarray)) or len(values) != count:
        raise Mismatch(f"{count:,} were asked for")
    return values


def _read_passages(answer: Any) -> list[Found]:
    found = check_value("passages", answer["passages"], list)
    return [_read_passage(check_value("passage", one, dict[str, Any])) for one in found]


def _read_passage(values: dict[str, Any]) -> Found:
    return Found(Passage(**check_fields(values, Passage)), check_value("index", values.get("index"), str | None))
