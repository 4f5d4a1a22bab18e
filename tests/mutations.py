"""Random damage to folders of indices and encoders: what uses them works or says one line, ends, and touches nothing else.

python -m tests.mutations index|encoder FOLDER FIRST COUNT     prints a line for each seed that did otherwise
"""

import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from ragvec.errors import RagvecError

PATIENCE_S = 60
VALUES = [
    None,
    True,
    -1,
    0,
    1.5,
    2**31,
    10**9,
    2**62,
    -(2**63),
    10**30,
    "",
    "8",
    "x" * 300,
    "../..",
    "/etc/passwd",
    "a\0b",
    [],
    {},
    [1],
    {"a": 1},
]
STORED = [
    None,
    -1,
    0,
    1.5,
    2**31,
    10**9,
    2**62,
    -(2**63),
    "",
    "8",
    "x" * 300,
    "../..",
    b"",
    b"\xff\xfe",
    "[]",
    "{}",
    "[1]",
    '"1"',
    "1.5",
    "[" * 50000,
]
STATEMENTS = [
    "CREATE TRIGGER t AFTER DELETE ON passages BEGIN DELETE FROM segments; END",
    "CREATE VIEW v AS SELECT 1",
    "CREATE TABLE extra (a)",
    "DROP TABLE tombstones",
    "DELETE FROM settings WHERE key = 'dimension'",
    "DELETE FROM passages",
    "DELETE FROM segments",
    "DELETE FROM settings WHERE key = 'words'",
    "UPDATE settings SET value = '{}' WHERE key = 'words'",
    "UPDATE settings SET value = replace(value, '.pos', '.idx') WHERE key = 'words'",
    "UPDATE settings SET value = replace(value, '-', '/') WHERE key = 'words'",
    "INSERT INTO tombstones VALUES (-5)",
    "INSERT INTO segments SELECT number + 1, rows, faiss_key, search_parameters, recall, files, created FROM segments",
    "PRAGMA user_version = 7",
]  # fmt: skip


class Hang(BaseException):
    """A use that took longer than PATIENCE_S."""


