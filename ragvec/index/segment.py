"""Segments: immutable folders that hold vectors, the ids of their passages and, if asked for, a FAISS index over them.

segments/0001/vectors.f16    (rows, dimension) float16, raw, row by row
segments/0001/ids.i64        (rows,) int64, raw, ascending: the id in index.sqlite of each row's passage
segments/0001/index.faiss    only where exact search would be slower
"""

import hashlib
import mmap
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ragvec.errors import Damaged, WrongInput, last_line
from ragvec.files import fsync_folder, is_own_file, is_own_folder, settle_file, sha256_file
from ragvec.index.ann.choice import EXACT_KEY
from ragvec.index.ann.exact import RowFilter, SearchResult, search_exact
from ragvec.index.layout import FAISS_NAME, IDS_NAME, VECTORS_NAME, remove_segment, segment_folder
from ragvec.index.store import IndexSettings, SegmentRecord

if TYPE_CHECKING:
    from ragvec.index.ann.approximate import ApproximateIndex

_REMEDY = "restore it, or run `ragvec compact --index-key exact` and then `ragvec compact --index-key auto`, which make it anew"
WORKERS = 2  # threads that convert, write and check rows
BLOCK_VALUES = 2**21  # of vectors that one of them converts at a time: small enough for memory to be used again
INFINITY, MINUS_INFINITY = 0x7C00, 0xFC00  # as float16, whose bits, read as a number, are higher for NaN alone


