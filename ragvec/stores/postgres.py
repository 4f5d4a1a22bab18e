"""A collection in PostgreSQL with pgvector: one table, whose comment says which encoder made its vectors."""

import json
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import numpy as np
import psycopg
from psycopg import sql

from ragvec.errors import RagvecError, Unavailable, WrongInput, first_line
from ragvec.index.ann.exact import SearchResult
from ragvec.index.conditions import Filter
from ragvec.records import Passage
from ragvec.stores.postgres_filters import where_sql
from ragvec.stores.store import Collection, Row
from ragvec.stores.values import values_of

if TYPE_CHECKING:
    from typing_extensions import LiteralString

MARK = "ragvec "  # how the comment of a table of ours begins
MOST_INDEXED = 4000  # dimensions that pgvector indexes at half precision
LEAST_LOOK, MOST_LOOK = 100, 1000  # what hnsw.ef_search may be here; pgvector allows no more
MOST_IDLE = 8  # connections that are kept
CONNECT_S = 10
_COLUMNS = "passage_id, doc_id, title, text, metadata, filter_values, embedding"
_CREATE = """
CREATE TABLE {table} (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, passage_id text NOT NULL UNIQUE, doc_id text NOT NULL,
    title text NOT NULL, text text NOT NULL, metadata text NOT NULL, filter_values jsonb NOT NULL,
    embedding halfvec({dimension})
)"""
# Documents whose passages are not, in their order, those that come; keep: but none of which no passage comes.
_REMOVE_CHANGED = """
DELETE FROM {table} WHERE doc_id IN (
    SELECT had.doc_id
    FROM (SELECT doc_id, array_agg(md5(ROW({columns})::text) ORDER BY id) AS rows FROM {table} GROUP BY doc_id) AS had
    LEFT JOIN (
        SELECT doc_id, array_agg(md5(ROW({columns})::text) ORDER BY place) AS rows FROM pg_temp.ragvec_incoming GROUP BY doc_id
    ) AS come USING (doc_id)
    WHERE come.rows IS DISTINCT FROM had.rows AND NOT ({keep} AND come.rows IS NULL)
)"""


class Address(NamedTuple):
    """Where a table is. conninfo: what opens the database, credentials included; name: what it is called in messages."""

    conninfo: str
    table: sql.Identifier
    name: str


def read_address(address: str) -> Address:
    """postgresql://user@host:port/database/table, or …/schema.table; options follow a question mark, as libpq takes them.

    Raises WrongInput, which repeats nothing of the address: it may hold a password.
    """
    try:
        parts = urlsplit(address)
        shown = f"{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}"
        database, _, table = parts.path.strip("/").partition("/")
        names = table.split(".")
        if not database or not all(names) or len(names) > 2 or "/" in table:
            raise ValueError
        conninfo = urlunsplit(("postgresql", parts.netloc, f"/{database}", parts.query, ""))
        psycopg.conninfo.conninfo_to_dict(conninfo)
    except (ValueError, psycopg.Error):
        raise WrongInput(
            "this is no address of a table in PostgreSQL: write it like postgresql://user@host:5432/database/table"
        ) from None
    return Address(conninfo, sql.Identifier(*names), f"postgresql://{shown}/{database}/{table}")