def damage(folder: Path, outside: Path, chance: random.Random) -> str:
    """Change something in a folder; says what."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = chance.choice(files)
    ways: list[Callable] = [_flip, _flip, _cut, _swap, _place]
    if path.suffix == ".json":
        ways += [_retype] * 8
    if path.suffix == ".sqlite":
        ways += [_update] * 6 + [_execute] * 3
    way = chance.choice(ways)
    return f"{way.__name__} {path.relative_to(folder)}: {way(path, folder, outside, chance)}"


def _flip(path: Path, folder: Path, outside: Path, chance: random.Random) -> str:
    data = bytearray(path.read_bytes())
    places = [chance.randrange(max(len(data), 1)) for _ in range(chance.choice([1, 1, 4, 64]))]
    for place in places if data else ():
        data[place] ^= 1 << chance.randrange(8)
    path.write_bytes(bytes(data))
    return f"{places[:4]}"


def _cut(path: Path, folder: Path, outside: Path, chance: random.Random) -> str:
    data = path.read_bytes()
    size = chance.randrange(len(data) + 1)
    path.write_bytes(data[:size] if chance.random() < 0.7 else data + data[:size])
    return f"{len(data)} bytes at {size}"


def _swap(path: Path, folder: Path, outside: Path, chance: random.Random) -> str:
    data = bytearray(path.read_bytes())
    one, other = (chance.randrange(max(len(data) - 16, 1)) for _ in range(2))
    data[one : one + 16], data[other : other + 16] = data[other : other + 16], data[one : one + 16]
    path.write_bytes(bytes(data))
    return f"{one} and {other}"


def _place(path: Path, folder: Path, outside: Path, chance: random.Random) -> str:
    """Something else under a name that is or could be there."""
    names = [
        "index.sqlite-wal",
        "index.sqlite-journal",
        "writer.lock",
        "server.lock",
        "encoding",
        "segments/0009",
        "tokenizer.model",
    ]
    target = chance.choice([path, path, path.parent, folder / chance.choice(names)])
    if target == folder:
        target = path
    kind = chance.choice(
        ["link to a file", "link to a folder", "link to nothing", "link to itself", "pipe", "folder", "nothing"]
    )
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    target.unlink(missing_ok=True)
    if not target.parent.is_dir():
        return "no parent"
    if kind == "pipe":
        os.mkfifo(target)
    elif kind == "folder":
        target.mkdir()
        (target / "thesis.tex").write_text("years of work")
    elif kind != "nothing":
        ends = {"link to a file": outside / "precious", "link to a folder": outside, "link to nothing": outside / "none"}
        target.symlink_to(ends.get(kind, target.name))
    return f"{kind} at {target.relative_to(folder)}"


def _retype(path: Path, folder: Path, outside: Path, chance: random.Random) -> str:
    value = json.loads(path.read_bytes())
    places: list[tuple[dict | list, str | int]] = []
    stack = [value]
    while stack:
        one = stack.pop()
        keys = list(one) if isinstance(one, dict) else list(range(len(one)))
        places += [(one, key) for key in keys]
        stack += [one[key] for key in keys if isinstance(one[key], (dict, list))]
    if not places or chance.random() < 0.1:
        path.write_text(json.dumps(chance.choice(VALUES)))
        return "whole"
    top = [place for place in places if place[0] is value]
    holder, key = chance.choice(top if chance.random() < 0.7 else places)
    holder[key] = chance.choice(VALUES)
    path.write_text(json.dumps(value))
    return f"{key} = {holder[key]!r:.60}"


def _update(path: Path, folder: Path, outside: Path, chance: random.Random) -> str:
    value = chance.choice(STORED)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection, suppress(sqlite3.Error, OverflowError):
        table = chance.choice(["settings", "settings", "segments", "passages", "tombstones", "fields"])
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        column = chance.choice(columns)
        row = chance.choice(connection.execute(f"SELECT {columns[0]} FROM {table}").fetchall() or [(0,)])
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE {columns[0]} = ?", (value, row[0]))
        return f"{table}.{column} of {row[0]!r} = {value!r:.60}"
    return "refused"


def _execute(path: Path, folder: Path, outside: Path, chance: random.Random) -> str:
    statement = chance.choice(STATEMENTS)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection, suppress(sqlite3.Error):
        connection.execute(statement)
    return statement


def use_index(folder: Path) -> None:
    """Everything that reads an index, then what writes it."""
    from ragvec.doctor.index import examine_index
    from ragvec.doctor.info import describe
    from ragvec.index import Index
    from tests.test_index import passages_named, put, unit_vectors

    def read() -> None:
        with Index.open(folder) as index, index.reading() as view:
            found = view.search(unit_vectors(2), 5)
            view.passages(found.ids[0].tolist())
            view.doc_ids([number for number, _ in view.search_lexical("text of 3", 5)])
            allowed = view.matching('name = "3"')
            view.search(unit_vectors(1), 3, allowed=allowed)
            view.search_lexical("text", 3, allowed=allowed)
            view.vectors(found.ids[0].tolist())

    def change() -> None:
        with Index.open(folder) as index:
            index.delete(["3"])
            index.delete_where('name = "4"')
            put(index, passages_named(range(2000, 2003)), unit_vectors(3))

    def compact() -> None:
        with Index.open(folder) as index:
            index.compact(faiss_key="exact")

    for use in (read, lambda: describe(folder), lambda: list(examine_index(folder, offline=True)), change, read, compact, read):
        _one_line(use)


def use_encoder(folder: Path) -> None:
    """Describe, load and encode."""
    from ragvec.doctor.info import describe
    from ragvec.encoder import Encoder

    def encode() -> None:
        encoder = Encoder.load(folder, device="cpu", dtype="float32", offline=True)
        encoder.encode_queries(["how do plants make food?"])
        encoder.encode_documents(["서울은 대한민국의 수도이다. " * 30, ""])

    for use in (lambda: describe(folder), encode):
        _one_line(use)


USES = {"index": use_index, "encoder": use_encoder}


def _one_line(use: Callable[[], object]) -> None:
    try:
        use()
    except RagvecError as error:
        assert "\n" not in str(error), f"more than one line: {error}"


def _hang(*_: object) -> None:
    raise Hang


def _state(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(f"{path.relative_to(folder)}\0{path.read_bytes() if path.is_file() else ''}\0".encode())
    return digest.hexdigest()


def try_seed(kind: str, folder: Path, seed: int, work: Path) -> str:
    """What went wrong with a seed's damage; "" = nothing."""
    case, outside = work / "case", work / "outside"
    shutil.rmtree(case, ignore_errors=True)
    shutil.copytree(folder, case)
    outside.mkdir(exist_ok=True)
    (outside / "precious").write_text('{"years of": "work"}')
    before = _state(outside)
    what = "nothing yet"
    signal.setitimer(signal.ITIMER_REAL, PATIENCE_S)
    try:
        what = damage(case, outside, random.Random(f"{kind} {seed}"))
        USES[kind](case)
    except BaseException:
        return f"{what}\n{traceback.format_exc()}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return "" if _state(outside) == before else f"{what}: changed a file outside"


def main(kind: str, folder: str, first: str, count: str) -> None:
    """Try so many seeds; exit code 1 if one went wrong."""
    import logging
    import warnings

    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _hang)
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="ragvec-mutations-") as work:
        shutil.copytree(folder, Path(work) / "case")
        USES[kind](Path(work) / "case")  # undamaged, and without an alarm: libraries load here
        for seed in range(int(first), int(first) + int(count)):
            print(f"seed {seed}", file=sys.stderr, flush=True)
            if said := try_seed(kind, Path(folder), seed, Path(work)):
                wrong += 1
                print(f"seed {seed}: {said}", flush=True)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main(*sys.argv[1:])
