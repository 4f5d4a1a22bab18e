"""The index: a folder that holds passages and their vectors, and finds them again."""

import sqlite3
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ragvec.arguments import local_folder, strings
from ragvec.artefacts import DATABASE_NAME
from ragvec.errors import Busy, Damaged, NotFound, RagvecError, Unavailable, WrongInput, WrongUsage
from ragvec.index import store
from ragvec.index.ann.choice import AUTO_KEY, RECALL_TARGET
from ragvec.index.ann.exact import SearchResult
from ragvec.index.changes import ChangeReport, Changes
from ragvec.index.connect import Connections, readable_errors
from ragvec.index.encoder import check_encoder, load_encoder, settings_of, settings_without_encoder
from ragvec.index.layout import ENCODING_NAME, LOCK_NAME, SEGMENTS_NAME, WORDS_NAME, WORDS_STAGING_NAME
from ragvec.index.lock import writer_lock
from ragvec.index.store import IndexSettings
from ragvec.index.view import View, open_view
from ragvec.index.wanted import check_wanted, searched_by
from ragvec.index.writer import Writer, documents_where, writing
from ragvec.notebook import described_html
from ragvec.records import Document, FilterValues, Passage

if TYPE_CHECKING:
    from ragvec.corpus.passages import CorpusOptions
    from ragvec.encoder.protocol import TextEncoder

_OWN_NAMES = {ENCODING_NAME, LOCK_NAME, SEGMENTS_NAME, WORDS_NAME, WORDS_STAGING_NAME, f"{DATABASE_NAME}.new"}
_DESCRIBED = (
    "document_instruction", "normalized", "faiss_key", "recall_target", "max_memory", "passage_tokens", "overlap", "language",
)  # fmt: skip
_TRIES = 5


