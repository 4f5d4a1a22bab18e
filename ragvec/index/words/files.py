"""The files of tantivy's that hold the words, told by the index's own record of them rather than by what lies in the folder.

tantivy keeps its list of files in the folder and follows it, also when it removes. Here it never sees the folder: it works in
one of its own, which links to the files that a commit's record names. So a reader sees its commit and no other, a writer's
files count for nothing before the index's transaction names them, and a list that someone else wrote is never followed.
"""

import json
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ragvec.checked import Mismatch, check_fields, check_range
from ragvec.errors import Damaged
from ragvec.files import is_own_file, sha256_file

if TYPE_CHECKING:
    import tantivy

WORDS, TITLE, ID = "words", "title", "id"  # the fields of a passage: the words of title and text, and the title's alone
TOKENIZER = "ragvec"
_META = "meta.json"
_SUFFIXES = ("term", "idx", "pos", "fast", "fieldnorm", "store")
_NAME = re.compile(rf"[0-9a-f]{{32}}\.(?:{'|'.join(_SUFFIXES)}|[0-9]{{1,20}}\.del)")
_SEGMENT = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_UUID_PARTS = ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))
_MOST_PASSAGES = 2**32
_TRIES, _PAUSE_S = 20, 0.01  # tantivy's watcher, on its way out, may still be making a lock there


class Deletes(NamedTuple):
    """Passages of a segment that are gone, and the number in the name of the file that says which."""

    num_deleted_docs: int
    opstamp: int


class WordSegment(NamedTuple):
    """A part of the words, as tantivy's meta.json has it."""

    segment_id: str
    max_doc: int
    deletes: Deletes | None

    @property
    def names(self) -> list[str]:
        """Its files."""
        stem = self.segment_id.replace("-", "")
        gone = [] if self.deletes is None else [f"{stem}.{self.deletes.opstamp}.del"]
        return [f"{stem}.{suffix}" for suffix in _SUFFIXES] + gone


class WordFile(NamedTuple):
    """A file as it was written."""

    bytes: int
    sha256: str


class WordsRecord(NamedTuple):
    """The words of one commit: tantivy's segments, its counter of changes, and their files by name."""

    segments: tuple[WordSegment, ...] = ()
    opstamp: int = 0
    files: dict[str, WordFile] = {}

    @property
    def deleted(self) -> int:
        """Passages that are gone and whose words are still on disk."""
        return sum(segment.deletes.num_deleted_docs for segment in self.segments if segment.deletes)


def checked_record(values: Any) -> WordsRecord:
    """A record that came out of a database anyone may have written. Raises Mismatch."""
    if not isinstance(values, dict):
        raise Mismatch("words is no record of files")
    record = WordsRecord(**check_fields(values, WordsRecord))
    check_range("words.opstamp", record.opstamp, 0, 2**62)
    for segment in record.segments:
        if not _SEGMENT.fullmatch(segment.segment_id):
            raise Mismatch(f"words.segment_id is {segment.segment_id[:60]!a}, no name of a segment")
        check_range("words.max_doc", segment.max_doc, 1, _MOST_PASSAGES)
        if segment.deletes is not None:
            check_range("words.num_deleted_docs", segment.deletes.num_deleted_docs, 0, segment.max_doc)
            check_range("words.deletes.opstamp", segment.deletes.opstamp, 0, 2**62)
    if sorted(record.files) != sorted(name for segment in record.segments for name in segment.names):
        raise Mismatch("words.files are not those of its segments")
    return record


def as_json(record: WordsRecord) -> dict[str, Any]:
    """The record as JSON values."""
    segments = [{**one._asdict(), "deletes": one.deletes and one.deletes._asdict()} for one in record.segments]
    return {"segments": segments, "opstamp": record.opstamp, "files": {name: f._asdict() for name, f in record.files.items()}}


def read_meta(folder: Path) -> tuple[tuple[WordSegment, ...], int]:
    """The segments, and the counter, of what tantivy has written into a folder of ours."""
    meta = json.loads((folder / _META).read_bytes())
    values = {"segments": meta["segments"], "opstamp": meta["opstamp"]}
    fields = check_fields(values, WordsRecord)
    return fields["segments"], fields["opstamp"]


