"""Servers, and folders on this machine beside them, as one index: asked all at once, merged before anything is fused."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from typing import Any, NoReturn, TypeVar

import numpy as np

from ragvec.errors import WrongInput, WrongUsage
from ragvec.index import Index, IndexSettings
from ragvec.index.ann.exact import SearchResult, keep_best
from ragvec.index.conditions import Filter
from ragvec.index.encoder import BUNDLED, NO_ENCODER
from ragvec.index.nearness import FEWEST, near_between, sample_places
from ragvec.index.where import parse_where
from ragvec.index.words import DEFAULT_LANGUAGE, Ranking
from ragvec.index.words.query import read_query
from ragvec.index.words.weights import Counts, added, read, weight
from ragvec.joint import Joint
from ragvec.joint.joint import check_agreement
from ragvec.records import FilterValues, Passage
from ragvec.remote.part import STEP, About, Allowed, LocalPart, Part
from ragvec.remote.server import Server, ServerPart

HERE = "the folders here"
_SUMS = ("documents", "passages", "deleted_rows", "bytes")
Answer = TypeVar("Answer")


class Together:
    """What servers serve, and what lies here, open for reading by any number of threads; a Retriever takes it as an Index.

    The hits are those of one index over all of the documents: vectors are merged by their similarity, words are weighed by how
    frequent they are, and how long passages are, in all parts together, and only then both are fused. Equal scores are told in
    the order of the parts, what lies here first. A part that does not answer is an error, not fewer hits.
    """

    has_words = True

    def __init__(self, servers: Sequence[Server], local: Index | Joint | None = None) -> None:
        """local: what is searched beside the servers; who opened it closes it with this.

        Raises WrongInput for a server that is named twice; ServerFailed for one that does not answer.
        """
        addresses = [server.address for server in servers]
        twice = next((one for one in addresses if addresses.count(one) > 1), None)
        if twice is not None:
            raise WrongInput(f"the server {twice} is named twice: name each once")
        self.local = local
        self.servers = [ServerPart(server) for server in servers]
        self._threads = ThreadPoolExecutor(max_workers=4 * (len(servers) + 1), thread_name_prefix="ragvec-parts")
        self._near: dict[tuple[str, ...], float | None] = {}
        self._agreed: list[About] = []
        try:
            self.abouts()
        except BaseException:
            self._let_go()
            raise

    def __reduce__(self) -> NoReturn:
        raise WrongUsage("servers and the secret that opens them are not pickled: call open_retriever in each process")

    @property
    def settings(self) -> IndexSettings:
        """Those that all agree on; the others, such as where the encoder lies, are of what lies here, if anything does."""
        if self.local is not None:
            return self.local.settings
        settings = self.servers[0].about().settings
        source = settings.encoder_source
        is_found = source == BUNDLED or source.count("/") == 1  # another machine's folder says nothing here
        return settings if is_found else replace(settings, encoder_source=NO_ENCODER)

    def _check(self, abouts: Sequence[About]) -> None:
        """Raises WrongInput unless all parts may be searched as one."""
        settings = [about.settings for about in abouts]
        names = [part.name for part in self.servers]
        if self.local is not None:
            settings, names = [self.local.settings, *settings], [HERE, *names]
        check_agreement(settings, names)
        spoken = [(name, about.language) for name, about in zip([part.name for part in self.servers], abouts, strict=True)]
        if self.local is not None:
            with self.local.reading() as view:
                spoken.insert(0, (HERE, view.words.language if len(view.words) else ""))
        told = [(name, language) for name, language in spoken if language]
        other = next((pair for pair in told if pair[1] != told[0][1]), None)
        if other is not None:
            raise WrongInput(
                f"words are stemmed as {told[0][1]} in {told[0][0]}, as {other[1]} in {other[0]}: bring one to the other's "
                "language there by `ragvec compact --language …`, which encodes nothing anew"
            )

    @contextmanager
    def reading(self) -> Iterator["TogetherView"]:
        """What lies here held still, and the servers as they were when they last said what they serve.

        One that has changed since raises Changed when it is asked: begin again.
        """
        with self.local.reading() if self.local is not None else nullcontext() as view:
            yield TogetherView(self, None if view is None else LocalPart(view, HERE))

    def everywhere(self, ask: Callable[..., Answer], *rows: Sequence[Any]) -> list[Answer]:
        """What `ask` returns for each row, all at once."""
        if len(rows[0]) == 1:
            return list(map(ask, *rows))
        return list(self._threads.map(ask, *rows))

    def abouts(self, *, newly: bool = False) -> list[About]:
        """What the servers say of themselves; newly: now. Raises WrongInput where one has changed and fits no more."""
        abouts = self.everywhere(lambda part: part.about(newly=newly), self.servers)
        if abouts != self._agreed:
            self._check(abouts)
            self._agreed = abouts
        return abouts

    def near(self, view: "TogetherView") -> float | None:
        """From which similarity on a passage is near a query, measured once for a state, as in one index of all passages."""
        states = tuple(view.states)
        if states not in self._near:
            measured = view.measured_near()
            self._near.clear()
            self._near[states] = measured
        return self._near[states]

    def describe(self) -> dict[str, Any]:
        """What all of this is together, and each part under `indices`; JSON values only."""
        told = [(part.name, asdict(about)) for part, about in zip(self.servers, self.abouts(newly=True), strict=True)]
        if self.local is not None:
            told.insert(0, (HERE, self.local.describe()))
        settings = self.settings
        return {
            "path": ", ".join(name for name, _ in told),
            **{name: sum(one[name] for _, one in told) for name in _SUMS},
            "dimension": settings.dimension,
            "encoder": settings.encoder_source,
            "fingerprint": settings.fingerprint,
            "query_instruction": settings.query_instruction,
            "document_instruction": settings.document_instruction,
            "normalized": settings.normalized,
            "language": settings.language,
            "segments": [],
            "indices": [{"name": name, **{count: one[count] for count in _SUMS[:2]}} for name, one in told],
        }

    def close(self) -> None:
        """Close the connections, and what lies here."""
        self._let_go()
        if self.local is not None:
            self.local.close()

    def _let_go(self) -> None:
        self._threads.shutdown()
        for part in self.servers:
            part.close()

    def __len__(self) -> int:
        """The number of passages in all parts, asked for now. Raises ServerFailed for one that does not answer."""
        here = 0 if self.local is None else len(self.local)
        return here + sum(about.passages for about in self.abouts(newly=True))

    def __enter__(self) -> "Together":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class TogetherView:
    """All parts in one state each; has what a `View` has for a Retriever. What is allowed is said, not looked up, here."""

    def __init__(self, together: Together, here: LocalPart | None) -> None:
        self._together = together
        self._here = here
        self._parts: list[Part] = [*together.servers] if here is None else [here, *together.servers]
        self._abouts = together.abouts()
        self._counts: dict[tuple[str, bool], Counts] = {}
        self._names: dict[int, str | None] = {}

    @property
    def states(self) -> list[str]:
        """What changes with every commit anywhere."""
        here = [] if self._here is None else [self._here.state]
        return here + [about.state for about in self._abouts]

    @property
    def near(self) -> float | None:
        """From which similarity on a passage is near a query; None = not known."""
        return self._together.near(self)

    def search(self, vectors: np.ndarray, k: int, *, allowed: Allowed | None = None) -> SearchResult:
        """The k passages of all parts whose vectors have the highest inner product with each query vector."""
        queries = np.ascontiguousarray(vectors, dtype=np.float32)
        dimension = self._together.settings.dimension
        if queries.ndim != 2 or queries.shape[1] != dimension or not np.isfinite(queries).all():
            raise WrongInput(f"the index holds {dimension}-d vectors, the queries have {queries.shape}, or are not finite")
        found = self._each(lambda part: part.near(queries, k, allowed=allowed))
        numbered = [
            SearchResult(np.where(ids < 0, np.float32(-np.inf), scores), np.where(ids < 0, -1, ids + place * STEP))
            for place, (scores, ids) in enumerate(found)
        ]
        return keep_best(SearchResult(*map(np.hstack, zip(*numbered, strict=True))), k)

    def search_lexical(self, query: str, k: int, *, allowed: Allowed | None = None, syntax: bool = False) -> Ranking:
        """The k best (passage id, BM25 score) for a query's words, weighed by the words of all parts."""
        counts = self._counted(query, syntax=syntax)
        found = self._each(lambda part: part.lexical(query, k, counts, syntax=syntax, allowed=allowed))
        hits = [(number + place * STEP, score) for place, ranking in enumerate(found) for number, score in ranking]
        return sorted(hits, key=lambda hit: (-hit[1], hit[0]))[:k]

    def words_weight(self, query: str, *, syntax: bool = False) -> float:
        """The BM25 of a passage of average length that holds each of the query's words once."""
        counts, language = self._counted(query, syntax=syntax), self._language
        return weight(read(query, language, syntax=syntax), language, counts.frequency, counts.passages)

    def limited(self, query: str) -> str | None:
        """The query, if it says what must or must not be there."""
        return query if read_query(query, syntax=True).limits else None

    def within(self, limited: str, allowed: Allowed | None) -> Allowed:
        """What is allowed and left by a query."""
        return (allowed or Allowed())._replace(within=limited)

    def similarities(self, vector: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """The inner products of a query's vector with the stored vectors of these passages; (n,) float32."""
        products = np.zeros(len(ids), dtype=np.float32)
        for rows, found in self._of_parts(ids, lambda part, mine: part.similarities(vector, np.array(mine, np.int64))):
            products[rows] = found
        return products

    def vectors(self, ids: Sequence[int]) -> np.ndarray:
        """The stored vectors of these passages, (n, dimension) float32, in their order."""
        vectors = np.zeros((len(ids), self._together.settings.dimension), dtype=np.float32)
        for rows, found in self._of_parts(ids, lambda part, mine: part.vectors(mine)):
            vectors[rows] = found
        return vectors

    def matching(self, where: str, values: FilterValues | None = None) -> Allowed:
        """The filter, which each part answers itself; raises as `View.matching`."""
        self.check_where(where, values)
        return Allowed(where, values, tuple(self.fields()))

    def check_where(self, where: str, values: FilterValues | None = None) -> Filter:
        """The filter, parsed; a field counts if any part has it."""
        return parse_where(where, self.fields(), values)

    def fields(self) -> list[str]:
        """The names of the metadata fields that a filter may use."""
        here = [] if self._here is None else self._here.fields()
        return sorted({*here, *(name for about in self._abouts for name in about.fields)})

    def passages(self, ids: Sequence[int]) -> list[Passage]:
        """The passages of these ids, in their order."""
        passages: dict[int, Passage] = {}
        for rows, found in self._of_parts(ids, lambda part, mine: part.passages(mine)):
            for row, one in zip(rows, found, strict=True):
                passages[row], self._names[ids[row]] = one
        return [passages[row] for row in range(len(ids))]

    def doc_ids(self, ids: Sequence[int]) -> list[str]:
        """The documents that these passages belong to, in their order."""
        doc_ids: dict[int, str] = {}
        for rows, found in self._of_parts(ids, lambda part, mine: part.doc_ids(mine)):
            doc_ids |= zip(rows, found, strict=True)
        return [doc_ids[row] for row in range(len(ids))]

    def index_names(self, ids: Sequence[int]) -> list[str | None]:
        """The server that each of these passages is from, or the folder's name; what of a server's, where it has several."""
        if missing := [number for number in ids if number not in self._names]:
            self.passages(missing)
        return [self._named(number // STEP, self._names[number]) for number in ids]

    def document(self, doc_id: str) -> list[Passage]:
        """A document's passages in their order, from the first part that has it; none if there is no such document."""
        return next((found for found in self._each(lambda part: part.document(doc_id)) if found), [])

    def measured_near(self) -> float | None:
        """As `ragvec.index.nearness.measure_near` for all parts."""
        counts = [about.vectors for about in self._abouts]
        if self._here is not None:
            counts.insert(0, self._here.vector_count())
        total = sum(counts)
        if total < FEWEST:
            return None
        places = sample_places(total, self._together.settings.dimension)
        borders = np.cumsum([0, *counts])
        mine = [places[(places >= start) & (places < end)] - start for start, end in zip(borders, borders[1:], strict=False)]
        sample = np.concatenate(self._together.everywhere(lambda part, here: part.sample(here), self._parts, mine))
        return near_between(sample, self.search(sample, 2).scores[:, 1])

    def _named(self, place: int, index: str | None) -> str | None:
        part = self._parts[place]
        if isinstance(part, LocalPart):
            local = self._together.local
            return index or (local.path.absolute().name if isinstance(local, Index) else None)
        if len(self._parts) == 1:
            return index
        return part.name if index is None else f"{part.name} {index}"

    @property
    def _language(self) -> str:
        return next((about.language for about in self._abouts if about.language), None) or (
            self._together.settings.language or DEFAULT_LANGUAGE
        )

    def _counted(self, query: str, *, syntax: bool) -> Counts:
        if (query, syntax) not in self._counts:
            self._counts[query, syntax] = added(self._each(lambda part: part.counts(query, syntax=syntax)))
        return self._counts[query, syntax]

    def _each(self, ask: Callable[[Part], Answer]) -> list[Answer]:
        return self._together.everywhere(ask, self._parts)

    def _of_parts(
        self, ids: Sequence[int] | np.ndarray, ask: Callable[[Part, list[int]], Answer]
    ) -> Iterator[tuple[list[int], Answer]]:
        """What the parts that have these passages answer, and the rows that each answer is of."""
        numbers = np.array(ids, dtype=np.int64)
        places = numbers // STEP
        rows = [np.flatnonzero(places == place).tolist() for place in range(len(self._parts))]
        asked = [(part, mine, (numbers[mine] % STEP).tolist()) for part, mine in zip(self._parts, rows, strict=True) if mine]
        if asked:
            parts, kept, theirs = zip(*asked, strict=True)
            yield from zip(kept, self._together.everywhere(ask, parts, theirs), strict=True)