class SegmentWriter:
    """Writes a new segment's files; `finish` puts them on disk and returns the row that makes it part of the index."""

    def __init__(self, index_folder: Path, number: int, dimension: int) -> None:
        self.folder = segment_folder(index_folder, number)
        self.number = number
        self.dimension = dimension
        self.rows = 0
        remove_segment(self.folder)  # left by a writer that died before its commit
        try:
            self.folder.mkdir(parents=True)
        except FileExistsError as error:
            raise Damaged(f"{self.folder} holds what ragvec did not write there: move it away") from error
        self._aside = ThreadPoolExecutor(WORKERS, "ragvec-segment")
        self._pending: list[Future[None]] = []
        self._digests = {VECTORS_NAME: hashlib.sha256(), IDS_NAME: hashlib.sha256()}
        self._files = {name: open(self.folder / name, "wb") for name in self._digests}  # noqa: SIM115 - closed by finish or discard

    def append(self, vectors: np.ndarray, ids: np.ndarray) -> None:
        """Add rows.

        vectors  (n, dimension) float; stored as float16
        ids      (n,) int64, ascending, above all earlier ones
        Raises RagvecError for another dimension and for values that are not finite as float16.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.dimension:
            raise WrongInput(f"the index holds {self.dimension}-d vectors, these have shape {vectors.shape}")
        rows = max(1, BLOCK_VALUES // self.dimension) * WORKERS
        for start in range(0, len(vectors), rows):
            self._append_blocks(np.array_split(vectors[start : start + rows], WORKERS), ids[start : start + rows])

    def _append_blocks(self, blocks: list[np.ndarray], ids: np.ndarray) -> None:
        parts: dict[str, list[np.ndarray]] = {VECTORS_NAME: [], IDS_NAME: [np.array(ids, dtype=np.int64)]}
        for converted, finite in self._aside.map(_to_float16, blocks):
            if not finite:
                row = self.rows + int(np.flatnonzero(~np.isfinite(converted).all(axis=1))[0])
                raise WrongInput(f"vector {row} holds NaN, infinity or a value beyond float16: encode it again")
            parts[VECTORS_NAME].append(converted.ravel())
            self.rows += len(converted)
        self._wait()
        written: dict[str, Callable[[Any], object]] = {name: file.write for name, file in self._files.items()}
        digested: dict[str, Callable[[Any], object]] = {name: digest.update for name, digest in self._digests.items()}
        self._pending = [self._aside.submit(_hand_over, parts, takers) for takers in (written, digested)]

    def finish(self, settings: IndexSettings) -> SegmentRecord:
        """Build the FAISS index if one is worth it, put every file on disk, and describe the segment."""
        self._close_files()
        described = {name: self._aside.submit(self._describe, name) for name in self._digests}  # the disk works meanwhile
        key, parameters, recall = EXACT_KEY, "", None
        if settings.faiss_key != EXACT_KEY and self.rows:
            from ragvec.index.ann.approximate import build_faiss

            vectors = map_vectors(self.folder, self.rows, self.dimension)
            key, parameters, recall = build_faiss(
                settings.faiss_key,
                vectors,
                self.folder / FAISS_NAME,
                recall=settings.recall_target,
                max_memory=settings.max_memory,
                normalized=settings.normalized,
            )
            if key != EXACT_KEY:
                described[FAISS_NAME] = self._aside.submit(self._describe, FAISS_NAME)
        files = {name: file.result() for name, file in described.items()}
        self._aside.shutdown()
        for folder in (self.folder, self.folder.parent, self.folder.parent.parent):
            fsync_folder(folder)
        return SegmentRecord(
            number=self.number,
            rows=self.rows,
            faiss_key=key,
            search_parameters=parameters,
            recall=recall,
            files=files,
            created=_now(),
        )

    def discard(self) -> None:
        """Remove what was written."""
        with suppress(OSError):
            self.close()
        with suppress(OSError, Damaged):
            remove_segment(self.folder)

    def _wait(self) -> None:
        """Raises OSError if the rows before could not be written."""
        for work in self._pending:
            work.result()

    def _describe(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        settle_file(path)
        digest = self._digests.get(name)
        return {"bytes": path.stat().st_size, "sha256": digest.hexdigest() if digest else sha256_file(path)}

    def close(self) -> None:
        """Write no more; what was written stays."""
        self._aside.shutdown()
        self._close_files()

    def _close_files(self) -> None:
        """Raises OSError if rows could not be written."""
        try:
            self._wait()
        finally:
            for file in self._files.values():
                file.close()


class Segment:
    """An open segment: its files mapped into memory, read only when a search touches them."""

    def __init__(self, index_folder: Path, record: SegmentRecord, dimension: int) -> None:
        self.record = record
        self.folder = segment_folder(index_folder, record.number)
        for place in (self.folder.parent, self.folder):
            is_own_folder(place)
        for name, file in record.files.items():
            is_own_file(self.folder / name)
            size = (self.folder / name).stat().st_size
            if size != file["bytes"]:
                raise Damaged(f"{self.folder / name} is damaged: {size} bytes, not {file['bytes']}; build the index again")
        self.vectors = map_vectors(self.folder, record.rows, dimension)
        # its bytes, mapped at once: they can be read after another process has merged the segment away
        self._faiss_file = _mapped(self.folder / FAISS_NAME) if record.faiss_key != EXACT_KEY else None
        self._last_allowed: tuple[np.ndarray | None, np.ndarray | None, RowFilter] | None = None
        self.ids = np.asarray(np.memmap(self.folder / IDS_NAME, dtype=np.int64, mode="r", shape=(record.rows,)))

    @cached_property
    def approximate(self) -> "ApproximateIndex":
        """The FAISS index, read on first use, once its bytes are known to be those that were written.

        Of 1,600 damaged files FAISS 1.15 refused 30 %, searched the others with whatever they held, and once did not end.
        """
        from ragvec.index.ann.approximate import ApproximateIndex

        path = self.folder / FAISS_NAME
        assert self._faiss_file is not None, "searched exactly"
        if hashlib.sha256(self._faiss_file).hexdigest() != self.record.files[FAISS_NAME]["sha256"]:
            raise Damaged(f"{path} is damaged, its checksum is another: {_REMEDY}")
        with self._readable():
            return ApproximateIndex(self._faiss_file, self.record.search_parameters, self.vectors)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """Turn FAISS's errors into one line that says which file."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            raise Damaged(f"{self.folder / FAISS_NAME} can't be searched ({last_line(error)}): {_REMEDY}") from error

    def allowed(self, live: np.ndarray | None, ids: np.ndarray | None) -> RowFilter | None:
        """The rows that may be found, None = all: those that live, and of them those with these ids.

        live  (rows,) bool, None = all; ids (m,) int64, None = any
        """
        if live is None and ids is None:
            return None
        last = self._last_allowed
        if last is not None and last[0] is live and last[1] is ids:  # as long as a commit and a filter last
            return last[2]
        mask = live
        if ids is not None:
            named = np.zeros(self.record.rows, dtype=bool)
            named[self.rows_of(ids)] = True
            mask = named if live is None else named & live
        assert mask is not None  # one of the two was there
        allowed = RowFilter(mask)
        self._last_allowed = (live, ids, allowed)
        return allowed

    def rows_of(self, ids: np.ndarray) -> np.ndarray:
        """The rows of those ids that are in this segment; (m,) int64."""
        rows, here = self.locate(ids)
        mine: np.ndarray = rows[here]
        return mine

    def locate(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each id its row, (m,) int64, and whether it is in this segment at all, (m,) bool."""
        rows = np.searchsorted(self.ids, ids)
        rows[rows == len(self.ids)] = 0
        return rows, self.ids[rows] == ids

    def search(self, queries: np.ndarray, k: int, allowed: RowFilter | None) -> SearchResult:
        """The best rows for each query.

        queries  (n, dimension) float32
        allowed  the rows that may be found; None = all
        returns  scores and the numbers of rows, -1 for none; m is at least min(k, rows that may be found).
                 Scores are inner products with the exact vectors, the same to the bit whichever the other queries and filters
        """
        if self.record.faiss_key != EXACT_KEY:
            with self._readable():
                return self.approximate.search(queries, k, allowed)
        rows = search_exact(self.vectors, queries, k, allowed).ids
        scores = np.empty(rows.shape, dtype=np.float32)
        for number, query in enumerate(queries):
            scores[number] = self.similarities(query, rows[number])
        return SearchResult(scores, rows)

    def similarities(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The inner products of a query (dimension,) float32 with these rows' vectors, as `search` gives them; (n,) float32."""
        if self.record.faiss_key != EXACT_KEY:
            with self._readable():
                return self.approximate.similarities(query, rows)
        products: np.ndarray = np.einsum("nd,d->n", self.vectors[rows].astype(np.float32), query)
        return products


def live_rows(segment: Segment, dead: np.ndarray) -> np.ndarray | None:
    """Which of its rows live, (rows,) bool, None = all; dead: ids (m,) int64."""
    rows = segment.rows_of(dead)
    if not len(rows):
        return None
    mask = np.ones(segment.record.rows, dtype=bool)
    mask[rows] = False
    return mask


def _hand_over(parts: dict[str, list[np.ndarray]], takers: dict[str, Callable[[Any], object]]) -> None:
    for name, arrays in parts.items():
        for values in arrays:
            takers[name](values)


def _to_float16(vectors: np.ndarray) -> tuple[np.ndarray, bool]:
    """A copy as float16, whatever the caller does with its own, and whether all its values are finite."""
    with np.errstate(over="ignore"):
        converted = np.array(vectors, dtype=np.float16, order="C")
    most_positive, most_negative = converted.view(np.int16).max(initial=0), converted.view(np.uint16).max(initial=0)
    return converted, bool(most_positive < INFINITY and most_negative < MINUS_INFINITY)  # 8 times as fast as np.isfinite


def map_vectors(folder: Path, rows: int, dimension: int) -> np.ndarray:
    """A segment's vectors, (rows, dimension) float16, mapped and not read."""
    mapped = np.memmap(folder / VECTORS_NAME, dtype=np.float16, mode="r", shape=(rows, dimension))
    return np.asarray(mapped)  # a memmap takes longer to hand out rows


def _mapped(path: Path) -> mmap.mmap:
    """A file's bytes, even if it is removed later."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
