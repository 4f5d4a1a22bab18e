"""The rows of training files, and what the plan is to say of them: columns that nobody reads, rows left out."""

import difflib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ragvec.corpus.files import corpus_files
from ragvec.corpus.kinds import SPLITS_FILE, format_of
from ragvec.corpus.readers import file_rows
from ragvec.corpus.remarks import Remarks
from ragvec.corpus.rows import BadRow, Row
from ragvec.errors import RagvecError
from ragvec.train.recipe import Recipe

_MOST_NAMES = 1000  # columns and sets of columns that are remembered: rows may name as many as they like
TRAIN_SPLIT = "train"
_NAMED = 8  # in the plan


class Columns(NamedTuple):
    """What is read of a row with certain columns: those used, and the names that it would be well to find there, too."""

    used: frozenset[str]
    missed: tuple[str, ...] = ()


class Reading:
    """How training files are read, and what was found: pass it to every reader of a run.

    skip     a row that can't be used is left out and counted, instead of stopping the run
    skipped  how many were left out; first: what was wrong with the first of them
    prompts  rows brought instructions of their own
    """

    def __init__(self, *, skip: bool = False) -> None:
        self.skip = skip
        self.skipped, self.first = 0, ""
        self.prompts = False
        self._unread: dict[str, str] = {}  # a column, and what it may have been meant to be called
        self._remarks = Remarks()
        self._known: set[tuple[str, ...]] = set()

    @contextmanager
    def row(self) -> Iterator[None]:
        """Around what is made of one row: an error leaves the row out, where rows may be."""
        try:
            yield
        except RagvecError as error:
            if not self.skip:
                raise
            self.skipped += 1
            self.first = self.first or str(error)

    def rows(self, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every row of a file with its place ("pairs.jsonl, line 17"); each non-empty line of a text file is a row.

        Raises RagvecError, with the place, for a row that can't be read and may not be left out.
        """
        for place, row in _raw_rows(path, self._remarks):
            if not isinstance(row, BadRow):
                yield place, row
                continue
            with self.row():
                raise RagvecError(row.error)

    def close(self) -> None:
        """All files were read: say of how many was not told what of the first was."""
        self._remarks.close()

    def note(self, row: dict[str, Any], columns: Callable[[Sequence[str]], Columns]) -> None:
        """Remember which columns of a row are not read; columns: what is read of those with a value."""
        names = tuple(name for name, value in row.items() if value is not None)
        if names in self._known or len(self._known) > _MOST_NAMES:
            return
        self._known.add(names)
        read = columns(names)
        for name in names:
            if name not in read.used and len(self._unread) < _MOST_NAMES:
                near = difflib.get_close_matches(name, read.missed, n=1, cutoff=0.7)
                self._unread.setdefault(name, near[0] if near else "")

    @property
    def unread(self) -> list[str]:
        """The columns that no row was read with, quoted, each with the name that it may have been meant to have."""
        named = [f"{name!r:.60}" + (f" (did you mean {near!r}?)" if near else "") for name, near in self._unread.items()]
        return named if len(named) <= _NAMED else [*named[:_NAMED], f"and {len(named) - _NAMED:,} more"]


def reading_of(recipe: Recipe) -> Reading:
    """How a recipe has its files read."""
    return Reading(skip=recipe.on_error == "skip")


def training_paths(files: Sequence[str]) -> Iterator[Path]:
    """The files that are meant, those of folders included; of data sets that `datasets` saved in splits, the one to train on.

    Raises RagvecError for a file or folder that is not there, and a saved data set without a split of that name.
    """
    for name in files:
        path = Path(name).expanduser()
        if (path / SPLITS_FILE).exists():
            if not (path / TRAIN_SPLIT).is_dir():
                raise RagvecError(f"{path} has no split {TRAIN_SPLIT}: name the folder of the split to train on")
            path /= TRAIN_SPLIT
        yield from corpus_files(path).paths


def _raw_rows(path: Path, remarks: Remarks) -> Iterator[Row]:
    kind = format_of(path)
    if kind in (None, "converted"):
        raise RagvecError(f"{path} is no training data: use JSON, JSONL, CSV, TSV, TXT, Markdown, Parquet or Arrow")
    quoted = kind != "tsv" or _quotes_enclose(path, remarks)
    return file_rows(path, str(path), path.name, text_lines=True, quoted=quoted, remarks=remarks)


def _quotes_enclose(path: Path, remarks: Remarks) -> bool:
    """Whether double quotes in a TSV enclose fields, as in CSV: read so, every row has the header's fields.

    In STS tables and their like a quote is a character of the text, and a field may begin with one that nothing closes.
    """
    try:
        return not any(isinstance(row, BadRow) for _, row in file_rows(path, str(path), path.name, remarks=remarks))
    except RagvecError:
        return False
