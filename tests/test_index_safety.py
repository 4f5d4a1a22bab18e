"""An index folder from a stranger: no link leads out of it, nothing of the user's is removed, nothing runs on our writes."""

import fcntl
import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from ragvec.cli.main import main
from ragvec.doctor import FAILED, examine
from ragvec.errors import Busy, Damaged, WrongInput
from ragvec.files import open_lock, replacing, replacing_folder
from ragvec.index import Index
from ragvec.index.layout import LOCK_NAME, SERVER_LOCK_NAME
from ragvec.index.lock import writer_lock
from ragvec.records import Passage
from ragvec.serve.advert import ADVERT_NAME, Advert, advertised, find_server
from tests.test_index import SETTINGS, found, passages_named, put, unit_vectors


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An index of nine passages, in a folder of its own."""
    folder = tmp_path / "h" / "idx"
    with Index.create_with(folder, SETTINGS) as index:
        put(index, passages_named(range(9)), unit_vectors(9))
    return folder


def run(words: list[str], capsys: pytest.CaptureFixture) -> tuple[int, str]:
    """Exit code and stderr of a command."""
    with pytest.raises(SystemExit) as end:
        main(words)
    return end.value.code, capsys.readouterr().err


def sql(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path / "index.sqlite", isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def refused(path: Path, message: str) -> None:
    """Both reading and writing raise Damaged with this message, in one line."""
    for use in (lambda: found(Index.open(path), unit_vectors(1), 1), lambda: Index.open(path).delete(["1"])):
        with pytest.raises(Damaged, match=message) as error:
            use()
        assert "\n" not in str(error.value)


def test_a_link_in_place_of_segments_deletes_nothing(path: Path, capsys: pytest.CaptureFixture) -> None:
    key = path.parent / ".ssh" / "id"
    key.parent.mkdir()
    key.write_text("k")
    shutil.rmtree(path / "segments")
    (path / "segments").symlink_to("..")
    for words in (["delete", "1"], ["search", "x", "--mode", "lexical"], ["compact"]):
        code, said = run([*words, "-i", str(path)], capsys)
        assert code == 1
        assert said.startswith(f"error: {path / 'segments'} is a link, where ragvec keeps a folder of its own")
        assert said.count("\n") == 1
    assert key.read_text() == "k"


@pytest.mark.parametrize(
    "name",
    [
        "index.sqlite",
        "index.sqlite-wal",
        "index.sqlite-journal",
        "segments",
        "words",
        "words.new",
        "encoding",
        "writer.lock",
        "server.lock",
    ],
)
def test_every_file_and_folder_of_an_index_must_be_a_real_one(path: Path, tmp_path: Path, name: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    if (path / name).exists():
        (path / name).rename(elsewhere)
    elif name == "encoding":
        elsewhere.mkdir()
    else:
        elsewhere.write_bytes(b"")
    (path / name).symlink_to(elsewhere)
    refused(path, f"{name} is a link, where ragvec keeps a (regular file|folder) of its own")
    assert elsewhere.exists()


@pytest.mark.parametrize("name", ["index.sqlite-wal", "index.sqlite-shm", "index.sqlite-journal", "index.sqlite.new"])
def test_what_sqlite_writes_beside_its_file_is_no_hard_link(path: Path, tmp_path: Path, name: str) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"years of work")
    (path / name).hardlink_to(precious)
    refused(path, rf"{name} is a hard link, and its other name would be written to, too")
    assert precious.read_bytes() == b"years of work"


def test_an_index_that_shares_its_file_with_a_backup_is_read_and_not_written(path: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup.sqlite"
    backup.hardlink_to(path / "index.sqlite")
    before = backup.read_bytes()
    assert found(Index.open(path), unit_vectors(1), 1)
    with pytest.raises(Damaged, match=r"index\.sqlite is a hard link"):
        Index.open(path).delete(["1"])
    assert backup.read_bytes() == before
    shutil.copy(path / "index.sqlite", path / "copy")
    (path / "copy").rename(path / "index.sqlite")
    assert Index.open(path).delete(["1"]) == 1 and backup.read_bytes() == before


@pytest.mark.parametrize("name", ["0001", "0001/vectors.f16", "0001/ids.i64"])
def test_segments_and_their_files_must_be_real_ones(path: Path, tmp_path: Path, name: str) -> None:
    (path / "segments" / name).rename(tmp_path / "elsewhere")
    (path / "segments" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Damaged, match=f"{name} is a link"):
        found(Index.open(path), unit_vectors(1), 1)


def test_an_index_may_be_reached_by_a_link(path: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(path)
    with Index.open(tmp_path / "link") as index:
        assert index.delete(["1"]) == 1
        assert len(index) == 8


def test_the_sweep_removes_only_what_ragvec_makes(path: Path, tmp_path: Path) -> None:
    segments = path / "segments"
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "vectors.f16").write_text("precious")
    for name in ("0007", "0008", "notes", "12"):
        (segments / name).mkdir()
    (segments / "0007" / "vectors.f16").write_bytes(b"a dead writer's")
    (segments / "0008" / "thesis.tex").write_text("years of work")
    (segments / "0008" / "ids.i64").write_bytes(b"a dead writer's")
    (segments / "0009").symlink_to(tmp_path / "photos")
    (segments / "0010").write_text("a file")
    with Index.open(path) as index:
        index.delete(["1"])
    assert sorted(str(entry.relative_to(segments)) for entry in segments.rglob("*") if "0001" not in str(entry)) == [
        "0008", "0008/thesis.tex", "0009", "0010", "12", "notes"
    ]  # fmt: skip
    assert (tmp_path / "photos" / "vectors.f16").read_text() == "precious"


def test_a_new_segment_goes_into_no_folder_of_anothers(path: Path) -> None:
    (path / "segments" / "0002").mkdir()
    (path / "segments" / "0002" / "thesis.tex").write_text("years of work")
    with Index.open(path) as index, pytest.raises(Damaged, match="0002 holds what ragvec did not write there"):
        put(index, passages_named(range(9, 12)), unit_vectors(3))
    assert (path / "segments" / "0002" / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("name", [LOCK_NAME, SERVER_LOCK_NAME])
@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_lock_that_is_a_link_empties_nothing(path: Path, tmp_path: Path, name: str, link) -> None:
    precious = tmp_path / "precious"
    precious.write_text('{"years of": "work"}')
    (path / name).unlink(missing_ok=True)
    link(precious, path / name)
    with advertised(path, Advert(1, "127.0.0.1", 1, False, "00")) as worked:
        assert worked is (name == LOCK_NAME or link is os.link)  # a second name is left to its owner, and a new file made
    assert find_server(path) is None
    if name == LOCK_NAME:
        with pytest.raises(Damaged, match="writer.lock (is a link|holds something that ragvec did not write)"):
            Index.open(path).delete(["1"])
    assert precious.read_text() == '{"years of": "work"}'


@pytest.mark.parametrize("name", [LOCK_NAME, SERVER_LOCK_NAME])
def test_a_pipe_as_lock_does_not_hang(path: Path, name: str) -> None:
    (path / name).unlink(missing_ok=True)
    os.mkfifo(path / name)
    with pytest.raises(Damaged, match=f"{name} is something else, where ragvec keeps a regular file"):
        open_lock(path / name)
    assert find_server(path) is None
    with advertised(path, Advert(1, "127.0.0.1", 1, False, "00")) as worked:
        assert worked is (name != SERVER_LOCK_NAME)
    refused(path, f"{name} is something else")


def test_a_lock_with_other_words_is_left_alone(path: Path) -> None:
    (path / LOCK_NAME).write_text("my shopping list")
    with pytest.raises(Damaged, match="writer.lock holds something that ragvec did not write there: move it away"):
        Index.open(path).delete(["1"])
    assert (path / LOCK_NAME).read_text() == "my shopping list"


def test_a_lock_says_who_holds_it_and_is_empty_afterwards(path: Path) -> None:
    with writer_lock(path):
        assert json.loads((path / LOCK_NAME).read_text())["pid"] == os.getpid()
        with pytest.raises(Busy, match=f"being written by process {os.getpid()} on "), writer_lock(path):
            pass
    assert (path / LOCK_NAME).read_text() == ""
    with open_lock(path / LOCK_NAME) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_name_that_is_kept_twice_is_one() -> None:
    assert ADVERT_NAME == SERVER_LOCK_NAME


def test_a_journal_that_names_a_file_does_not_remove_it(path: Path, tmp_path: Path) -> None:
    """SQLite removes the file that a journal of many databases names, wherever it is, once it has rolled back."""
    precious = tmp_path / "precious"
    precious.write_text("years of work")
    database = path / "index.sqlite"
    page = 4096
    name = str(precious).encode()
    checksum = sum(name) & 0xFFFFFFFF
    magic = bytes.fromhex("d9d505f920a163d7")
    size = database.stat().st_size // page
    header = magic + b"".join(n.to_bytes(4, "big") for n in (0, 0, size, 512, page))
    lock_page = (0x40000000 // page + 1).to_bytes(4, "big")
    tail = lock_page + name + len(name).to_bytes(4, "big") + checksum.to_bytes(4, "big") + magic
    (path / "index.sqlite-journal").write_bytes(header.ljust(512, b"\0") + tail)
    refused(path, "index.sqlite-journal was not left by ragvec")
    assert precious.read_text() == "years of work"
    with closing(sqlite3.connect(database)) as connection:  # what would have happened
        connection.execute("SELECT * FROM settings").fetchall()
    assert not precious.exists()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("CREATE TRIGGER t AFTER DELETE ON passages BEGIN DELETE FROM segments; END", "holds a trigger 't'"),
        ("CREATE VIEW extra AS SELECT 1", "holds a view 'extra'"),
        ("CREATE TABLE extra (a)", "table or index 'extra' is not as ragvec makes it"),
        ("DROP TABLE tombstones", "table or index 'tombstones' is not"),
        ("ALTER TABLE passages ADD COLUMN more AS (hex(zeroblob(1000000000)))", "table or index 'passages' is not"),
    ],
)
def test_tables_that_ragvec_did_not_make_are_refused(path: Path, statement: str, message: str) -> None:
    sql(path, statement)
    refused(path, message)
    with closing(sqlite3.connect(path / "index.sqlite")) as connection:
        assert connection.execute("SELECT count(*) FROM segments").fetchone() == (1,)


def test_a_view_in_place_of_the_settings_is_never_asked(path: Path) -> None:
    endless = (
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT 'format' AS key, x AS value FROM c WHERE x < 0"
    )
    sql(path, "ALTER TABLE settings RENAME TO other", f"CREATE VIEW settings AS {endless}")
    refused(path, "holds a view 'settings', which ragvec does not make")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("dimension", "-3", "setting dimension is -3, outside 1 … 1048576"),
        ("dimension", "1000000000", "setting dimension is 1000000000, outside 1 … 1048576"),
        ("dimension", '"24"', "setting dimension is '24', not a whole number"),
        ("dimension", "24.5", "setting dimension is 24.5, not a whole number"),
        ("dimension", "12", "segment 1: vectors.f16 has 432 bytes, not 216 for 9 rows of 12 dimensions"),
        ("normalized", "1", "setting normalized is 1, not true or false"),
        ("recall_target", '"high"', "setting recall_target is 'high', not a number"),
        ("recall_target", "-0.5", "setting recall_target is -0.5, outside"),
        ("query_instruction", "5", "setting query_instruction is 5, not a text"),
        ("encoder_source", "null", "setting encoder_source is None, not a text"),
        ("encoder_options", "[]", r"setting encoder_options is \[\], not an object"),
        ("encoder_options", '{"source": "x"}', "encoder_options has 'source', which no encoder takes"),
        ("encoder_options", '{"max_length": 1.5}', "setting max_length is 1.5, not a whole number"),
        ("passage_tokens", "-1", "setting passage_tokens is -1, outside 1 …"),
        ("overlap", "true", "setting overlap is True, not a whole number"),
        ("max_memory", '"2GB"', "setting max_memory is '2GB', not a whole number"),
        ("generation", '"later"', "setting generation is no number"),
        ("format", '"3"', "setting format is '3', not a whole number"),
        ("fingerprint", "{", "setting fingerprint: "),
        ("fingerprint", "[" * 100_000, "setting fingerprint: "),
    ],
)
def test_a_setting_of_another_type_is_one_line(path: Path, key: str, value: str, message: str) -> None:
    with closing(sqlite3.connect(path / "index.sqlite", isolation_level=None)) as connection:
        connection.execute("UPDATE settings SET value = ? WHERE key = ?", (value, key))
    refused(path, message)


FILES = json.dumps({"vectors.f16": {"bytes": 432, "sha256": ""}, "ids.i64": {"bytes": 72, "sha256": ""}})


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("rows", -1, "segment 1: rows is -1, outside 1"),
        ("rows", "many", "segment 1: rows is 'many', not a whole number"),
        ("rows", 10**9, "segment 1: vectors.f16 has 432 bytes, not 48000000000 for 1000000000 rows"),
        ("recall", "good", "segment 1: recall is 'good', not a number"),
        ("faiss_key", b"\xff", r"segment 1: faiss_key is b'\\xff', not a text"),
        ("files", "[]", "segment 1: files is "),
        ("files", "no json", "segment 1: "),
        (
            "files",
            FILES.replace("ids.i64", "../../../precious"),
            r"segment 1: files are \['../../../precious', 'vectors.f16'\]",
        ),
        ("files", FILES.replace("72", '"72"'), "segment 1: bytes is '72', not a whole number"),
    ],
)
def test_a_segment_record_of_another_type_is_one_line(path: Path, column: str, value, message: str) -> None:
    with closing(sqlite3.connect(path / "index.sqlite", isolation_level=None)) as connection:
        connection.execute(f"UPDATE segments SET {column} = ?", (value,))
    refused(path, message)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE passages SET metadata = '[1]'", "metadata of passage '0' is no JSON object"),
        ("UPDATE passages SET metadata = '{'", "metadata of passage '0': "),
        ("UPDATE passages SET title = x'00'", "passage '0' holds a value that is no text"),
        ("UPDATE passages SET id = id + 100", "passage 1 is missing"),
        ("DELETE FROM passages", "passage 1 is missing"),
    ],
)
def test_passages_that_are_not_as_they_were_stored_are_one_line(path: Path, statement: str, message: str) -> None:
    sql(path, statement)
    with Index.open(path) as index, pytest.raises(Damaged, match=message), index.reading() as view:
        view.passages(index.search(unit_vectors(1), 1).ids[0].tolist())


@pytest.mark.parametrize("change", ["content_hash = 'abc'", "title = 5"])
def test_a_change_to_passages_of_other_types_is_one_line(path: Path, change: str) -> None:
    sql(path, f"UPDATE passages SET {change}")
    with Index.open(path) as index:
        if change != "title = 5":  # SQLite makes a text of it
            with pytest.raises(Damaged, match="holds a value of another type"):
                index.delete(["1"])
        assert "differ from what was added" in next(c for c in examine(path) if c.name == "texts").found


def test_ids_beyond_reason_make_no_table_of_all_below_them(path: Path) -> None:
    sql(path, f"UPDATE passages SET id = {2**62} + id")
    with Index.open(path) as index, index.reading() as view:
        assert view.search_lexical("text", 5, allowed=view.matching('name = "3"')) == []
        assert view.search_lexical("text", 5, allowed=np.array([-5, 2**62])) == []


def test_half_a_surrogate_pair_is_one_line(path: Path) -> None:
    with Index.open(path) as index:
        for use in (
            lambda: index.delete(["\udcff"]),
            lambda: index.delete_where('name = "\udcff"'),
            lambda: index.documents_where('name = "\udcff"'),
            lambda: put(index, [Passage("x", "x", "\udcff")], unit_vectors(1)),
            lambda: put(index, [Passage("\udcff", "\udcff", "x")], unit_vectors(1)),
        ):
            with pytest.raises(WrongInput, match="is no (valid )?Unicode"):
                use()
        assert len(index) == 9


def test_doctor_names_a_hostile_index_in_one_line(path: Path) -> None:
    sql(path, "CREATE TRIGGER t AFTER DELETE ON passages BEGIN DELETE FROM segments; END")
    failed = [check for check in examine(path) if check.state == FAILED and check.area == "index"]
    assert ["holds a trigger" in check.found for check in failed] == [True]


def test_a_temporary_file_is_never_written_through_a_link(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("years of work")
    (tmp_path / f"file.{os.getpid()}.tmp").symlink_to(precious)
    with replacing(tmp_path / "file", "w") as file:
        file.write("new")
    assert (precious.read_text(), (tmp_path / "file").read_text()) == ("years of work", "new")


def test_a_folder_that_is_replaced_may_be_reached_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "old").write_text("old")
    (tmp_path / "link").symlink_to("real")
    with replacing_folder(tmp_path / "link") as folder:
        (folder / "new").write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert [entry.name for entry in (tmp_path / "real").iterdir()] == ["new"]


def test_a_flipped_bit_in_the_words_is_found_before_tantivy_reads_them(path: Path) -> None:
    for file in sorted((path / "words").iterdir()):
        whole = file.read_bytes()
        file.write_bytes(bytes([whole[0] ^ 0x80]) + whole[1:])
        with Index.open(path) as index, pytest.raises(Damaged, match=f"{file} is damaged: restore the index"):
            len(index)
        file.write_bytes(whole)
    file.write_bytes(whole[:-1])
    with Index.open(path) as index, pytest.raises(Damaged, match=f"{file} has {len(whole) - 1} bytes, not {len(whole)}"):
        len(index)