class Index:
    """An index folder, open for reading by any number of threads; each change locks it for as long as the change takes."""

    has_words = True  # a Retriever searches it by words too
    _repr_html_ = described_html

    def __init__(self, path: Path, encoder: "TextEncoder | None" = None, encoder_options: dict[str, Any] | None = None) -> None:
        """`Index.open` and `Index.create` are the ways in."""
        self.path = path
        self._connections = Connections(path)
        self._close = weakref.finalize(self, self._connections.close)
        self._last: View | None = None  # whose segments the next one takes over
        self._opening = threading.Lock()
        self._encoder = encoder
        self._encoder_options = encoder_options or {}
        with self._connections.lent() as connection:
            self.settings: IndexSettings = store.read_settings(connection)
        if encoder is not None:
            check_encoder(self.settings, encoder)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        encoder: "TextEncoder | None" = None,
        device: str | None = None,
        dtype: str | None = None,
        offline: bool = False,
    ) -> "Index":
        """Open an index.

        encoder  for `add`; None = the one the index was built with, loaded when first needed, with this device and dtype
        offline  never ask the hub for that encoder, though the index names it
        Raises RagvecError if there is none, it is damaged, or it was built with another encoder.
        """
        path = local_folder("path", path)
        if not (path / DATABASE_NAME).is_file():
            raise NotFound(_no_index(path))
        return cls(path, encoder, {"device": device, "dtype": dtype, "offline": offline})

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        encoder: "TextEncoder | None" = None,
        dimension: int | None = None,
        fingerprint: str | None = None,
        faiss_key: str = AUTO_KEY,
        recall_target: float = RECALL_TARGET,
        max_memory: int | None = None,
        passage_tokens: int | None = None,
        overlap: int = 0,
        language: str | None = None,
        document_instruction: str | None = None,
        filter_fields: Sequence[str] = (),
    ) -> "Index":
        """Make an empty index for an encoder's vectors, or for vectors that are brought along.

        encoder        what makes vectors of documents and queries; None = documents bring theirs, of this dimension
        fingerprint    without an encoder: of the one that made them, with which a Retriever may then search by text
        faiss_key      how segments are searched: "auto" = as their size asks for, "exact", or a FAISS factory string such as
                       "IVF256,SQ8"
        recall_target  the recall@10 against exact search that approximate search is tuned to reach
        max_memory     bytes that a segment's index may take, for "auto"; None = no limit
        passage_tokens cut documents into passages of so many tokens at most, title included; None = a document is one passage
        overlap        tokens that a passage repeats from the one before
        language       what words are stemmed by, one of ragvec.index.words.LANGUAGES; None = what the first documents are in
        document_instruction  read before every document that is added; None = the encoder's own, which most have not
        filter_fields  metadata fields that filters ask for most: their values are kept in a table, instead of being read out of
                       every passage
        Raises RagvecError if the folder holds anything.
        """
        if encoder is not None and (dimension is not None or fingerprint is not None):
            raise WrongUsage("an encoder says itself what `dimension` and `fingerprint` its vectors have: leave these out")
        others: dict[str, Any] = {
            "faiss_key": faiss_key,
            "recall_target": recall_target,
            "max_memory": max_memory,
            "passage_tokens": passage_tokens,
            "overlap": overlap,
            "language": language,
            "document_instruction": document_instruction,
            "filter_fields": tuple(strings("filter_fields", filter_fields, "field")),
        }
        if encoder is None:
            return cls.create_with(path, settings_without_encoder(dimension, fingerprint, **others))
        settings = settings_of(encoder, **others)
        return cls.create_with(path, settings, encoder=encoder)

    @classmethod
    def create_with(cls, path: str | Path, settings: IndexSettings, *, encoder: "TextEncoder | None" = None) -> "Index":
        """Make an empty index where the encoder itself is not at hand, only what an index must know of it.

        Raises RagvecError if the folder holds anything.
        """
        path = local_folder("path", path)
        check_wanted(settings)
        if (path / DATABASE_NAME).exists():
            raise WrongInput(f"there is an index in {path} already: open it, or choose another folder")
        check_new_folder(path)
        _make_folder(path)
        with readable_errors(path), writer_lock(path):
            if (path / DATABASE_NAME).exists():
                raise Busy(f"another process has just made an index in {path}: try again")
            store.create_store(path, settings)
        return cls(path, encoder)

    def add(
        self, documents: "Iterable[Document | Mapping[str, Any]]", *, vectors: np.ndarray | None = None, sync: bool = False
    ) -> ChangeReport:
        """Add documents in one commit; one whose doc_id is present is replaced, and unchanged text is not encoded again.

        They are cut into passages as the index's settings say, unless they bring their vectors. One that replaces a document
        of a corpus stays that corpus'.
        documents  any iterable, of dicts too, which are read as rows of JSONL: {"id": "1", "text": "…", "title": "…"}, what
                 else they hold is metadata
        vectors  (n, dimension) numbers, a row for each document, instead of the encoder's; as good is a `vector` in each of
                 them. They become of length 1 if the index's are; a document is replaced if its vector alone is another
        sync  also remove every document that was added by hand (here or over HTTP) and is not among these; those that
              `ragvec index` brought in from a corpus stay
        """
        from ragvec.corpus.passages import CorpusOptions, passages_of
        from ragvec.index.given import given_documents
        from ragvec.index.own_vectors import with_vectors, without_vectors

        given = given_documents(documents)
        stream = given if vectors is None else with_vectors(given, vectors)
        first = next(stream, None)
        given = stream if first is None else chain([first], stream)
        if first is not None and first.vector is not None:
            return self._add_with_vectors(given, sync)
        with self._connections.lent() as connection:
            settings = store.read_settings(connection)  # another process may have changed how documents are cut
        options = CorpusOptions(passage_tokens=settings.passage_tokens, overlap=settings.overlap)
        cutting = self.encoder if options.passage_tokens else None
        passages = passages_of(without_vectors(given), options, cutting, settings.document_instruction)
        return self.add_passages(passages, sync=sync)

    def add_passages(self, passages: Iterable[Passage], *, sync: bool = False) -> ChangeReport:
        """Add passages in one commit, as `add` adds documents: those of one come one after another, and all in one call."""
        from ragvec.index.given import given_passages

        with self.writing() as writer:
            changes = Changes(writer.connection, sync=sync)
            fresh = list(changes.fresh(given_passages(passages)))
            vectors = self.encode(fresh)
            writer.commit([(fresh, vectors)] if fresh else [], changes)
        return changes.report()

    def add_folder(
        self,
        folder: str | Path,
        *,
        reading: "CorpusOptions | None" = None,
        id_prefix: str | None = None,
        sync: bool = False,
        on_unread: Any = None,
    ) -> ChangeReport:
        """Add the documents of a folder's files, or of a file, in one commit, as `ragvec index` does; see `add_corpus`."""
        from ragvec.index.corpora import add_corpus

        return add_corpus(self, folder, reading, id_prefix=id_prefix, sync=sync, on_unread=on_unread)

    def delete(self, doc_ids: Iterable[str]) -> int:
        """Remove documents in one commit; returns how many of them were there."""
        doc_ids = strings("doc_ids", doc_ids, "doc_id")
        with self.writing() as writer:
            return writer.delete(doc_ids)

    def delete_where(self, where: str, values: FilterValues | None = None) -> int:
        """Remove, in one commit, the documents of all passages that meet a filter; returns how many.

        values  what each $name in the filter stands for
        Raises RagvecError, with the column, for a syntax error and for a field that no passage has.
        """
        with self.writing() as writer:
            return writer.delete(writer.documents_where(where, values))

    def documents_where(self, where: str, values: FilterValues | None = None) -> list[str]:
        """The ids of the documents that `delete_where` would remove, in order; raises as it does."""
        with self.reading() as view:
            return documents_where(view.connection, where, values)

    def documents_named(self, doc_ids: Iterable[str]) -> list[str]:
        """Those of these ids that documents have."""
        doc_ids = strings("doc_ids", doc_ids, "doc_id")
        with self.reading() as view:
            there = dict.fromkeys(store.spelled(view.connection, doc_id) for doc_id in doc_ids)
            return [doc_id for doc_id in there if store.ids_of(view.connection, doc_id)]

    def compact(self, **search: Any) -> None:
        """Merge all segments into one and give the space of deleted passages back.

        search  change how the index is searched, from now on: faiss_key, recall_target, max_memory, filter_fields, language, as
                `create` explains them. Nothing is encoded anew.
        """
        searched_by(self.settings, search)
        with self.writing() as writer:
            settings = searched_by(writer.settings, search)  # another process may have changed the others
            writer.compact(settings)
        self.settings = settings

    def search(self, vectors: np.ndarray, k: int, *, allowed: np.ndarray | None = None) -> SearchResult:
        """The k passages nearest to each query vector; see `View.search`. For text, use a Retriever."""
        with self._connections.lent() as connection:
            view = self._last
            if view is None or store.read_generation(connection) != view.generation:
                view = self._begin(connection)
            return view.search(vectors, k, allowed=allowed)  # which needs no connection

    def passages(self, ids: Sequence[int]) -> list[Passage]:
        """The passages that `search` found, in the order of the ids. Raises NotFound for an id that none has."""
        with self.reading() as view:
            return view.passages(view.known(ids))

    @contextmanager
    def reading(self) -> Iterator[View]:
        """The last commit, held still: what happens inside sees no later one."""
        with self._connections.lent() as connection:
            yield self._begin(connection)

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """The writer, alone. Raises RagvecError, naming the holder, if another one lives."""
        with writing(self.path) as writer:
            try:
                yield writer
            finally:
                self._connections.close()  # the database returns to a plain file only when nobody else has it open

    @cached_property
    def encoder(self) -> "TextEncoder":
        """The encoder the index was built with."""
        return load_encoder(self.settings, **self._encoder_options) if self._encoder is None else self._encoder

    def describe(self) -> dict[str, Any]:
        """What this index is, for people and logs; JSON values only."""
        with self._connections.lent() as connection:
            connection.execute("BEGIN")
            settings, segments = store.read_settings(connection), store.read_segments(connection)
            passages, documents = store.count(connection), store.count(connection, "DISTINCT doc_id")
            deleted = len(store.read_tombstones(connection))
        return {
            "path": str(self.path),
            "documents": documents,
            "passages": passages,
            "deleted_rows": deleted,
            "dimension": settings.dimension,
            "encoder": settings.encoder_source,
            "fingerprint": settings.fingerprint,
            "query_instruction": settings.query_instruction,
            **{name: getattr(settings, name) for name in _DESCRIBED},
            "filter_fields": list(settings.filter_fields),
            "segments": [
                {
                    "number": r.number,
                    "rows": r.rows,
                    "faiss_key": r.faiss_key,
                    "recall@10": r.recall,
                    "search_parameters": r.search_parameters,
                    "created": r.created,
                }
                for r in segments
            ],
            "bytes": sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file()),
        }

    def sources(self) -> list[dict[str, Any]]:
        """Where the documents came from: `source`, by its path or name, and `documents`, how many; JSON values only."""
        with self._connections.lent() as connection:
            return store.count_by_source(connection)

    def close(self) -> None:
        """Close the index's connections."""
        self._close()

    def __len__(self) -> int:
        """The number of passages."""
        with self.reading() as view:
            return len(view)

    def __repr__(self) -> str:
        try:
            held = f"{len(self):,} passages"
        except RagvecError:
            held = "can't be read now"
        return f"<Index {str(self.path)!r}: {held}, {self.settings.dimension}-d, encoder {self.settings.encoder_source}>"

    def __reduce__(self) -> "tuple[partial[Index], tuple[()]]":
        """Pickled for another process, which opens the folder, and loads an encoder that was not given, for itself."""
        return partial(Index.open, self.path.absolute(), encoder=self._encoder, **self._encoder_options), ()

    def __enter__(self) -> "Index":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _add_with_vectors(self, documents: Iterable[Document], sync: bool) -> ChangeReport:
        from ragvec.index.own_vectors import fresh_with_vectors, own_blocks

        with self.writing() as writer:
            changes = Changes(writer.connection, sync=sync)
            blocks = own_blocks(documents, writer.settings)
            writer.commit(fresh_with_vectors([blocks], changes, writer), changes, own_vectors=True)
        return changes.report()

    def encode(self, passages: Sequence[Passage]) -> np.ndarray:
        """Vectors (n, dimension) float32 of passages, by the index's encoder and with its instruction for documents."""
        if not passages:
            return np.empty((0, self.settings.dimension), dtype=np.float32)
        texts = [passage.encoded_text for passage in passages]
        instruction, normalize = self.settings.document_instruction, self.settings.normalized
        return self.encoder.encode_documents(texts, instruction=instruction, normalize=normalize)

    def _begin(self, connection: sqlite3.Connection) -> View:
        """A transaction on the newest commit."""
        for _ in range(_TRIES):
            connection.execute("BEGIN")
            try:
                with self._opening:
                    self._last = open_view(connection, self.path, self.settings.dimension, self._last)
                    return self._last
            except FileNotFoundError as error:  # merged away after this transaction began: a newer commit is there to read
                connection.execute("ROLLBACK")
                missing = error.filename
        what = f"index {self.path} is damaged, {missing} is missing"
        raise Damaged(f"{what}: restore it, or remove the folder and build it again")


def _no_index(path: Path) -> str:
    if path.is_file():
        return f"{path} is a file, and an index is a folder: name one, or make one with `ragvec index CORPUS -o FOLDER`"
    command = "`ragvec index CORPUS`" if str(path) == "ragvec-index" else f"`ragvec index CORPUS -o {path}`"
    if (path / ENCODING_NAME).is_dir():
        return f"no index in {path} yet, its build was interrupted: finish it with {command}"
    return f"no index in {path}: make one with {command}"


def check_new_folder(path: Path) -> None:
    """Raises RagvecError if no new index can be made there: something else is."""
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not there.is_dir():
        raise WrongInput(f"can't make the folder {path}: {there} is a file")
    foreign = sorted(entry.name for entry in path.iterdir() if entry.name not in _OWN_NAMES) if there == path else []
    if foreign:
        raise WrongInput(f"{path} holds other files ({foreign[0]} …) and no index: choose another folder")


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"can't make the folder {path}: {error.strerror}") from error
