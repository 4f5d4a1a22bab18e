"""Document ids: claimed once, made from the content where a source has none."""

import hashlib
import re
from reprlib import repr as short
from typing import Any

import numpy as np

from ragvec.errors import RagvecError, WrongInput, WrongUsage

FILE = "{file}"  # in a prefix: the file, from the corpus' folder
_RECENT_IDS = 1 << 16
_PLACE = re.compile(r"\{\w*\}")


class SameId(WrongInput):
    """An id that another document of the corpus has: no fault of the one file that it stands in."""


class Ids:
    """The ids seen so far, as 8-byte hashes with the number of their file: 12 bytes a document, so 50 million fit in 600 MB."""

    def __init__(self, prefix: str = "", made_prefix: str = "") -> None:
        """prefix: what stands before every id; made_prefix: after it, before those that are made.

        In prefix {file} is the file that a row stands in. A file that is one document is called by its name already: its id
        ends there. Raises WrongUsage for a NUL in prefix, and for other names in braces.
        """
        if "\0" in prefix:
            raise WrongUsage("`id_prefix` holds a NUL character")
        if unknown := [place for place in _PLACE.findall(prefix) if place != FILE]:
            raise WrongUsage(f"`id_prefix` {prefix!r} holds {unknown[0]}: only {FILE} stands for something, the file of a row")
        self._template, self._made_prefix = prefix, made_prefix
        self._prefix, self._own = prefix, ""
        self._files: list[str] = [""]
        self._recent: dict[int, int] = {}
        self._older, self._older_files = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int32)
        self._repeats: dict[str, int] = {}

    def begin(self, file: str, name: str = "", *, whole: bool = False) -> None:
        """From here on ids are those of this file.

        file   as messages call it; name: as ids do, "" for a stream; whole: it is one document, whose id is its name
        Raises WrongUsage for a stream if the prefix has a place for files.
        """
        if FILE in self._template and not name:
            raise WrongUsage(f"{file} is no file: leave {FILE} out of `id_prefix`")
        self._files.append(file)
        self._prefix = self._template.replace(FILE, name)
        self._own = self._made_prefix + name if whole and FILE in self._template else ""

    def claim(self, given: Any, title: str, text: str, place: str) -> str:
        """The document's id as a string, made from title and text if none is given. Raises RagvecError for one seen before."""
        if given is None or given == "":
            return self._made(title, text)
        if isinstance(given, bool) or not isinstance(given, (str, int)):
            raise RagvecError(f"{place}: the id must be a string or an integer, not {short(given):.40}")
        doc_id = f"{self._template.partition(FILE)[0] if given == self._own else self._prefix}{given}"
        if (first := self._add(doc_id)) is not None:
            raise SameId(f"{place}: the id {short(doc_id)} was used before{self._remedy(self._files[first])}")
        return doc_id

    def _remedy(self, first: str) -> str:
        """Which file has an id already, and what to do."""
        unique = "ids must be unique in a corpus: name a field whose values differ (`id_field`)"
        if first == self._files[-1]:
            return f": {unique}"
        return f", in {first}: {unique}, or put each row's file before its id (`id_prefix` '{FILE}/')"

    def _made(self, title: str, text: str) -> str:
        content = f"{title}\0{text}".encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(content, digest_size=8).hexdigest()
        made = doc_id = f"{self._prefix}{self._made_prefix}{digest}"
        while self._add(doc_id) is not None:  # the same text again
            self._repeats[made] = self._repeats.get(made, 1) + 1
            doc_id = f"{made}-{self._repeats[made]}"
        return doc_id

    def _add(self, doc_id: str) -> int | None:
        """Keep an id; the number of the file that has it already, if one has."""
        key = hash(doc_id)
        if (first := self._recent.get(key)) is not None:
            return first
        place = int(np.searchsorted(self._older, key))
        if place < len(self._older) and self._older[place] == key:
            return int(self._older_files[place])
        self._recent[key] = len(self._files) - 1
        if len(self._recent) >= _RECENT_IDS:
            self._settle()
        return None

    def _settle(self) -> None:
        count = len(self._recent)
        keys = np.concatenate([self._older, np.fromiter(self._recent, np.int64, count)])
        files = np.concatenate([self._older_files, np.fromiter(self._recent.values(), np.int32, count)])
        order = np.argsort(keys, kind="stable")
        self._older, self._older_files = keys[order], files[order]
        self._recent.clear()