def is_words_file(name: str) -> bool:
    """Whether a file bears the name of one of tantivy's."""
    return _NAME.fullmatch(name) is not None


def link_files(folder: Path, record: WordsRecord, place: Path) -> None:
    """Lay links to a record's files into an empty folder, with a meta.json, so that tantivy finds an index there.

    Raises Damaged for a file that is a link or of another size, FileNotFoundError for one that is gone.
    """
    for name in record.files:
        (place / name).symlink_to(_checked_file(folder, record, name))
    _write_meta(place, record)


def _checked_file(folder: Path, record: WordsRecord, name: str) -> Path:
    path = folder / name
    if not is_own_file(path):
        raise FileNotFoundError(2, "No such file", str(path))
    if (size := path.stat().st_size) != record.files[name].bytes:
        raise Damaged(
            f"{path} has {size} bytes, not {record.files[name].bytes}: restore the index, or remove it and build it again"
        )
    return path.absolute()


def link_together(places: Sequence[tuple[Path, WordsRecord]], place: Path) -> None:
    """Link the files of several indices into an empty folder, as segments of one, in their order; raises as `link_files`.

    Their segments get new names: an index and a copy of it have segments of the same names.
    """
    segments: list[WordSegment] = []
    for folder, record in places:
        for segment in record.segments:
            number = f"{len(segments) + 1:032x}"
            renamed = segment._replace(segment_id="-".join(number[start:end] for start, end in _UUID_PARTS))
            for name, told in zip(segment.names, renamed.names, strict=True):
                (place / told).symlink_to(_checked_file(folder, record, name))
            segments.append(renamed)
    _write_meta(place, WordsRecord(tuple(segments), max(record.opstamp for _, record in places)))


def _write_meta(place: Path, record: WordsRecord) -> None:
    segments = as_json(record)["segments"]
    settings = {"docstore_compression": "lz4", "docstore_blocksize": 16384}
    meta = {"index_settings": settings, "segments": segments, "schema": _SCHEMA, "opstamp": record.opstamp}
    (place / _META).write_text(json.dumps(meta), encoding="utf-8")


def check_files(folder: Path, files: Mapping[str, WordFile]) -> None:
    """Raises Damaged for a file that is not as it was written: tantivy believes what it reads, and panics."""
    for name, file in files.items():
        if sha256_file(folder / name) != file.sha256:
            raise Damaged(f"{folder / name} is damaged: restore the index, or remove it and build it again")


@contextmanager
def linked(places: Sequence[tuple[Path, WordsRecord]]) -> Iterator[Path]:
    """A private folder with links to the files of a record, or of several, for as long as it takes to open them."""
    place = Path(tempfile.mkdtemp(prefix="ragvec-words-"))
    try:
        if len(places) == 1:
            link_files(*places[0], place)
        else:
            link_together(places, place)
        yield place
    finally:
        for _ in range(_TRIES):
            shutil.rmtree(place, ignore_errors=True)
            if not place.exists():
                break
            time.sleep(_PAUSE_S)


def new_files(place: Path, segments: tuple[WordSegment, ...]) -> list[Path]:
    """The files of these segments that are no links to older ones."""
    paths = [place / name for segment in segments for name in segment.names]
    return [path for path in paths if not path.is_symlink()]


def schema() -> "tantivy.Schema":
    """The fields of a passage, as tantivy is told them."""
    import tantivy

    builder = tantivy.SchemaBuilder()
    builder.add_unsigned_field(ID, indexed=True, fast=True)
    for name in (WORDS, TITLE):
        builder.add_text_field(name, tokenizer_name=TOKENIZER)
    return builder.build()


def _text(name: str) -> dict[str, Any]:
    indexing = {"record": "position", "fieldnorms": True, "tokenizer": TOKENIZER}
    return {"name": name, "type": "text", "options": {"indexing": indexing, "stored": False, "fast": False}}


_SCHEMA = [
    {"name": ID, "type": "u64", "options": {"indexed": True, "fieldnorms": False, "fast": True, "stored": False}},
    _text(WORDS),
    _text(TITLE),
]
