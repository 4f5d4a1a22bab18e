"""Where documents come from: the corpora that are indexed, their ids' prefixes, the files that give documents."""

import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ragvec.corpus import Rejected
from ragvec.corpus.spelling import decomposed
from ragvec.errors import NoDocuments
from ragvec.records import Document

BY_HAND = 0  # the source of documents that were added through Python or HTTP; NULL = from before format 4, so not known
BY_HAND_NAME = "Python or HTTP"
UNKNOWN_NAME = "an earlier ragvec, which kept no sources"
_SHOWN = 3


class DocumentSource(NamedTuple):
    """A corpus that documents come from.

    name         its path, made absolute, or what it was called instead
    id_prefix    stands before each of its ids, see `Ids`
    made_prefix  stands after that, before the ids that ragvec makes of a file's name or of a document's content
    """

    name: str
    id_prefix: str = ""
    made_prefix: str = ""


@dataclass
class Incoming:
    """A source while its documents come by.

    root      the folder that names of its files count from; None = it is no folder of files
    takes     whether a file of this name is wanted; what is not is gone
    files     those that gave documents
    rejected  rows and files that could not be read, but for files that give no document at all; first: where one of them is
    empty     why it holds no document at all, though other sources that came with it do
    """

    source: DocumentSource
    root: Path | None = None
    files: set[str] = field(default_factory=set)
    rejected: int = 0
    first: str = ""
    empty: str = ""
    takes: Callable[[str], bool] = lambda name: True

    def note_unread(self, unread: Rejected) -> None:
        """Count what could not be read of a file of which the rest was, and folders: nobody knows what they hold."""
        if unread.partial or unread.folder:
            self.note_rejected(unread)

    def note_rejected(self, rejected: Rejected) -> None:
        """Count a row or file that could not be read."""
        self.rejected += 1
        self.first = self.first or rejected.place

    def noting_empty(self, documents: Iterator[Document]) -> Iterator[Document]:
        """The documents; that there are none is noted, so that other sources go on."""
        try:
            yield from documents
        except NoDocuments as error:
            self.empty = str(error)

    def former_id(self, doc_id: str) -> str | None:
        """The id that an earlier ragvec gave this document if a Mac spelled its file's name: decomposed; None = no other."""
        rest = doc_id.removeprefix(self.source.id_prefix)
        made = self.source.made_prefix
        if rest.isascii() or not rest.startswith(made):
            return None
        name = rest.removeprefix(made)
        there = {name, decomposed(name)} & self.files
        both = len(there) > 1  # two files, with an id each
        if both or decomposed(rest) == rest or (not there and decomposed(made) == made):
            return None
        return self.source.id_prefix + decomposed(rest)

    def doubts(self, before: Collection[str]) -> list[str]:
        """Why documents that don't come by may still be in the source; empty if they are gone for certain.

        before  the files that gave documents until now. One that is there but gives none (emptied, half written, not readable
                here), or whose folder is empty (a disk that is not mounted), is not gone.
        """
        if self.empty:
            return [f"{self.empty}; if its documents are to go, `ragvec delete` removes them by id or filter"]
        if self.rejected:
            what, first = ("1 row or file", "") if self.rejected == 1 else (f"{self.rejected:,} rows or files", "the first: ")
            remedy = f" ({first}{self.first}): mend what is there or take it out, and do the same again" if self.first else ""
            return [f"{what} of {self.source.name} could not be read{remedy}"]
        silent: dict[str, None] = {}
        if self.root is not None:
            for path in (self.root / name for name in sorted(set(before) - self.files) if self.takes(name)):
                if os.path.lexists(path):
                    silent[f"{path} is there but gave no document: mend or remove it"] = None
                elif empty := _empty_folder_above(path, self.root):
                    silent[f"{empty} is empty: remove it if its documents are to go"] = None
        shown = list(silent)[:_SHOWN]
        return [*shown, f"{len(silent) - _SHOWN:,} more files or folders gave none"] if len(silent) > _SHOWN else shown


def _empty_folder_above(path: Path, root: Path) -> Path | None:
    """The folder that held a file which is gone, if there is nothing else in it."""
    for folder in path.parents:
        if folder.is_dir():
            return None if any(folder.iterdir()) else folder
        if folder == root:
            return None
    return None