class PostgresStore:
    """A `Store` in PostgreSQL."""

    def __init__(self, address: str) -> None:
        """Nothing is asked of the database yet. Raises WrongInput for an address that is none."""
        self._address = read_address(address)
        self.name = self._address.name
        self._idle: list[psycopg.Connection[Any]] = []
        self._lock = threading.Lock()
        self._close = weakref.finalize(self, _close_all, self._idle)

    def collection(self) -> Collection | None:
        """What the table's comment says; None = there is no such table. Raises WrongInput for a table that is not ragvec's."""
        with self._transaction() as connection:
            return self._collection(connection)

    def load(self, collection: Collection, blocks: Iterable[tuple[list[Passage], np.ndarray]], *, keep: bool) -> int:
        """Load documents in one transaction, by COPY; a new table gets its indices at the end, when they are built fastest.

        Of a table that is there, documents that are as they were are not touched.
        """
        with self._transaction() as connection:
            is_new = self._collection(connection) is None
            if is_new:
                self._create(connection, collection)
            loaded = self._bring_in(connection, blocks, keep=keep)
            if is_new:
                self._build_indices(connection, collection)
            return loaded

    def upsert(self, passages: Sequence[Passage], vectors: np.ndarray) -> int:
        """Bring documents in, in place of those of their ids."""
        with self._transaction() as connection:
            return self._bring_in(connection, [(list(passages), vectors)], keep=True)

    def delete(self, doc_ids: Sequence[str]) -> int:
        """Remove documents; returns how many passages went."""
        with self._transaction() as connection:
            statement = self._sql("DELETE FROM {table} WHERE doc_id = ANY(%s)")
            return int(connection.execute(statement, [list(doc_ids)]).rowcount)

    def describe_anew(self, collection: Collection) -> None:
        """Keep this as the table's comment."""
        with self._transaction() as connection:
            self._describe(connection, collection)
        with self._transaction(autocommit=True) as connection:
            connection.execute(self._sql("ANALYZE {table}"))

    @contextmanager
    def reading(self) -> Iterator["PostgresReader"]:
        """One snapshot of the database."""
        with self._transaction() as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield PostgresReader(connection, self._address.table)

    def close(self) -> None:
        """Close the connections that nobody uses."""
        with self._lock:
            _close_all(self._idle)

    @contextmanager
    def _transaction(self, *, autocommit: bool = False) -> Iterator["psycopg.Connection[Any]"]:
        """A connection of one's own and, unless it is to commit by itself, a transaction; the database's errors in one line."""
        try:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None or connection.closed:
                connection = psycopg.connect(self._address.conninfo, connect_timeout=CONNECT_S, autocommit=True)
            try:
                if autocommit:
                    yield connection
                else:
                    with connection.transaction():
                        yield connection
            except BaseException:
                connection.close()
                raise
            with self._lock:
                kept = len(self._idle) < MOST_IDLE
                if kept:
                    self._idle.append(connection)
            if not kept:
                connection.close()
        except (psycopg.DataError, psycopg.ProgrammingError, UnicodeError) as error:
            raise WrongInput(f"{self.name}: {self._said(error)}") from None
        except psycopg.Error as error:
            raise Unavailable(f"{self.name} can't be reached or used: {self._said(error)}") from None

    def _said(self, error: Exception) -> str:
        """What the database says, without the password, should it be in there."""
        password = psycopg.conninfo.conninfo_to_dict(self._address.conninfo).get("password")
        said = first_line(error)
        return said.replace(str(password), "…") if password else said

    def _sql(self, text: "LiteralString", **parts: sql.Composable) -> sql.Composed:
        return sql.SQL(text).format(table=self._address.table, **parts)

    def _collection(self, connection: "psycopg.Connection[Any]") -> Collection | None:
        named = self._address.table.as_string(connection)
        [(there,)] = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [named]).fetchall()
        if not there:
            return None
        [(comment,)] = connection.execute("SELECT obj_description(to_regclass(%s), 'pg_class')", [named]).fetchall()
        if not (comment or "").startswith(MARK):
            raise WrongInput(f"the table {self.name} is not one that ragvec has made: name another")
        return Collection.read(comment.removeprefix(MARK), self.name)

    def _describe(self, connection: "psycopg.Connection[Any]", collection: Collection) -> None:
        comment = sql.Literal(MARK + collection.written())
        connection.execute(self._sql("COMMENT ON TABLE {table} IS {comment}", comment=comment))

    def _create(self, connection: "psycopg.Connection[Any]", collection: Collection) -> None:
        if connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'vector'").fetchone() is None:
            try:
                with connection.transaction():
                    connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            except psycopg.Error as error:
                raise RagvecError(f"{self.name} needs pgvector: run CREATE EXTENSION vector ({self._said(error)})") from None
        connection.execute(self._sql(_CREATE, dimension=sql.Literal(collection.dimension)))
        self._describe(connection, collection)

    def _build_indices(self, connection: "psycopg.Connection[Any]", collection: Collection) -> None:
        connection.execute(self._sql("CREATE INDEX ON {table} (doc_id)"))
        connection.execute(self._sql("CREATE INDEX ON {table} USING gin (filter_values jsonb_path_ops)"))
        if collection.dimension <= MOST_INDEXED:
            connection.execute(self._sql("CREATE INDEX ON {table} USING hnsw (embedding halfvec_ip_ops)"))

    def _bring_in(
        self, connection: "psycopg.Connection[Any]", blocks: Iterable[tuple[list[Passage], np.ndarray]], *, keep: bool
    ) -> int:
        """Copy into a table of the session's, then replace: what comes twice in the blocks is refused by its passage_id."""
        connection.execute("DROP TABLE IF EXISTS pg_temp.ragvec_incoming")
        connection.execute(self._sql("CREATE TEMP TABLE ragvec_incoming (LIKE {table}) ON COMMIT DROP"))
        connection.execute("ALTER TABLE pg_temp.ragvec_incoming ALTER COLUMN id DROP NOT NULL")
        connection.execute("ALTER TABLE pg_temp.ragvec_incoming DROP COLUMN id")
        connection.execute("ALTER TABLE pg_temp.ragvec_incoming ADD COLUMN place bigint GENERATED ALWAYS AS IDENTITY")
        loaded = 0
        with connection.cursor() as cursor, cursor.copy(f"COPY pg_temp.ragvec_incoming ({_COLUMNS}) FROM STDIN") as copy:
            for passages, vectors in blocks:
                for passage, vector in zip(passages, vectors, strict=True):
                    copy.write_row(_row(passage, vector))
                loaded += len(passages)
        connection.execute("ANALYZE pg_temp.ragvec_incoming")
        connection.execute(self._sql(_REMOVE_CHANGED, columns=sql.SQL(_COLUMNS), keep=sql.Literal(keep)))
        columns = sql.SQL(_COLUMNS)
        inserting = (
            "INSERT INTO {table} ({columns}) SELECT {columns} FROM pg_temp.ragvec_incoming AS come "
            "WHERE NOT EXISTS (SELECT FROM {table} AS had WHERE had.doc_id = come.doc_id) ORDER BY place"
        )
        try:
            connection.execute(self._sql(inserting, columns=columns))
        except psycopg.errors.UniqueViolation as error:
            twice = error.diag.message_detail or "a passage id"
            raise WrongInput(f"{self.name}: {twice} Ids must be unique: another document has this passage") from None
        return loaded


