"""The files of a corpus, as they are found in a folder or in object storage."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ragvec.corpus.kinds import format_of

QUARANTINE_SUFFIX = ".quarantine.jsonl"  # of what an earlier run could not read: passed over in a folder
_OPEN_MARK = "~$"  # before the name of a document that is open in Office
_BEIR_CORPUS, _BEIR_QUERIES = "corpus", "queries"


class CorpusFiles(NamedTuple):
    """The files of a corpus in reading order, the folder their names count from, and what was passed over in it.

    within    the folder that they must still lie in when they are opened; None where the one file was named itself
    skipped   hold no documents that ragvec reads
    outside   lead out of the folder, or are no files: links, pipes, devices
    """

    paths: list[Path]
    root: Path
    within: Path | None = None
    skipped: Sequence[Path] = ()
    outside: Sequence[Path] = ()


def is_hidden(name: str) -> bool:
    """Whether a file of a folder is passed over in silence: hidden, ragvec's quarantine, a mark of Office's."""
    return name.startswith((".", _OPEN_MARK)) or name.endswith(QUARANTINE_SUFFIX)


def beir_corpus(files: list[Path]) -> Path | None:
    """A BEIR folder's corpus, if these are the files of one."""
    stems = {path.name.split(".")[0]: path for path in files if format_of(path) in ("jsonl", "parquet")}
    return stems.get(_BEIR_CORPUS) if _BEIR_QUERIES in stems else None