class PostgresReader:
    """Reads a table in one snapshot."""

    def __init__(self, connection: "psycopg.Connection[Any]", table: sql.Identifier) -> None:
        self._connection = connection
        self._table = table

    def search(self, vector: np.ndarray, k: int, where: Filter | None) -> SearchResult:
        """The k nearest by pgvector's HNSW index, which goes on until so many meet the filter; exactly where it gives up."""
        look = str(min(max(k, LEAST_LOOK), MOST_LOOK))
        for name, value in (("hnsw.iterative_scan", "strict_order"), ("hnsw.ef_search", look), ("enable_indexscan", "on")):
            self._set(name, value)
        found = self._nearest(vector, k, where)
        if len(found) < k:  # fewer meet the filter, or the scan has ended before they were found
            self._set("enable_indexscan", "off")
            found = self._nearest(vector, k, where)
        ids = np.array([row[0] for row in found], dtype=np.int64)
        return SearchResult(np.array([[-row[1] for row in found]], dtype=np.float32), ids[None])

    def _set(self, name: str, value: str) -> None:
        self._connection.execute("SELECT set_config(%s, %s, true)", [name, value])

    def _nearest(self, vector: np.ndarray, k: int, where: Filter | None) -> list[Any]:
        condition, values = ("true", []) if where is None else where_sql(where)
        text = f"[{','.join(map(repr, np.asarray(vector, np.float32).tolist()))}]"
        statement = sql.SQL(
            "SELECT id, embedding <#> %s::halfvec FROM {table} WHERE embedding IS NOT NULL AND {condition} "
            "ORDER BY embedding <#> %s::halfvec LIMIT %s"
        ).format(table=self._table, condition=_trusted(condition))
        return list(self._connection.execute(statement, [text, *values, text, k]))

    def fetch(self, ids: Sequence[int]) -> dict[int, Row]:
        """Rows by id."""
        statement = sql.SQL(
            "SELECT id, passage_id, doc_id, text, title, metadata, embedding::real[] FROM {table} WHERE id = ANY(%s)"
        ).format(table=self._table)
        with self._connection.cursor(binary=True) as cursor:
            rows = cursor.execute(statement, [list(ids)]).fetchall()
        width = next((len(row[6]) for row in rows if row[6] is not None), 0)
        return {row[0]: Row(_passage(row[1:6]), _vector(row[6], width)) for row in rows}

    def document(self, doc_id: str) -> list[Passage]:
        """A document's passages in their order."""
        statement = sql.SQL("SELECT passage_id, doc_id, text, title, metadata FROM {table} WHERE doc_id = %s ORDER BY id")
        return [_passage(row) for row in self._connection.execute(statement.format(table=self._table), [doc_id]).fetchall()]

    def ids(self) -> np.ndarray:
        """The ids of all passages that have a vector."""
        statement = sql.SQL("SELECT id FROM {table} WHERE embedding IS NOT NULL ORDER BY id").format(table=self._table)
        return np.fromiter((row[0] for row in self._connection.execute(statement)), dtype=np.int64)

    def count(self) -> dict[str, Any]:
        """How many documents and passages there are, and their bytes, indices included."""
        named = self._table.as_string(self._connection)
        statement = sql.SQL("SELECT count(DISTINCT doc_id), count(*), pg_total_relation_size(to_regclass(%s)) FROM {table}")
        [row] = self._connection.execute(statement.format(table=self._table), [named]).fetchall()
        return dict(zip(("documents", "passages", "bytes"), row, strict=True))


def _close_all(connections: "list[psycopg.Connection[Any]]") -> None:
    while connections:
        connections.pop().close()


def _trusted(condition: str) -> sql.SQL:
    """A condition that `where_sql` has made: of signs and words of its own, whatever the filter holds."""
    return sql.SQL(condition)


def _row(passage: Passage, vector: np.ndarray) -> tuple[Any, ...]:
    """A passage as COPY takes it; an empty text is near no query and has no vector."""
    half = np.asarray(vector, dtype=np.float16)
    embedding = None if passage.is_empty else f"[{','.join(map(str, half.tolist()))}]"
    values = json.dumps(values_of(passage))
    return passage.passage_id, passage.doc_id, passage.title, passage.text, passage.metadata_json, values, embedding


def _passage(row: Sequence[Any]) -> Passage:
    passage_id, doc_id, text, title, metadata = row
    return Passage(passage_id, doc_id, text, title=title, metadata=json.loads(metadata))


def _vector(values: Sequence[float] | None, width: int) -> np.ndarray:
    return np.zeros(width, dtype=np.float32) if values is None else np.array(values, dtype=np.float32)
